"""What a watcher of the seller's connections sees of chaff, version 2, and of a replayed ciphertext."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import grpc

from adyton.auction.config import parse_config
from adyton.auction.services.process import PartyProcess
from adyton.protocol.frames import decode_get_bids_frame, encode_get_bids_frame
from adyton.protocol.keys import KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.tee import open_request

ONE, TWO = "buyer1.example", "buyer2.example"
ENCRYPTION_BYTES = 32 + 16


class RecordingBuyer(ba_grpc.BuyerFrontEndServicer):
    """A buyer's front end that bids nothing and remembers what a watcher sees, and what it was told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.chaff: list[bool] = []

    async def GetBids(self, request: ba.GetBidsRequest, context: grpc.aio.ServicerContext) -> ba.GetBidsResponse:
        plaintext, sealed = open_request(KeyRing.test_mode(), request.request_ciphertext, request.key_id)
        raw = ba.GetBidsRequest.GetBidsRawRequest.FromString(decode_get_bids_frame(plaintext))
        self.sizes.append(len(request.request_ciphertext))
        self.chaff.append(raw.is_chaff)
        return ba.GetBidsResponse(response_ciphertext=sealed.seal_response(encode_get_bids_frame(b"", gzip=True)))


def test_until_its_window_is_full_version_two_makes_real_and_chaff_equally_long(
    tmp_path: Path, parts: ModuleType
) -> None:
    with_chaff = next(
        str(n) for n in range(10_000) if parts.plans_chaff(str(n), real=(ONE,), candidates=(TWO,), n_configured=2)
    )

    async def scenario() -> None:
        parts.write_files(tmp_path)
        buyers, servers, addresses = {ONE: RecordingBuyer(), TWO: RecordingBuyer()}, [], {}
        for name, buyer in buyers.items():
            server = grpc.aio.server()
            ba_grpc.add_BuyerFrontEndServicer_to_server(buyer, server)
            addresses[name] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            servers.append(server)
        document = parts.seller_document(
            tmp_path, addresses, enable_chaffing=False, enable_chaffing_v2=True, enable_buyer_caching=True
        )
        async with (
            PartyProcess(parse_config(document)) as seller,
            grpc.aio.insecure_channel(seller.addresses.grpc) as channel,
        ):
            ciphertext, _ = parts.encrypt(parts.client_input({ONE: b"\x07"}, generation_id=with_chaff))
            stub = ba_grpc.SellerFrontEndStub(channel)
            for named in ((ONE, TWO), (ONE,), (TWO, ONE)):
                await stub.SelectAd(parts.select_ad_request(ciphertext, buyers=named), timeout=30)
        for server in servers:
            await server.stop(None)

        # The ad server named another set in the second call; the buyers that are called stay the same.
        assert buyers[ONE].chaff == [False] * 3
        assert buyers[TWO].chaff == [True] * 3
        assert {*buyers[ONE].sizes, *buyers[TWO].sizes} == {100_000 + ENCRYPTION_BYTES}

    asyncio.run(scenario())
