"""Arguments and replies of the buyer's scripts, and what of the egress payloads leaves."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction

import pytest

from adyton.auction.buyer.bidding_rules import (
    BiddingMode,
    bidding_mode,
    generate_bid_arguments,
    keep_valid_bids,
    parse_bids,
    prepare_data_arguments,
)
from adyton.auction.buyer.egress_fields import EgressRules, limited_egress_value, unlimited_egress_value
from adyton.auction.errors import ScriptError
from adyton.auction.services.egress_schemas import validate_hook
from adyton.kernel.chance import InsecureFixedRandom
from adyton.protocol.egress_schema import Dialect, EgressSchema
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.sandbox.values import Bytes

RawRequest = ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest


def raw_request(ids: tuple[str, ...] = (), *, fetch: bool = False, **members: object) -> RawRequest:
    raw = RawRequest(
        auction_signals='{"a":1}',
        protected_app_signals={"app_install_signals": b"\x01\x02", "encoding_version": 4},
        multi_bid_limit=2,
        **members,
    )
    raw.contextual_protected_app_signals_data.ad_render_ids.extend(ids)
    raw.contextual_protected_app_signals_data.fetch_ads_from_retrieval_service = fetch
    return raw


def test_mode_follows_from_the_contextual_data() -> None:
    assert bidding_mode(RawRequest()) is BiddingMode.RETRIEVAL
    assert bidding_mode(raw_request(fetch=True)) is BiddingMode.RETRIEVAL
    assert bidding_mode(raw_request(("ad",))) is BiddingMode.CONTEXTUAL
    assert bidding_mode(raw_request(("ad",), fetch=True)) is BiddingMode.HYBRID


def test_prepare_gets_bytes_version_and_both_signals() -> None:
    assert prepare_data_arguments(raw_request()) == (Bytes(b"\x01\x02"), b"4", b'{"a":1}', b'""')


def test_generate_bid_sees_signals_only_in_contextual_mode() -> None:
    hidden = generate_bid_arguments(raw_request(), mode=BiddingMode.HYBRID, ads="[1]", prepared=b'{"p":1}')
    shown = generate_bid_arguments(
        raw_request(top_level_seller="top"), mode=BiddingMode.CONTEXTUAL, ads="[1]", prepared=b'{"p":1}'
    )

    assert hidden == (b"[1]", b'{"a":1}', b'""', b'{"p":1}', b'""', b'""', b"2", b"{}")
    assert shown == (b"[1]", b'{"a":1}', b'""', b'""', Bytes(b"\x01\x02"), b"4", b"2", b'{"topLevelSeller":"top"}')


def test_one_bid_or_a_list_with_either_spelling_is_read() -> None:
    one = parse_bids(
        b'{"ad":{"k":[1,null]},"bid":1.5,"render":"u","adCost":2,"bidCurrency":"USD","allowComponentAuction":true,'
        b'"egressPayload":"{}","temporaryUnlimitedEgressPayload":"{}"}',
        multi_bid_limit=1,
    )
    two = parse_bids(b'[{"bid":1,"ad_cost":2,"bid_currency":"EUR"},{"bid":0}]', multi_bid_limit=2)

    assert (one[0].bid, one[0].render, one[0].ad_cost, one[0].bid_currency) == (1.5, "u", 2, "USD")
    assert one[0].ad.struct_value.fields["k"].list_value.values[0].number_value == 1
    assert [(b.bid, b.ad_cost, b.bid_currency) for b in two] == [(1, 2, "EUR"), (0, 0, "")]


@pytest.mark.parametrize(
    "reply",
    [
        b'{"bid":1,"modelingSignals":3}',
        b'[{"bid":1},{"bid":1,"unknown":2}]',
        b'{"bid":"much"}',
        b'{"bid":1,"render":7}',
        b'{"bid":1,"egressPayload":{"features":[]}}',
        b'{"bid":1e39}',
        b"3",
        b"[3]",
        b'"text"',
        b"not json",
        b'{"bid":1,"ad":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_one_wrong_member_loses_all_bids(reply: bytes) -> None:
    with pytest.raises(ScriptError):
        parse_bids(reply, multi_bid_limit=9)


def test_more_bids_than_allowed_are_none_and_no_error() -> None:
    assert parse_bids(b'[{"bid":1},{"bid":1},{"bid":1}]', multi_bid_limit=2) == ()
    assert parse_bids(b'[{"bid":1}]', multi_bid_limit=0) == ()
    assert [bid.bid for bid in parse_bids(b'{"bid":1}', multi_bid_limit=0)] == [1.0]
    assert parse_bids(b"null", multi_bid_limit=2) == ()
    assert parse_bids(b"[]", multi_bid_limit=2) == ()


def test_zero_bids_and_bids_not_meant_for_a_component_auction_are_dropped() -> None:
    bids = [
        ba.ProtectedAppSignalsAdWithBid(bid=0, allow_component_auction=True),
        ba.ProtectedAppSignalsAdWithBid(bid=-1, allow_component_auction=True),
        ba.ProtectedAppSignalsAdWithBid(bid=float("nan"), allow_component_auction=True),
        *parse_bids(b'{"bid":"Infinity","allowComponentAuction":true}', multi_bid_limit=1),
        ba.ProtectedAppSignalsAdWithBid(bid=1, debug_report_urls={"auction_debug_win_url": "https://x"}),
        ba.ProtectedAppSignalsAdWithBid(bid=2, allow_component_auction=True),
    ]

    assert [b.bid for b in keep_valid_bids(bids, top_level_seller="")] == [1, 2]
    assert [b.bid for b in keep_valid_bids(bids, top_level_seller="top")] == [2]
    assert not bids[4].HasField("debug_report_urls")


SCHEMA = EgressSchema.parse(
    {
        "cddl_version": "1.0.0",
        "version": 2,
        "features": [
            {"name": "boolean-feature"},
            {"name": "unsigned-integer-feature", "size": 7},
            {"name": "histogram-feature", "size": 1, "value": [{"name": "signed-integer-feature", "size": 1}]},
        ],
    }
)
PAYLOAD = json.dumps(
    {
        "features": [
            {"name": "boolean-feature", "value": True},
            {"name": "unsigned-integer-feature", "value": 127},
            {"name": "histogram-feature", "value": [{"name": "signed-integer-feature", "value": -1}]},
        ]
    }
)
QUIET = EgressRules(limited_bits=9, noise_rate=Fraction(0))
NOISE = InsecureFixedRandom(1)


def test_published_example_of_a_limited_payload() -> None:
    assert limited_egress_value(PAYLOAD, SCHEMA, QUIET, NOISE) == "Af9A"
    assert limited_egress_value(PAYLOAD, SCHEMA, EgressRules(limited_bits=7, noise_rate=Fraction(0)), NOISE) == ""


@pytest.mark.parametrize(
    ("payload", "schema", "bits"),
    [
        (PAYLOAD, SCHEMA, 0),
        (PAYLOAD, None, 9),
        ("", SCHEMA, 9),
        ("not json", SCHEMA, 9),
        (PAYLOAD.replace("127", "128"), SCHEMA, 9),
        (PAYLOAD, EgressSchema.parse({"cddl_version": "1.0.0", "version": 2, "features": []}), 9),
        ('{"features":[]}', EgressSchema.parse({"cddl_version": "1.0.0", "version": 2, "features": []}), 9),
    ],
)
def test_a_broken_rule_clears_the_payload_silently(payload: str, schema: EgressSchema | None, bits: int) -> None:
    rules = EgressRules(limited_bits=bits, noise_rate=Fraction(0))

    assert limited_egress_value(payload, schema, rules, NOISE) == ""


def test_noise_replaces_one_in_a_hundred_by_default_and_keeps_the_size() -> None:
    rules = EgressRules(limited_bits=9)
    values = [limited_egress_value(PAYLOAD, SCHEMA, rules, NOISE) for _ in range(5000)]
    changed = sum(value != "Af9A" for value in values)

    assert {len(value) for value in values} == {4}
    assert 20 <= changed <= 85


def test_unlimited_channel_needs_device_and_server_and_is_noised_only_where_configured() -> None:
    always_noise = EgressRules(limited_bits=0, noise_rate=Fraction(1))
    off = EgressRules(is_unlimited_enabled=False)

    values = {
        unlimited_egress_value(PAYLOAD, SCHEMA, always_noise, NOISE, is_allowed_by_device=True) for _ in range(50)
    }
    assert values == {"Af9A"}
    assert unlimited_egress_value(PAYLOAD, SCHEMA, always_noise, NOISE, is_allowed_by_device=False) == ""
    assert unlimited_egress_value(PAYLOAD, SCHEMA, off, NOISE, is_allowed_by_device=True) == ""
    assert unlimited_egress_value("{}", SCHEMA, always_noise, NOISE, is_allowed_by_device=True) == ""
    both = EgressRules(limited_bits=9, noise_rate=Fraction(1), noises_unlimited=True)
    noised = {unlimited_egress_value(PAYLOAD, SCHEMA, both, NOISE, is_allowed_by_device=True) for _ in range(50)}
    assert len(noised) > 30
    assert {len(value) for value in noised} == {4}


@pytest.mark.parametrize("text", ['["\\ud800", "{}"]', "[", "", "[1]", "{}"])
def test_validate_tells_a_script_of_arguments_that_cannot_be_read(text: str) -> None:
    answer = asyncio.run(validate_hook(Dialect.SHIPPED)(text))
    assert json.loads(answer) == ["validate takes a payload and a schema"]
