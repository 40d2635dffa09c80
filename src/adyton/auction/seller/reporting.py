"""Arguments of the reporting scripts and the URLs that come out (protected-auction §8.5 to §8.7, §13).

The order is fixed: `reportResult` of the seller, then `reportWin` of the winning buyer, which sees what the seller's
returned. The device sends the URLs; the services never call them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adyton.auction.currency import UNKNOWN_CURRENCY
from adyton.auction.json_text import EMPTY_OBJECT, configured_json, dump
from adyton.auction.seller.scoring import Outcome
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.sandbox.values import UdfArgument, UdfEffects

NULL = b"null"
Rounding = Callable[[float], float]
"""Stochastic rounding of §8.7, or the identity where noising is switched off."""


@dataclass(frozen=True)
class ReportingFacts:
    """What both scripts are told about the outcome. `bid`, `desirability` and `ad_cost` are already rounded."""

    publisher_hostname: str
    owner: str
    render_url: str
    bid: float
    bid_currency: str
    desirability: float
    highest_scoring_other_bid: float
    highest_scoring_other_bid_currency: str
    made_highest_scoring_other_bid: bool
    seller: str
    ad_cost: float
    seller_data_version: int
    egress_payload: str
    temporary_unlimited_egress_payload: str


def reporting_facts(
    raw: ba.ScoreAdsRequest.ScoreAdsRawRequest, outcome: Outcome, *, rounded: Rounding
) -> ReportingFacts:
    """The facts of one outcome; `bid`, `desirability` and `ad_cost` pass through `rounded`."""
    bid = outcome.winner.bid
    return ReportingFacts(
        publisher_hostname=raw.publisher_hostname,
        owner=bid.owner,
        render_url=bid.render,
        bid=rounded(bid.bid),
        bid_currency=bid.bid_currency or UNKNOWN_CURRENCY,
        desirability=rounded(outcome.winner.reply.desirability),
        highest_scoring_other_bid=outcome.highest_scoring_other_bid,
        highest_scoring_other_bid_currency=raw.seller_currency or UNKNOWN_CURRENCY,
        made_highest_scoring_other_bid=outcome.made_highest_scoring_other_bid,
        seller=raw.seller,
        ad_cost=rounded(bid.ad_cost),
        seller_data_version=raw.seller_data_version,
        egress_payload=bid.egress_payload,
        temporary_unlimited_egress_payload=bid.temporary_unlimited_egress_payload,
    )


def report_result_arguments(auction_config: bytes, facts: ReportingFacts) -> tuple[UdfArgument, ...]:
    """The three arguments of `reportResult` (§8.5)."""
    signals = _shared_signals(facts) | {"desirability": facts.desirability}
    if facts.seller_data_version > 0:
        signals["dataVersion"] = facts.seller_data_version
    return (auction_config, dump(signals), EMPTY_OBJECT)


def report_win_arguments(
    *, auction_signals: str, per_buyer_signals: str, signals_for_winner: bytes, facts: ReportingFacts
) -> tuple[UdfArgument, ...]:
    """The seven arguments of `reportWin` (§8.6). `signals_for_winner`: JSON text of what `reportResult` returned."""
    signals = _shared_signals(facts) | {
        "madeHighestScoringOtherBid": facts.made_highest_scoring_other_bid,
        "seller": facts.seller,
        "adCost": facts.ad_cost,
        "interestGroupName": "",
        "kAnonStatus": "notCalculated",
    }
    return (
        configured_json(auction_signals),
        configured_json(per_buyer_signals),
        signals_for_winner,
        dump(signals),
        EMPTY_OBJECT,
        dump(facts.egress_payload),
        dump(facts.temporary_unlimited_egress_payload),
    )


def win_reporting_urls(*, seller: UdfEffects | None, buyer: UdfEffects | None) -> ba.WinReportingUrls:
    """The URLs of a single-seller auction; the component seller's stay empty (§13)."""
    urls = ba.WinReportingUrls()
    for effects, target in ((seller, urls.top_level_seller_reporting_urls), (buyer, urls.buyer_reporting_urls)):
        if effects is not None:
            target.reporting_url = effects.report_url or ""
            for event, url in effects.beacons.items():
                target.interaction_reporting_urls[event] = url
    return urls


def _shared_signals(facts: ReportingFacts) -> dict[str, object]:
    return {
        "topWindowHostname": facts.publisher_hostname,
        "interestGroupOwner": facts.owner,
        "renderURL": facts.render_url,
        "renderUrl": facts.render_url,
        "bid": facts.bid,
        "bidCurrency": facts.bid_currency,
        "highestScoringOtherBid": facts.highest_scoring_other_bid,
        "highestScoringOtherBidCurrency": facts.highest_scoring_other_bid_currency,
    }
