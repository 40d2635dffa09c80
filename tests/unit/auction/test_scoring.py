"""Scoring, the decision, and what the reporting scripts are told."""

from __future__ import annotations

import json

import pytest

from adyton.auction.errors import RequestError, ScriptError
from adyton.auction.seller.reporting import (
    report_result_arguments,
    report_win_arguments,
    reporting_facts,
    win_reporting_urls,
)
from adyton.auction.seller.scoring import (
    Bid,
    ScoredBid,
    ScoreReply,
    auction_config_argument,
    bids_to_score,
    build_ad_score,
    decide,
    judge,
    parse_score,
    read_scoring_signals,
    score_ad_arguments,
)
from adyton.kernel.chance import InsecureFixedRandom
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.sandbox.values import UdfEffects

RawRequest = ba.ScoreAdsRequest.ScoreAdsRawRequest
SOURCE = InsecureFixedRandom(5)


def a_bid(owner: str = "b", value: float = 1.0, *, render: str | None = None, currency: str = "") -> Bid:
    return Bid(owner=owner, bid=value, render=render or f"https://{owner}/{value}", bid_currency=currency)


def scored(owner: str, desirability: float, value: float = 1.0, *, currency: str = "", **reply: object) -> ScoredBid:
    return judge(a_bid(owner, value, currency=currency), ScoreReply(desirability, **reply), seller_currency="USD")


def test_a_number_or_an_object_is_a_score() -> None:
    assert parse_score(b"2.5") == ScoreReply(2.5)
    assert parse_score(
        b'{"desirability":3,"allowComponentAuction":true,"incomingBidInSellerCurrency":1.5,"bid":2,"bidCurrency":"EUR",'
        b'"ad":{"a":1},"rejectReason":"language-exclusions"}'
    ) == ScoreReply(3, True, 1.5, 2, "EUR", '{"a":1}', ba.LANGUAGE_EXCLUSIONS)
    assert parse_score(b"{}").desirability == 0
    assert parse_score(b'{"desirability":1,"rejectReason":"not-a-reason"}').rejection_reason == 0


@pytest.mark.parametrize(
    "reply", [b"null", b'"1"', b"[1]", b"true", b'{"desirability":"1"}', b"1e39", b'{"desirability":1,"bid":[]}', b"x"]
)
def test_a_malformed_score_is_refused(reply: bytes) -> None:
    with pytest.raises(ScriptError):
        parse_score(reply)


def test_first_bid_of_a_url_is_scored_and_required_signals_filter() -> None:
    bids = [a_bid("a", 1, render="u1"), a_bid("b", 9, render="u1"), a_bid("c", 2, render="u2")]
    signals = read_scoring_signals('{"renderUrls":{"u2":{"ok":true}}}')

    assert [b.owner for b in bids_to_score(bids, signals, is_signal_required=False)] == ["a", "c"]
    assert [b.owner for b in bids_to_score(bids, signals, is_signal_required=True)] == ["c"]
    assert bids_to_score(bids, None, is_signal_required=True) == ()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"renderUrls":[]}', "null"])
def test_scoring_signals_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        read_scoring_signals(text)


def test_score_ad_gets_its_six_arguments() -> None:
    raw = RawRequest(publisher_hostname="app", seller_data_version=3, top_level_seller="top")
    bid = a_bid("b", 1.5, render="u")
    bid.ad.struct_value.fields["k"].number_value = 1
    config = auction_config_argument('{"s":1}', "")
    arguments = score_ad_arguments(raw, bid, {"u": {"ok": True}}, config)

    assert [json.loads(a) for a in arguments] == [  # type: ignore[arg-type]
        {"k": 1},
        1.5,
        {"auctionSignals": "", "sellerSignals": {"s": 1}},
        {"renderUrl": {"u": {"ok": True}}},
        {
            "interestGroupOwner": "b",
            "topWindowHostname": "app",
            "bidCurrency": "???",
            "dataVersion": 3,
            "topLevelSeller": "top",
            "renderUrl": "u",
        },
        {},
    ]
    bid.ad.string_value = "[1]"
    bid.bid_currency = "EUR"
    plain = score_ad_arguments(RawRequest(), bid, None, config)
    assert plain[0] == b"[1]"
    assert plain[3] == b"null"
    known = {"interestGroupOwner": "b", "topWindowHostname": "", "bidCurrency": "EUR", "renderUrl": "u"}
    assert json.loads(plain[4]) == known  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("invalid-bid", 1),
        ("bid-below-auction-floor", 2),
        ("pending-approval-by-exchange", 3),
        ("disapproved-by-exchange", 4),
        ("blocked-by-publisher", 5),
        ("language-exclusions", 6),
        ("category-exclusions", 7),
        ("", 0),
        ("INVALID_BID", 0),
    ],
)
def test_each_reason_has_its_number_and_keeps_an_ad_from_winning(text: str, number: int) -> None:
    reply = parse_score(json.dumps({"desirability": 9, "rejectReason": text}).encode())

    assert reply.rejection_reason == number
    assert judge(a_bid(), reply, seller_currency="").can_win is (number == 0)


def test_highest_desirability_wins_and_the_second_score_is_told() -> None:
    outcome = decide(
        [scored("a", 1, 10), scored("b", 3, 2), scored("c", 2, 7), scored("d", 0, 99), scored("e", -1, 99)],
        seller_currency="",
        source=SOURCE,
    )

    assert outcome is not None
    assert (outcome.winner.bid.owner, outcome.highest_scoring_other_bid) == ("b", 7)
    assert not outcome.made_highest_scoring_other_bid
    assert dict(outcome.other_bids_of_owner) == {"c": (7,)}


