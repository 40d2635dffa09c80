"""The seller's ad server, as far as playing a device needs one: it hands the ciphertext on (protected-auction §6.4)."""

from __future__ import annotations

from pathlib import Path

import grpc
from google.protobuf import json_format

from adyton.kernel.errors import BadInputError, PeerError, UnavailableError
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as services

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


async def select_ad(address: str, ciphertext: bytes, config_path: Path) -> messages.SelectAdResponse:
    """The answer, with the encrypted result, of the seller front end at `address` (host:port).

    config_path: an AuctionConfig as proto3 JSON.   Anything but loopback is called over TLS.
    Raises BadInputError, PeerError with the front end's own text, UnavailableError.
    """
    try:
        config = json_format.Parse(config_path.read_bytes(), messages.AuctionConfig())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError("this is not an AuctionConfig in proto3 JSON", where=str(config_path)) from error
    if not address:
        raise BadInputError("the seller front end's address is empty", hint="host:port")
    request = messages.SelectAdRequest(
        auction_config=config, client_type=messages.CLIENT_TYPE_ANDROID, protected_auction_ciphertext=ciphertext
    )
    is_local = address.rpartition(":")[0] in _LOOPBACK
    channel = (
        grpc.aio.insecure_channel(address)
        if is_local
        else grpc.aio.secure_channel(address, grpc.ssl_channel_credentials())
    )
    async with channel:
        try:
            stub = services.SellerFrontEndStub(channel)  # type: ignore[no-untyped-call]
            response: messages.SelectAdResponse = await stub.SelectAd(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            text = f"the seller front end answered {error.code().name}: {error.details()}"
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise UnavailableError(text, where=address) from error
            raise PeerError(text, where=address) from error
    return response
