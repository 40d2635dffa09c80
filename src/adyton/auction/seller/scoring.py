"""Scoring the bids of one auction (protected-auction §7.4, §8.4). Rules only: the scripts are run by the service."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import orjson

from adyton.auction.currency import UNKNOWN_CURRENCY
from adyton.auction.errors import RequestError, ScriptError
from adyton.auction.json_text import EMPTY_OBJECT, EMPTY_STRING, dump
from adyton.auction.json_values import JsonValue, from_value
from adyton.kernel.chance import RandomSource, randbelow
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.sandbox.values import UdfArgument

ScoreAdsRawRequest = ba.ScoreAdsRequest.ScoreAdsRawRequest
Bid = ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata
AdScore = ba.ScoreAdsResponse.AdScore

REJECTION_REASONS: Mapping[str, int] = MappingProxyType(
    {
        "invalid-bid": ba.INVALID_BID,
        "bid-below-auction-floor": ba.BID_BELOW_AUCTION_FLOOR,
        "pending-approval-by-exchange": ba.PENDING_APPROVAL_BY_EXCHANGE,
        "disapproved-by-exchange": ba.DISAPPROVED_BY_EXCHANGE,
        "blocked-by-publisher": ba.BLOCKED_BY_PUBLISHER,
        "language-exclusions": ba.LANGUAGE_EXCLUSIONS,
        "category-exclusions": ba.CATEGORY_EXCLUSIONS,
    }
)
_T = TypeVar("_T")
_MAX_FLOAT32 = 3.4028234663852886e38


@dataclass(frozen=True)
class ScoreReply:
    """What `scoreAd` said about one ad. Numbers are finite; `rejection_reason` is 0 if it named none."""

    desirability: float
    allow_component_auction: bool = False
    incoming_bid_in_seller_currency: float = 0.0
    bid: float = 0.0
    bid_currency: str = ""
    ad_metadata: str = ""
    rejection_reason: int = ba.SELLER_REJECTION_REASON_NOT_AVAILABLE


@dataclass(frozen=True)
class ScoredBid:
    """A bid and what became of it. It can win only with a positive desirability and no rejection reason."""

    bid: ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata
    reply: ScoreReply
    rejection_reason: int

    @property
    def can_win(self) -> bool:
        return self.rejection_reason == ba.SELLER_REJECTION_REASON_NOT_AVAILABLE and self.reply.desirability > 0


@dataclass(frozen=True)
class Outcome:
    """The decision of one auction.

    highest_scoring_other_bid: the bid with the second score in the currency of the auction; 0 if there is none.
    made_highest_scoring_other_bid: True if only the winner's own buyer holds that second score.
    """

    winner: ScoredBid
    highest_scoring_other_bid: float
    made_highest_scoring_other_bid: bool
    other_bids_of_owner: Mapping[str, tuple[float, ...]]
    rejected: tuple[ScoredBid, ...]


def read_scoring_signals(text: str) -> Mapping[str, JsonValue] | None:
    """The values by render URL of `{"renderUrls": {...}}`, or None if there are no scoring signals at all.

    Raises RequestError if the text is not that JSON.
    """
    if not text:
        return None
    try:
        by_url = orjson.loads(text)["renderUrls"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise RequestError("Malformed trusted scoring signals") from error
    if not isinstance(by_url, dict):
        raise RequestError("Malformed trusted scoring signals")
    return by_url


def bids_to_score(
    bids: Iterable[ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata],
    signals: Mapping[str, JsonValue] | None,
    *,
    is_signal_required: bool,
) -> tuple[ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata, ...]:
    """The first bid of each render URL; those without scoring signals are left out where signals are required."""
    first: dict[str, ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata] = {}
    for bid in bids:
        if is_signal_required and (signals is None or bid.render not in signals):
            continue
        first.setdefault(bid.render, bid)
    return tuple(first.values())


def auction_config_argument(seller_signals: str, auction_signals: str) -> bytes:
    """`{"auctionSignals": ..., "sellerSignals": ...}` with the configured texts as JSON; "" where one is empty."""
    auction = auction_signals.encode() or EMPTY_STRING
    seller = seller_signals.encode() or EMPTY_STRING
    return b'{"auctionSignals":' + auction + b',"sellerSignals":' + seller + b"}"


def score_ad_arguments(
    raw: ba.ScoreAdsRequest.ScoreAdsRawRequest,
    bid: ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata,
    signals: Mapping[str, JsonValue] | None,
    auction_config: bytes,
) -> tuple[UdfArgument, ...]:
    """The six arguments of `scoreAd` (§8.4)."""
    browser_signals: dict[str, object] = {
        "interestGroupOwner": bid.owner,
        "topWindowHostname": raw.publisher_hostname,
        "bidCurrency": bid.bid_currency or UNKNOWN_CURRENCY,
    }
    if raw.seller_data_version > 0:
        browser_signals["dataVersion"] = raw.seller_data_version
    if raw.top_level_seller:
        browser_signals["topLevelSeller"] = raw.top_level_seller
    browser_signals["renderUrl"] = bid.render
    trusted = None
    if signals is not None and bid.render in signals:
        trusted = {"renderUrl": {bid.render: signals[bid.render]}}
    return (
        _ad_metadata(bid),
        dump(bid.bid),
        auction_config,
        dump(trusted),
        dump(browser_signals),
        EMPTY_OBJECT,
    )


def parse_score(reply_json: bytes) -> ScoreReply:
    """What `scoreAd` returned: a number, or an object with a desirability.

    Raises ScriptError for anything else and for numbers that are not finite.
    """
    try:
        reply = orjson.loads(reply_json)
    except orjson.JSONDecodeError as error:
        raise ScriptError("scoreAd returned no JSON") from error
    if not isinstance(reply, dict):
        return ScoreReply(_number(reply, "desirability"))
    reason_text = reply.get("rejectReason") or ""
    ad = reply.get("ad")
    return ScoreReply(
        desirability=_number(reply.get("desirability", 0), "desirability"),
        allow_component_auction=_typed(reply.get("allowComponentAuction", False), bool, "allowComponentAuction"),
        incoming_bid_in_seller_currency=_number(
            reply.get("incomingBidInSellerCurrency", 0), "incomingBidInSellerCurrency"
        ),
        bid=_number(reply.get("bid", 0), "bid"),
        bid_currency=_typed(reply.get("bidCurrency", ""), str, "bidCurrency"),
        ad_metadata="" if ad is None else ad if isinstance(ad, str) else orjson.dumps(ad).decode(),
        rejection_reason=REJECTION_REASONS.get(
            _typed(reason_text, str, "rejectReason"), ba.SELLER_REJECTION_REASON_NOT_AVAILABLE
        ),
    )


def judge(
    bid: ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata,
    reply: ScoreReply,
    *,
    seller_currency: str,
) -> ScoredBid:
    """The bid with the reason why it cannot win, if there is one."""
    reason = reply.rejection_reason
    is_in_seller_currency = bool(seller_currency) and bid.bid_currency == seller_currency
    changed = reply.incoming_bid_in_seller_currency
    if reason == ba.SELLER_REJECTION_REASON_NOT_AVAILABLE:
        if is_in_seller_currency and changed > 0 and not math.isclose(changed, bid.bid, rel_tol=1e-6):
            reason = ba.INVALID_BID
        elif reply.bid > 0 and reply.bid_currency and seller_currency and reply.bid_currency != seller_currency:
            reason = ba.BID_FROM_SCORE_AD_FAILED_CURRENCY_CHECK
    return ScoredBid(bid, reply, reason)


def decide(scored: Sequence[ScoredBid], *, seller_currency: str, source: RandomSource) -> Outcome | None:
    """The outcome, or None if no bid can win. Ties for the first and second place are broken uniformly at random."""
    able = [s for s in scored if s.can_win]
    rejected = tuple(s for s in scored if s.rejection_reason != ba.SELLER_REJECTION_REASON_NOT_AVAILABLE)
    if not able:
        return None
    best = max(s.reply.desirability for s in able)
    winner = _draw([s for s in able if s.reply.desirability == best], source)
    others = [s for s in able if s is not winner]
    if not others:
        return Outcome(winner, 0.0, False, MappingProxyType({}), rejected)
    second = max(s.reply.desirability for s in others)
    runners_up = [s for s in others if s.reply.desirability == second]
    of_owner: dict[str, tuple[float, ...]] = {}
    for runner_up in runners_up:
        owner = runner_up.bid.owner
        of_owner[owner] = (*of_owner.get(owner, ()), _comparable_bid(runner_up, seller_currency))
    return Outcome(
        winner=winner,
        highest_scoring_other_bid=_comparable_bid(_draw(runners_up, source), seller_currency),
        made_highest_scoring_other_bid=set(of_owner) == {winner.bid.owner},
        other_bids_of_owner=MappingProxyType(of_owner),
        rejected=rejected,
    )


def build_ad_score(outcome: Outcome, seller: str) -> ba.ScoreAdsResponse.AdScore:
    """The winner as the seller front end reads it; reporting URLs are added by the caller."""
    bid, reply = outcome.winner.bid, outcome.winner.reply
    score = AdScore(
        desirability=reply.desirability,
        render=bid.render,
        buyer_bid=bid.bid,
        buyer_bid_currency=bid.bid_currency,
        interest_group_owner=bid.owner,
        ad_metadata=reply.ad_metadata,
        allow_component_auction=reply.allow_component_auction,
        incoming_bid_in_seller_currency=reply.incoming_bid_in_seller_currency,
        bid_currency=reply.bid_currency,
        ad_type=ba.AD_TYPE_PROTECTED_APP_SIGNALS_AD,
        seller=seller,
    )
    if reply.bid > 0:
        score.bid = reply.bid
    for owner, values in outcome.other_bids_of_owner.items():
        score.ig_owner_highest_scoring_other_bids_map[owner].extend(values)
    for rejected in outcome.rejected:
        score.ad_rejection_reasons.add(
            interest_group_owner=rejected.bid.owner,
            rejection_reason=ba.SellerRejectionReason.ValueType(rejected.rejection_reason),
        )
    return score


def _comparable_bid(scored: ScoredBid, seller_currency: str) -> float:
    """The bid in the auction's own currency, where the seller named one and its script converted the bid."""
    if seller_currency and scored.bid.bid_currency != seller_currency:
        return scored.reply.incoming_bid_in_seller_currency
    return scored.bid.bid


def _draw(candidates: Sequence[ScoredBid], source: RandomSource) -> ScoredBid:
    return candidates[0] if len(candidates) == 1 else candidates[randbelow(source, len(candidates))]


def _ad_metadata(bid: ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata) -> bytes:
    if bid.ad.WhichOneof("kind") == "string_value":
        return bid.ad.string_value.encode() or EMPTY_STRING
    return dump(from_value(bid.ad))


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScriptError(f"scoreAd returned a {name} that is no number")
    if not -_MAX_FLOAT32 <= value <= _MAX_FLOAT32:
        raise ScriptError(f"scoreAd returned a {name} that is not finite")
    return float(value)


def _typed(value: object, wanted: type[_T], name: str) -> _T:
    if not isinstance(value, wanted):
        raise ScriptError(f"scoreAd returned a {name} of the wrong type")
    return value
