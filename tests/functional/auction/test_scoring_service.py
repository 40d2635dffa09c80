"""A seller's scoring as its front end sees it: versions, failing scripts, the URLs of both sides (§8.4 to §8.6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest

from adyton.auction.config import parse_config
from adyton.auction.errors import DownstreamError
from adyton.auction.json_values import to_value
from adyton.auction.services.clients import RemoteAuction
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.ports import ScoreAdsRawRequest
from adyton.auction.services.process import PartyProcess
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

BUYER = "buyer.example"
Ask = Callable[..., Awaitable[ba.ScoreAdsResponse.AdScore]]
SELLER = """
function scoreAd(ad, bid, config, trusted, browser) {
  if (ad.does === 'throw') throw new Error('no');
  if (ad.does === 'text') return 'high';
  return { desirability: bid * VERSION, ad: ad };
}
function reportResult(config, signals) {
  const does = config.sellerSignals.reportResult;
  sendReportTo('https://seller.example/r?v=VERSION&d=' + signals.desirability);
  registerAdBeacon({ click: 'https://seller.example/c' });
  if (does === 'throw') throw new Error('after its URL');
  if (does === 'twice') sendReportTo('https://seller.example/second');
  if (does === 'nothing') return undefined;
  return { told: 'winner' };
}
"""
REPORT_WIN = """
function reportWin(auctionSignals, perBuyerSignals, signalsForWinner, signals, direct, egress, unlimited) {
  const told = { perBuyerSignals, signalsForWinner, direct, egress, unlimited, cost: signals.adCost };
  sendReportTo('https://buyer.example/w?told=' + encodeURIComponent(JSON.stringify(told)));
  registerAdBeacon({ click: 'https://buyer.example/c' });
  if (auctionSignals.reportWin === 'throw') throw new Error('after its URL');
  if (auctionSignals.reportWin === 'beacons twice') registerAdBeacon({ view: 'https://buyer.example/v' });
  if (auctionSignals.reportWin === 'loop') for (;;) {}
}
"""


def ad(name: str, bid: float, **metadata: object) -> dict[str, Any]:
    return {
        "ad": to_value(metadata), "bid": bid, "render": f"https://{name}/", "owner": BUYER,
        "ad_cost": 3.0, "egress_payload": "AYJA", "temporary_unlimited_egress_payload": "Af9A",
    }  # fmt: skip


def with_auction(folder: Path, work: Callable[[Ask], Awaitable[None]]) -> None:
    """Run `work` with a function that asks the auction service of a process of its own for the winner."""
    for number in (1, 2):
        (folder / f"seller{number}.js").write_text(SELLER.replace("VERSION", str(number)))
    (folder / "win.js").write_text(REPORT_WIN)
    document = {
        "name": "seller.example",
        "test_mode": True,
        "sandbox": {"spares": 0, "workers_per_udf": 1},
        "auction": {
            "score_ad": {"default": str(folder / "seller1.js"), "versions": {"second": str(folder / "seller2.js")}},
            "report_win": {BUYER: str(folder / "win.js")},
            "enable_report_win_input_noising": False,
            "udf_timeout_ms": 1500,
        },
    }

    async def scenario() -> None:
        async with (
            PartyProcess(parse_config(document)) as process,
            grpc.aio.insecure_channel(process.addresses.grpc) as channel,
        ):
            remote = RemoteAuction(channel, KeyMaterial.test_mode())

            async def ask(
                *ads: dict[str, Any], seller: object = None, auction: object = None, version: str = ""
            ) -> Any:
                raw = ScoreAdsRawRequest(
                    seller_signals=json.dumps(seller or {}),
                    auction_signals=json.dumps(auction or {}),
                    per_buyer_signals={BUYER: '{"mine":1}', "other.example": '{"mine":2}'},
                    seller="seller.example",
                    score_ad_version=version,
                    protected_app_signals_ad_bids=ads or [ad("one", 1.5)],
                )
                return (await remote.score_ads(raw, timeout_s=30)).ad_score

            await work(ask)

    asyncio.run(scenario())


def told(score: ba.ScoreAdsResponse.AdScore) -> dict[str, Any]:
    """What reportWin was told, from its URL."""
    url = score.win_reporting_urls.buyer_reporting_urls.reporting_url
    facts: dict[str, Any] = json.loads(parse_qs(urlsplit(url).query)["told"][0])
    return facts


def test_both_reports_see_what_the_specification_says(tmp_path: Path) -> None:
    async def work(ask: Ask) -> None:
        score = await ask(ad("one", 1.5), ad("two", 2.5))
        seller = score.win_reporting_urls.top_level_seller_reporting_urls
        buyer = score.win_reporting_urls.buyer_reporting_urls
        assert (score.render, score.desirability) == ("https://two/", 2.5)
        assert seller.reporting_url == "https://seller.example/r?v=1&d=2.5"
        assert dict(seller.interaction_reporting_urls) == {"click": "https://seller.example/c"}
        assert dict(buyer.interaction_reporting_urls) == {"click": "https://buyer.example/c"}
        assert told(score) == {
            "perBuyerSignals": {"mine": 1}, "signalsForWinner": {"told": "winner"}, "direct": {}, "egress": "AYJA",
            "unlimited": "Af9A", "cost": 3,
        }  # fmt: skip
        second = await ask(version="second")
        assert second.desirability == 3
        url = second.win_reporting_urls.top_level_seller_reporting_urls.reporting_url
        assert url == "https://seller.example/r?v=2&d=3"
        with pytest.raises(DownstreamError) as caught:
            await ask(version="none")
        assert caught.value.code == "INTERNAL"

    with_auction(tmp_path, work)


def test_an_ad_whose_score_fails_is_left_out_alone(tmp_path: Path) -> None:
    async def work(ask: Ask) -> None:
        score = await ask(ad("a", 9, does="throw"), ad("b", 8, does="text"), ad("c", 1))
        assert score.render == "https://c/"
        assert not (await ask(ad("a", 9, does="throw"))).render

    with_auction(tmp_path, work)


def test_a_report_that_fails_keeps_what_it_registered_and_costs_nothing_else(tmp_path: Path) -> None:
    async def work(ask: Ask) -> None:
        for does, for_winner in (("throw", None), ("twice", None), ("nothing", None), ("", {"told": "winner"})):
            score = await ask(seller={"reportResult": does})
            seller = score.win_reporting_urls.top_level_seller_reporting_urls
            assert seller.reporting_url == "https://seller.example/r?v=1&d=1.5"
            assert dict(seller.interaction_reporting_urls) == {"click": "https://seller.example/c"}
            assert told(score)["signalsForWinner"] == for_winner
        for does in ("throw", "beacons twice"):
            buyer = (await ask(auction={"reportWin": does})).win_reporting_urls.buyer_reporting_urls
            assert buyer.reporting_url.startswith("https://buyer.example/w?")
            assert dict(buyer.interaction_reporting_urls) == {"click": "https://buyer.example/c"}
        hung = await ask(auction={"reportWin": "loop"})
        assert hung.render == "https://one/"
        assert hung.win_reporting_urls.buyer_reporting_urls.reporting_url == ""
        assert hung.win_reporting_urls.top_level_seller_reporting_urls.reporting_url

    with_auction(tmp_path, work)
