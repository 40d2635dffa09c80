"""A buyer's bidding as its front end sees it: versions, limits, channels and failures (protected-auction §7.3)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from adyton.auction.config import parse_config
from adyton.auction.errors import DownstreamError
from adyton.auction.services.clients import RemoteBidding
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.ports import BiddingRawRequest, BiddingRawResponse
from adyton.auction.services.process import PartyProcess

Ask = Callable[..., Awaitable[BiddingRawResponse]]
PREPARE = "function prepareDataForAdRetrieval(signals) {{ return {{ version: {0}, first: signals[0] }}; }}"
RETRIEVAL = "function HandleRequest(metadata, prepared, device, buyerSignals, ids) { return JSON.parse(prepared); }"
BID = """
function generateBid(ads, auctionSignals, buyerSignals, prepared, signals, version, limit, metadata) {
  const payload = JSON.stringify({ features: [{ name: 'boolean-feature', value: true }] });
  const one = { bid: ads.version, render: 'https://r/', ad: { prepared, limit, metadata },
    egressPayload: payload, temporaryUnlimitedEgressPayload: payload };
  if (auctionSignals.mode === 'throw') throw new Error('no');
  if (auctionSignals.mode === 'unknown member') return { ...one, modelingSignals: 1 };
  if (auctionSignals.mode === 'loop') for (;;) {}
  return Array.from({ length: auctionSignals.n || 1 }, () => one);
}
"""


def schema(version: int) -> str:
    return json.dumps({"cddl_version": "1.0.0", "version": version, "features": [{"name": "boolean-feature"}]})


def write(folder: Path, **files: str) -> dict[str, str]:
    for name, text in files.items():
        (folder / name).write_text(text)
    return {name: str(folder / name) for name in files}


def with_bidding(folder: Path, work: Callable[[Ask], Awaitable[None]], **options: object) -> None:
    """Run `work` with a function that asks the bidding service of a process of its own."""
    places = write(
        folder, p1=PREPARE.format(1), p2=PREPARE.format(2), bid=BID, kv=RETRIEVAL,
        s1=schema(1), s2=schema(2), s3=schema(3), s4=schema(4),
    )  # fmt: skip
    (folder / "ads").mkdir()
    bidding: dict[str, object] = {
        "generate_bid": places["bid"],
        "prepare_data": {"default": places["p1"], "versions": {"second": places["p2"]}},
        "egress_schema": {"default": places["s1"], "versions": {"other": places["s2"]}},
        "temporary_unlimited_egress_schema": {"default": places["s3"], "versions": {"other": places["s4"]}},
        "limited_egress_bits": 1,
        "noise_rate": 0,
        "udf_timeout_ms": 1500,
        **options,
    }
    document: dict[str, object] = {
        "name": "buyer.example",
        "test_mode": True,
        "sandbox": {"spares": 0, "workers_per_udf": 1},
        "bidding": bidding,
    }
    if "retrieval_address" not in options:
        document["key_value"] = {"snapshot": str(folder / "ads"), "udf": places["kv"]}

    async def scenario() -> None:
        async with (
            PartyProcess(parse_config(document)) as process,
            grpc.aio.insecure_channel(process.addresses.grpc) as channel,
        ):
            remote = RemoteBidding(channel, KeyMaterial.test_mode())

            async def ask(signals: dict[str, Any] | None = None, **members: Any) -> BiddingRawResponse:
                raw = BiddingRawRequest(
                    auction_signals=json.dumps(signals or {}),
                    protected_app_signals={"app_install_signals": b"\x07", "encoding_version": 1},
                    **{"multi_bid_limit": 2, **members},
                )
                return await remote.generate_bids(raw, metadata=(), timeout_s=30)

            await work(ask)

    asyncio.run(scenario())


def test_each_script_and_schema_is_of_the_version_that_the_request_names(tmp_path: Path) -> None:
    # A boolean that is true is the byte 01; the header is the schema's version in the upper three bits.
    headers = {1: "ASA=", 2: "AUA=", 3: "AWA=", 4: "AYA="}

    async def work(ask: Ask) -> None:
        (bid,) = (await ask(enable_unlimited_egress=True)).bids
        assert (bid.bid, bid.egress_payload, bid.temporary_unlimited_egress_payload) == (1, headers[1], headers[3])
        versions = {
            "prepare_data_for_ad_retrieval_udf": "second",
            "egress_schema": "other",
            "temporary_unlimited_egress_schema": "other",
        }
        (bid,) = (await ask(enable_unlimited_egress=True, blob_versions=versions)).bids
        assert (bid.bid, bid.egress_payload, bid.temporary_unlimited_egress_payload) == (2, headers[2], headers[4])
        (bid,) = (await ask(blob_versions={"egress_schema": "none"})).bids
        assert (bid.egress_payload, bid.temporary_unlimited_egress_payload) == ("", "")
        for name in ("prepare_data_for_ad_retrieval_udf", "protected_app_signals_generate_bid_udf"):
            with pytest.raises(DownstreamError) as caught:
                await ask(blob_versions={name: "none"})
            assert caught.value.code == "INTERNAL"

    with_bidding(tmp_path, work)


def test_what_a_script_returns_or_does_costs_what_the_specification_says(tmp_path: Path) -> None:
    async def work(ask: Ask) -> None:
        assert len((await ask({"n": 2})).bids) == 2
        assert len((await ask({"n": 3})).bids) == 0
        assert len((await ask({"n": 3}, multi_bid_limit=3)).bids) == 3
        assert len((await ask({"mode": "throw"})).bids) == 0
        assert len((await ask(top_level_seller="top.example")).bids) == 0
        for mode in ("unknown member", "loop"):
            with pytest.raises(DownstreamError) as caught:
                await ask({"mode": mode, "n": 2})
            assert caught.value.code == "INTERNAL"
        (bid,) = (await ask()).bids
        told = bid.ad.struct_value.fields
        assert told["prepared"].struct_value.fields["first"].number_value == 7
        assert (told["limit"].number_value, len(told["metadata"].struct_value.fields)) == (2, 0)

    with_bidding(tmp_path, work)


def test_a_retrieval_service_that_is_away_is_internal_whatever_grpc_called_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

    async def work(ask: Ask) -> None:
        with pytest.raises(DownstreamError, match="Ad retrieval failed") as caught:
            await ask()
        assert caught.value.code == "INTERNAL"

    with_bidding(tmp_path, work, retrieval_address=address, retrieval_timeout_ms=2000)