def test_nobody_wins_without_a_positive_score() -> None:
    assert decide([], seller_currency="", source=SOURCE) is None
    assert decide([scored("a", 0), scored("b", -2)], seller_currency="", source=SOURCE) is None
    rejected = scored("a", 5, rejection_reason=ba.INVALID_BID)
    assert decide([rejected], seller_currency="", source=SOURCE) is None


def test_a_single_bid_has_no_other() -> None:
    outcome = decide([scored("a", 1)], seller_currency="", source=SOURCE)

    assert outcome is not None
    assert outcome.highest_scoring_other_bid == 0
    assert not outcome.made_highest_scoring_other_bid


def test_ties_are_broken_evenly_and_second_place_may_be_the_winners_own() -> None:
    wins = {"a": 0, "b": 0}
    for _ in range(400):
        outcome = decide([scored("a", 1, 5), scored("b", 1, 6)], seller_currency="", source=SOURCE)
        assert outcome is not None
        wins[outcome.winner.bid.owner] += 1
        assert outcome.highest_scoring_other_bid == (6 if outcome.winner.bid.owner == "a" else 5)
    own = decide([scored("a", 2, 5), scored("a", 1, 4)], seller_currency="", source=SOURCE)

    assert 140 < wins["a"] < 260
    assert own is not None
    assert own.made_highest_scoring_other_bid
    shared = decide([scored("a", 2), scored("a", 1), scored("b", 1)], seller_currency="", source=SOURCE)
    assert shared is not None
    assert not shared.made_highest_scoring_other_bid


def test_a_bid_in_seller_currency_must_not_be_changed() -> None:
    assert not scored("a", 1, 2.0, currency="USD", incoming_bid_in_seller_currency=3.0).can_win
    assert scored("a", 1, 2.0, currency="USD", incoming_bid_in_seller_currency=2.0).can_win
    assert scored("a", 1, 2.0, currency="EUR", incoming_bid_in_seller_currency=3.0).can_win
    wrong = scored("a", 1, 2.0, bid=1.0, bid_currency="EUR")
    assert wrong.rejection_reason == ba.BID_FROM_SCORE_AD_FAILED_CURRENCY_CHECK


def test_other_bids_are_told_in_the_sellers_currency() -> None:
    bids = [scored("a", 3, 9, currency="USD"), scored("b", 2, 5, currency="EUR", incoming_bid_in_seller_currency=6)]
    outcome = decide(bids, seller_currency="USD", source=SOURCE)

    assert outcome is not None
    assert outcome.highest_scoring_other_bid == 6


def test_rejected_ads_are_listed_beside_the_winner() -> None:
    outcome = decide(
        [scored("a", 1), scored("b", 9, rejection_reason=ba.BLOCKED_BY_PUBLISHER)], seller_currency="", source=SOURCE
    )
    assert outcome is not None
    score = build_ad_score(outcome, "seller")

    assert (score.interest_group_owner, score.buyer_bid, score.bid, score.ad_type) == ("a", 1, 0, 2)
    assert [(r.interest_group_owner, r.rejection_reason) for r in score.ad_rejection_reasons] == [
        ("b", ba.BLOCKED_BY_PUBLISHER)
    ]


def test_reporting_scripts_get_what_the_contract_says() -> None:
    raw = RawRequest(publisher_hostname="app", seller="s", seller_data_version=2)
    bid = a_bid("b", 1.25, render="u")
    bid.egress_payload, bid.temporary_unlimited_egress_payload, bid.ad_cost = "AYJA", "Af9A", 3.0
    outcome = decide([ScoredBid(bid, ScoreReply(4), 0), scored("c", 1, 0.5)], seller_currency="", source=SOURCE)
    assert outcome is not None
    facts = reporting_facts(raw, outcome, rounded=lambda value: value + 100)
    config = auction_config_argument("{}", "{}")
    shared = {
        "topWindowHostname": "app",
        "interestGroupOwner": "b",
        "renderURL": "u",
        "renderUrl": "u",
        "bid": 101.25,
        "bidCurrency": "???",
        "highestScoringOtherBid": 0.5,
        "highestScoringOtherBidCurrency": "???",
    }

    result = report_result_arguments(config, facts)
    win = report_win_arguments(
        auction_signals="", per_buyer_signals='{"r":1}', signals_for_winner=b'{"w":1}', facts=facts
    )

    assert json.loads(result[1]) == {**shared, "desirability": 104.0, "dataVersion": 2}  # type: ignore[arg-type]
    assert [json.loads(a) for a in win] == [  # type: ignore[arg-type]
        "",
        {"r": 1},
        {"w": 1},
        {
            **shared,
            "madeHighestScoringOtherBid": False,
            "seller": "s",
            "adCost": 103.0,
            "interestGroupName": "",
            "kAnonStatus": "notCalculated",
        },
        {},
        "AYJA",
        "Af9A",
    ]
    unversioned = reporting_facts(RawRequest(), outcome, rounded=lambda value: value)
    assert "dataVersion" not in json.loads(report_result_arguments(config, unversioned)[1])  # type: ignore[arg-type]


def test_urls_of_both_sides_go_where_the_device_looks() -> None:
    urls = win_reporting_urls(seller=UdfEffects("https://s"), buyer=UdfEffects("https://b", {"click": "https://c"}))

    assert urls.top_level_seller_reporting_urls.reporting_url == "https://s"
    assert urls.buyer_reporting_urls.interaction_reporting_urls["click"] == "https://c"
    assert not urls.HasField("component_seller_reporting_urls")
    assert win_reporting_urls(seller=None, buyer=None) == ba.WinReportingUrls()
