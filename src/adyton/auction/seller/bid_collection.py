"""What the seller front end makes of the buyers' answers (protected-auction §7.1, step 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adyton.auction.currency import is_bid_currency_allowed
from adyton.auction.errors import DownstreamError, RequestError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

Bid = ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata


@dataclass(frozen=True)
class BuyerAnswer:
    """A buyer's bids, or None where its GetBids failed."""

    bids: tuple[ba.ProtectedAppSignalsAdWithBid, ...] | None


def collect_bids(
    answers: Mapping[str, BuyerAnswer], config: ba.AuctionConfig
) -> tuple[ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata, ...]:
    """The bids to be scored, in the order of `answers`; empty means a chaff result.

    answers: every buyer that was really called.
    Raises DownstreamError "Internal server error." if every call failed, and RequestError if there were bids and all of
    them were dropped for their currency.
    """
    if answers and all(answer.bids is None for answer in answers.values()):
        raise DownstreamError("Internal server error.", code="INTERNAL")
    kept, n_dropped = [], 0
    for buyer, answer in answers.items():
        buyer_currency = config.per_buyer_config[buyer].buyer_currency if buyer in config.per_buyer_config else ""
        for bid in answer.bids or ():
            if is_bid_currency_allowed(bid.bid_currency, buyer_currency):
                kept.append(_with_owner(bid, buyer))
            else:
                n_dropped += 1
    if n_dropped and not kept:
        raise RequestError("All bids rejected for failure to match buyer currency.")
    return tuple(kept)


def _with_owner(
    bid: ba.ProtectedAppSignalsAdWithBid, buyer: str
) -> ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata:
    return Bid(
        ad=bid.ad,
        bid=bid.bid,
        render=bid.render,
        ad_cost=bid.ad_cost,
        owner=buyer,
        bid_currency=bid.bid_currency,
        egress_payload=bid.egress_payload,
        temporary_unlimited_egress_payload=bid.temporary_unlimited_egress_payload,
    )
