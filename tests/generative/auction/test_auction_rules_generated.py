"""Generated inputs: the decision agrees with a naive one, and any bytes give a value or the one documented error."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.buyer.bidding_rules import parse_bids
from adyton.auction.buyer.get_bids_checks import read_get_bids_frame
from adyton.auction.collector import parse_report
from adyton.auction.config import parse_config
from adyton.auction.errors import ConfigError, RequestError, ScriptError
from adyton.auction.json_values import from_value, to_value
from adyton.auction.kv_messages import PROTO_CONTENT_TYPE
from adyton.auction.seller.buyer_selection import chaff_candidates, select_buyers
from adyton.auction.seller.chaffing import UniformChaffSizes, chaff_generator, plan_requests
from adyton.auction.seller.scoring import Bid, ScoredBid, ScoreReply, decide, parse_score
from adyton.auction.seller.select_ad_checks import read_client_input
from adyton.auction.services.kv_wire import parse_json_request, unframe_request
from adyton.kernel.chance import InsecureFixedRandom
from adyton.protocol.compression import gzip_compress
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, width=32)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FINITE_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
BID_MEMBERS = st.dictionaries(
    st.sampled_from(["ad", "bid", "render", "adCost", "bidCurrency", "allowComponentAuction", "extra"]),
    JSON,
    max_size=5,
)


@st.composite
def scored_bids(draw: st.DrawFn) -> list[ScoredBid]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from("abc"), st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0]), st.integers(1, 9), st.booleans()
            ),
            max_size=7,
        )
    )
    return [
        ScoredBid(Bid(owner=o, bid=b), ScoreReply(d), ba.INVALID_BID if rejected else 0) for o, d, b, rejected in rows
    ]


def naive_outcomes(bids: list[ScoredBid]) -> set[tuple[int, float, bool]]:
    """Every (winner's index, other bid, made by the same owner) that ties allow, by trying all pairs."""
    able = [i for i, s in enumerate(bids) if s.rejection_reason == 0 and s.reply.desirability > 0]
    found = set()
    for first in able:
        if any(bids[i].reply.desirability > bids[first].reply.desirability for i in able):
            continue
        rest = [i for i in able if i != first]
        seconds = [i for i in rest if all(bids[j].reply.desirability <= bids[i].reply.desirability for j in rest)]
        own = bool(seconds) and all(bids[i].bid.owner == bids[first].bid.owner for i in seconds)
        found |= {(first, bids[i].bid.bid, own) for i in seconds} or {(first, 0.0, False)}
    return found


@given(scored_bids(), st.integers(0, 5))
def test_decision_is_one_that_the_naive_auction_allows(bids: list[ScoredBid], seed: int) -> None:
    outcome = decide(bids, seller_currency="", source=InsecureFixedRandom(seed))
    allowed = naive_outcomes(bids)

    if outcome is None:
        assert allowed == set()
    else:
        index = next(i for i, s in enumerate(bids) if s is outcome.winner)
        assert (index, outcome.highest_scoring_other_bid, outcome.made_highest_scoring_other_bid) in allowed


NAMES = st.sets(st.sampled_from("abcdefgh"))


@given(NAMES, st.lists(st.sampled_from("abcdefgh")), NAMES, st.integers(0, 300))
def test_no_buyer_is_called_twice_or_uninvited(
    configured: set[str], buyer_list: list[str], with_input: set[str], generation: int
) -> None:
    real = select_buyers(configured=configured, buyer_list=buyer_list, with_input=with_input, max_buyers=None)
    candidates = chaff_candidates(configured=configured, buyer_list=buyer_list, with_input=with_input)
    planned = plan_requests(
        real=real,
        candidates=candidates,
        n_configured=len(configured),
        sizes=UniformChaffSizes(),
        generator=chaff_generator(str(generation)),
    )
    called = [p.buyer for p in planned]

    assert len(called) == len(set(called))
    assert set(called) <= configured & set(buyer_list)
    assert {p.buyer for p in planned if not p.is_chaff} == set(real) == configured & set(buyer_list) & with_input
    assert not {p.buyer for p in planned if p.is_chaff} & with_input


@given(st.one_of(BID_MEMBERS, st.lists(BID_MEMBERS, max_size=3), JSON))
def test_any_reply_of_generate_bid_is_bids_or_a_script_error(reply: object) -> None:
    try:
        bids = parse_bids(json.dumps(reply).encode(), multi_bid_limit=2)
    except ScriptError:
        return
    assert len(bids) <= 2


@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["desirability", "bid", "ad", "rejectReason"]), JSON)))
def test_any_reply_of_score_ad_is_a_finite_score_or_a_script_error(reply: object) -> None:
    try:
        score = parse_score(json.dumps(reply).encode())
    except ScriptError:
        return
    assert abs(score.desirability) < 3.5e38


@given(st.binary(max_size=200))
def test_any_bytes_are_a_client_input_with_errors_or_data(data: bytes) -> None:
    client = read_client_input(data)
    assert client.errors or client.buyer_inputs
    wrapped = ba.ProtectedAuctionInput(generation_id="1", publisher_name="a", buyer_input={"b": gzip_compress(data)})
    client = read_client_input(wrapped.SerializeToString())
    assert client.errors or client.buyer_inputs


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_a_request_error(data: bytes) -> None:
    for read in (
        read_get_bids_frame,
        parse_json_request,
        lambda frame: unframe_request(frame, PROTO_CONTENT_TYPE),
    ):
        try:
            read(data)
        except RequestError:
            continue


@given(JSON)
@settings(max_examples=50)
def test_any_json_is_a_configuration_or_a_config_error(document: object) -> None:
    try:
        parse_config(document)
    except ConfigError:
        return


@given(st.text(max_size=30), st.text(max_size=60))
def test_any_url_is_a_report_or_none(path: str, query: str) -> None:
    report = parse_report(path, query, 1)
    assert report is None or report.received_at_ms == 1


@given(FINITE_JSON)
def test_json_values_survive_protobuf(value: object) -> None:
    assert from_value(to_value(value)) == value
