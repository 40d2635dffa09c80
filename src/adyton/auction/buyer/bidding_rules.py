"""How one bidding request is answered, as rules over records (protected-auction §7.3, §8.1, §8.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum

import orjson
from google.protobuf import json_format

from adyton.auction.errors import ScriptError
from adyton.auction.json_text import EMPTY_OBJECT, EMPTY_STRING, configured_json, dump
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.sandbox.values import Bytes, UdfArgument

BiddingRawRequest = ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest


class BiddingMode(Enum):
    """Where the ads of one request come from."""

    CONTEXTUAL = "contextual"
    """The ad server names the ads; they are looked up, and the script sees the signals."""
    RETRIEVAL = "retrieval"
    """The buyer's retrieval script chooses the ads from what prepareDataForAdRetrieval says."""
    HYBRID = "hybrid"
    """As RETRIEVAL, and the retrieval script is told the ad server's ads too."""


def bidding_mode(
    raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
) -> BiddingMode:
    """The mode that the contextual data of a request ask for."""
    contextual = raw.contextual_protected_app_signals_data
    if not contextual.ad_render_ids:
        return BiddingMode.RETRIEVAL
    return BiddingMode.HYBRID if contextual.fetch_ads_from_retrieval_service else BiddingMode.CONTEXTUAL


def prepare_data_arguments(
    raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
) -> tuple[UdfArgument, ...]:
    """Arguments of `prepareDataForAdRetrieval` (§8.1)."""
    signals = raw.protected_app_signals
    return (
        Bytes(signals.app_install_signals),
        dump(signals.encoding_version),
        configured_json(raw.auction_signals),
        configured_json(raw.buyer_signals),
    )


def generate_bid_arguments(
    raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
    *,
    mode: BiddingMode,
    ads: str,
    prepared: bytes,
) -> tuple[UdfArgument, ...]:
    """The eight arguments of `generateBid` (§8.3).

    ads: JSON text of the retrieval or lookup reply, not empty.   prepared: JSON text of prepareDataForAdRetrieval's
    reply; not used in contextual mode, where the script sees the signals instead.
    """
    signals = raw.protected_app_signals
    is_contextual = mode is BiddingMode.CONTEXTUAL
    metadata = dump({"topLevelSeller": raw.top_level_seller}) if raw.top_level_seller else EMPTY_OBJECT
    return (
        ads.encode(),
        configured_json(raw.auction_signals),
        configured_json(raw.buyer_signals),
        EMPTY_STRING if is_contextual else prepared,
        Bytes(signals.app_install_signals) if is_contextual else EMPTY_STRING,
        dump(signals.encoding_version) if is_contextual else EMPTY_STRING,
        dump(raw.multi_bid_limit),
        metadata,
    )


def parse_bids(reply_json: bytes, *, multi_bid_limit: int) -> tuple[ba.ProtectedAppSignalsAdWithBid, ...]:
    """The bids that `generateBid` returned: one object, or an array of at most `multi_bid_limit`.

    A longer array gives no bids at all. null gives none. An object alone is one bid whatever the limit, also none that
    a caller without a limit (0) sends.
    Raises ScriptError if any member of any bid is unknown or has the wrong type: then all bids are lost.
    """
    try:
        reply = orjson.loads(reply_json)
    except orjson.JSONDecodeError as error:
        raise ScriptError("generateBid returned no JSON") from error
    if reply is None:
        return ()
    if isinstance(reply, list) and len(reply) > multi_bid_limit:
        return ()
    entries = reply if isinstance(reply, list) else [reply]
    bids = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ScriptError("generateBid returned something that is no bid object")
        try:
            bids.append(json_format.ParseDict(entry, ba.ProtectedAppSignalsAdWithBid(), max_recursion_depth=64))
        except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
            # The parser's own text quotes values of the script, so it stays here.
            raise ScriptError("generateBid returned a bid with an unknown member or a wrong type") from error
    return tuple(bids)


def keep_valid_bids(
    bids: Iterable[ba.ProtectedAppSignalsAdWithBid], *, top_level_seller: str
) -> tuple[ba.ProtectedAppSignalsAdWithBid, ...]:
    """The finite bids above zero that may take part; their debug URLs, which nobody uses, are cleared."""
    kept = []
    for bid in bids:
        # proto3 JSON also reads "Infinity" as a number; no auction can compare that.
        if not (bid.bid > 0 and math.isfinite(bid.bid) and math.isfinite(bid.ad_cost)):
            continue
        if top_level_seller and not bid.allow_component_auction:
            continue
        bid.ClearField("debug_report_urls")
        kept.append(bid)
    return tuple(kept)
