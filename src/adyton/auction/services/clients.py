"""Clients of services in other processes: encrypted gRPC (protected-auction §5.5, §5.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError

from adyton.auction.errors import DownstreamError, RequestError
from adyton.auction.kv_messages import PROTO_CONTENT_TYPE
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.kv_wire import CONTENT_TYPE_KEY, frame_request, unframe_response
from adyton.auction.services.ports import (
    BiddingRawResponse,
    GetBidsRawResponse,
    Metadata,
    ScoreAdsRawResponse,
)
from adyton.auction.services.status import INTERNAL_TEXT
from adyton.protocol.errors import DecryptionError, MalformedMessageError
from adyton.protocol.frames import decode_get_bids_frame
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.messages import http_body_pb2, kv_server_v2_pb2_grpc
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.ohttp import Label, encapsulate_request
from adyton.protocol.tee import seal_request

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
_T = TypeVar("_T")


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to "host:port". The payload is encrypted by this protocol itself; TLS belongs in front of a process."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


class RemoteBuyerFrontEnd:
    """A buyer's front end."""

    def __init__(self, channel: grpc.aio.Channel, keys: KeyMaterial) -> None:
        self._stub = ba_grpc.BuyerFrontEndStub(channel)  # type: ignore[no-untyped-call]
        self._keys = keys

    async def get_bids(
        self, frame: bytes, *, metadata: Metadata, timeout_s: float
    ) -> ba.GetBidsResponse.GetBidsRawResponse:
        """As BuyerFrontEndPort."""
        key = self._keys.sealing_key()
        ciphertext, context = seal_request(key, frame)
        request = ba.GetBidsRequest(request_ciphertext=ciphertext, key_id=key.decimal_id)
        response = await _called(self._stub.GetBids(request, metadata=metadata, timeout=timeout_s))
        return _opened(
            lambda: GetBidsRawResponse.FromString(
                decode_get_bids_frame(context.open_response(response.response_ciphertext))
            )
        )


class RemoteBidding:
    """The bidding service of the same party in another process."""

    def __init__(self, channel: grpc.aio.Channel, keys: KeyMaterial) -> None:
        self._stub = ba_grpc.BiddingStub(channel)  # type: ignore[no-untyped-call]
        self._keys = keys

    async def generate_bids(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        *,
        metadata: Metadata,
        timeout_s: float,
    ) -> ba.GenerateProtectedAppSignalsBidsResponse.GenerateProtectedAppSignalsBidsRawResponse:
        """As BiddingPort."""
        key = self._keys.sealing_key()
        ciphertext, context = seal_request(key, raw.SerializeToString())
        request = ba.GenerateProtectedAppSignalsBidsRequest(request_ciphertext=ciphertext, key_id=key.decimal_id)
        call = self._stub.GenerateProtectedAppSignalsBids(request, metadata=metadata, timeout=timeout_s)
        response = await _called(call)
        return _opened(lambda: BiddingRawResponse.FromString(context.open_response(response.response_ciphertext)))


class RemoteAuction:
    """The auction service of the same party in another process."""

    def __init__(self, channel: grpc.aio.Channel, keys: KeyMaterial) -> None:
        self._stub = ba_grpc.AuctionStub(channel)  # type: ignore[no-untyped-call]
        self._keys = keys

    async def score_ads(
        self, raw: ba.ScoreAdsRequest.ScoreAdsRawRequest, *, timeout_s: float
    ) -> ba.ScoreAdsResponse.ScoreAdsRawResponse:
        """As AuctionPort."""
        key = self._keys.sealing_key()
        ciphertext, context = seal_request(key, raw.SerializeToString())
        request = ba.ScoreAdsRequest(request_ciphertext=ciphertext, key_id=key.decimal_id.encode())
        response = await _called(self._stub.ScoreAds(request, timeout=timeout_s))
        return _opened(lambda: ScoreAdsRawResponse.FromString(context.open_response(response.response_ciphertext)))


class RemoteKeyValue:
    """A key/value service, called obliviously: padded and encrypted."""

    def __init__(self, channel: grpc.aio.Channel, keys: KeyMaterial) -> None:
        self._stub = kv_server_v2_pb2_grpc.KeyValueServiceStub(channel)  # type: ignore[no-untyped-call]
        self._keys = keys

    async def get_values(self, request: kv.GetValuesRequest, *, timeout_s: float) -> kv.GetValuesResponse:
        """As KeyValuePort."""
        body, context = encapsulate_request(self._keys.sealing_key(), frame_request(request), Label.KEY_VALUE)
        sealed = kv.ObliviousGetValuesRequest(
            raw_body=http_body_pb2.HttpBody(content_type=PROTO_CONTENT_TYPE, data=body)
        )
        call = self._stub.ObliviousGetValues(
            sealed, metadata=((CONTENT_TYPE_KEY, PROTO_CONTENT_TYPE),), timeout=timeout_s
        )
        response = await _called(call)
        return _opened(lambda: unframe_response(context.decapsulate_response(response.data)))


async def _called(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise DownstreamError(error.details() or INTERNAL_TEXT, code=error.code().name) from error


def _opened(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (DecryptionError, MalformedMessageError, RequestError, DecodeError) as error:
        raise DownstreamError("a service's answer cannot be read", code="INTERNAL") from error
