"""What a person can do to a device, what maintenance deletes, and the device's half of an auction."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence

import pytest

from adyton.device.auction import AdSelectionData, AuctionPolicy, SellerConfiguration
from adyton.device.device import Device
from adyton.device.encoding import REFRESH_AFTER_MS, Step, marshal_signals, may_force_encoding, parse_version
from adyton.device.enrolment import AdTech, App, Enrolment, parse_enrolment
from adyton.device.errors import (
    AuctionResultError,
    EncodingError,
    EnrolmentFileError,
    NoPublicKeyError,
    NotAllowedError,
    UnknownSelectionError,
)
from adyton.device.records import EncodedPayload, Encoder
from adyton.device.runtime import checked_payload
from adyton.device.schedule import run_hourly
from adyton.device.signals import TIME_TO_LIVE_MS, Signal
from adyton.device.web import Web
from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.clock import ManualClock
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import BuyerId
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.errors import MalformedMessageError
from adyton.protocol.frames import Compression, decode_client_frame, encode_client_frame, padded_response_size
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.ohttp import Label, ServerContext, decapsulate_request

BUYER, OTHER = BuyerId("buyer.example"), BuyerId("other.example")


class JoinedValues:
    """An encoder runtime that joins the values: what the sandbox would run, as a function."""

    def __init__(self) -> None:
        self.fails = False
        self.calls = 0

    async def encode(self, buyer: BuyerId, code: str, signals: Sequence[Signal], max_size: int) -> bytes:
        self.calls += 1
        if self.fails:
            raise EncodingError("Malformed encoded payload.", where=buyer)
        return b"|".join(signal.value for signal in signals)


def update(*values: bytes, command: str = "put") -> str:
    pairs = {base64.b64encode(bytes([0, 0, 0, n])).decode(): base64.b64encode(v).decode() for n, v in enumerate(values)}
    return json.dumps({command: pairs})


def make(
    *, enrolment: Enrolment | None = None, policy: AuctionPolicy | None = None, keys: bool = True
) -> tuple[Device, ManualClock, JoinedValues]:
    clock, runtime = ManualClock(10**12), JoinedValues()
    device = Device.open(
        None,
        web=Web(),
        runtime=runtime,
        clock=clock,
        enrolment=enrolment or Enrolment(is_enforced=False),
        policy=policy,
        public_keys=[TEST_MODE_KEY.public_key] if keys else [],
    )
    return device, clock, runtime


def encode(device: Device) -> dict[str, Step]:
    return {outcome.buyer: outcome.step for outcome in asyncio.run(device.encode())}


def opened(asked: AdSelectionData) -> tuple[messages.ProtectedAuctionInput, ServerContext, bytes]:
    plaintext, context = decapsulate_request(KeyRing.test_mode(), asked.data)
    frame = decode_client_frame(plaintext, read_compression=False)
    return messages.ProtectedAuctionInput.FromString(frame.payload), context, plaintext


def payload_in(message: messages.ProtectedAuctionInput, buyer: str = BUYER) -> messages.ProtectedAppSignals:
    return messages.BuyerInput.FromString(gzip_decompress(message.buyer_input[buyer])).protected_app_signals


# ---- user controls


def test_blocking_an_app_deletes_its_signals_and_what_was_made_from_them_and_refuses_new_ones() -> None:
    device, _, _ = make()
    device.install_encoder(BUYER, "script")
    device.apply_update(BUYER, "com.news", update(b"news"))
    device.apply_update(BUYER, "com.shop", update(b"", b"shop"))
    encode(device)
    assert payload_in(opened(device.get_ad_selection_data("s.example", package="com.shop"))[0]).app_install_signals

    device.block_app("com.shop")
    device.apply_update(BUYER, "com.shop", update(b"again"))

    assert [(app.package, app.signals, app.blocked) for app in device.list_apps()] == [("com.shop", 0, True)]
    assert opened(device.get_ad_selection_data("s.example", package="com.news"))[0].buyer_input == {}


def test_unblocking_lets_an_app_store_again() -> None:
    device, _, _ = make()
    device.block_app("com.shop")
    device.unblock_app("com.shop")

    device.apply_update(BUYER, "com.shop", update(b"x"))

    assert [app.signals for app in device.list_apps()] == [1]


def test_reset_deletes_everything_but_the_blocks() -> None:
    device, _, _ = make()
    device.install_encoder(BUYER, "script")
    device.apply_update(BUYER, "com.news", update(b"x"))
    device.block_app("com.shop")
    encode(device)

    device.reset()

    assert device.list_signals() == []
    assert encode(device) == {}
    assert [app.package for app in device.list_apps()] == ["com.shop"]


def test_opting_out_is_silent_and_gives_random_bytes() -> None:
    device, _, _ = make()
    device.apply_update(BUYER, "com.news", update(b"x"))

    device.opt_out()
    device.apply_update(BUYER, "com.news", "this is not even JSON")
    first = device.get_ad_selection_data("s.example", package="com.news")
    second = device.get_ad_selection_data("s.example", package="com.news")

    assert device.list_signals() == []
    assert len(first.data) == len(second.data) == 1024
    assert first.data != second.data
    assert first.ad_selection_id != second.ad_selection_id
    device.opt_in()
    device.apply_update(BUYER, "com.news", update(b"x"))
    assert len(device.list_signals()) == 1


def test_uninstalling_forgets_an_app_and_clearing_its_data_its_signals() -> None:
    device, _, _ = make()
    for package in ("com.a", "com.b"):
        device.apply_update(BUYER, package, update(package.encode(), command="put_if_not_present"))
    device.apply_update(OTHER, "com.b", update(b"x"))

    device.app_data_cleared("com.b")
    assert [app.package for app in device.list_apps()] == ["com.a"]
    device.app_uninstalled("com.a")
    assert device.list_apps() == []


# ---- maintenance and enrolment


def test_maintenance_deletes_what_is_too_old() -> None:
    device, clock, _ = make()
    device.apply_update(BUYER, "com.news", update(b"x"))

    clock.advance_ms(TIME_TO_LIVE_MS)
    device.maintain()
    assert len(device.list_signals()) == 1
    clock.advance_ms(1)
    device.maintain()
    assert device.list_signals() == []


def test_maintenance_deletes_what_the_registry_no_longer_allows() -> None:
    apps = [App("com.news", ad_techs=frozenset([BUYER]))]
    before = Enrolment.of([AdTech(BUYER), AdTech(OTHER)], [])
    device, _, _ = make(enrolment=before)
    device.apply_update(BUYER, "com.news", update(b"x"))
    device.apply_update(OTHER, "com.news", update(b"x"))
    device.apply_update(OTHER, "com.shop", update(b"", b"x"))

    device._enrolment = Enrolment.of([AdTech(BUYER), AdTech(OTHER)], apps)
    device.maintain()
    assert [(s.buyer, s.package) for s in device.list_signals()] == [(BUYER, "com.news"), *[(OTHER, "com.shop")] * 2]
    device._enrolment = Enrolment.of([AdTech(BUYER)], apps)
    device.maintain(installed=["com.shop"])
    assert device.list_signals() == []


def test_an_ad_tech_must_be_enrolled_and_on_the_apps_list() -> None:
    enrolment = Enrolment.of(
        [AdTech(BUYER), AdTech(OTHER), AdTech(BuyerId("off.example"), protected_signals=False)],
        [App("com.news", ad_techs=frozenset([BUYER]))],
    )
    device, _, _ = make(enrolment=enrolment)

    device.apply_update(BUYER, "com.news", update(b"x"))
    for buyer, package in [(OTHER, "com.news"), ("stranger.example", "com.x"), ("off.example", "com.x")]:
        with pytest.raises(NotAllowedError):
            device.apply_update(buyer, package, update(b"x"))
    assert [s.buyer for s in device.list_signals()] == [BUYER]


@pytest.mark.parametrize("package", ["", "com.ñ", "a b", "a\nHost: x", "a" * 256])
def test_what_is_no_app_name_is_refused(package: str) -> None:
    device, _, _ = make()

    with pytest.raises(BadInputError):
        device.apply_update(BUYER, package, update(b"x"))
    with pytest.raises(BadInputError):
        asyncio.run(device.update_signals("https://buyer.example/", package=package))
    with pytest.raises(BadInputError):
        device.get_ad_selection_data("s.example", package=package)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"ad_techs": [{"domain": ""}]}',
        '{"ad_techs": [{"domain": "a.example", "verification_key": "AAAA"}]}',
        '{"ad_techs": [{"domain": "a.example", "other": 1}]}',
        '{"ad_techs": [{"domain": "a.example"}, {"domain": "a.example"}]}',
        '{"ad_techs": [], "apps": [{"package": "p", "uid": "1"}]}',
    ],
)
def test_an_enrolment_file_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(EnrolmentFileError):
        parse_enrolment(text)


def test_an_enrolment_file_names_ad_techs_and_apps() -> None:
    enrolment = parse_enrolment(
        '{"ad_techs": [{"domain": "a.example"}, {"domain": "b.a.example"}],'
        ' "apps": [{"package": "com.x", "uid": 7, "ad_techs": ["a.example"]}]}'
    )

    assert enrolment.ad_tech_of("https://x.a.example/") == "a.example"
    assert enrolment.ad_tech_of("https://x.b.a.example:444/y") == "b.a.example"
    assert enrolment.is_allowed("a.example", "com.x")
    assert not enrolment.is_allowed("b.a.example", "com.x")
    assert enrolment.is_allowed("b.a.example", "com.other")


# ---- the encoder job


def test_the_job_encodes_only_after_a_change() -> None:
    device, _, runtime = make()
    device.apply_update(BUYER, "com.news", update(b"x"))
    assert encode(device) == {BUYER: Step.NO_ENCODER}
    device.install_encoder(BUYER, "script", version=3)

    assert encode(device) == {BUYER: Step.RUN}
    assert encode(device) == {BUYER: Step.UNCHANGED}
    device.apply_update(BUYER, "com.news", update(b"y"))
    assert encode(device) == {BUYER: Step.RUN}
    device.install_encoder(BUYER, "another script", version=4)
    assert encode(device) == {BUYER: Step.RUN}
    assert runtime.calls == 3
    message, _, _ = opened(device.get_ad_selection_data("s.example", package="com.news"))
    assert (payload_in(message).app_install_signals, payload_in(message).encoding_version) == (b"y", 4)


def test_three_failures_stop_a_version_and_a_failure_leaves_the_earlier_payload() -> None:
    device, _, runtime = make()
    device.install_encoder(BUYER, "script", version=1)
    device.apply_update(BUYER, "com.news", update(b"good"))
    encode(device)
    device.apply_update(BUYER, "com.news", update(b"newer"))
    runtime.fails = True

    steps = [encode(device)[BUYER] for _ in range(4)]

    assert steps == [Step.RUN, Step.RUN, Step.RUN, Step.STOPPED]
    message, _, _ = opened(device.get_ad_selection_data("s.example", package="com.news"))
    assert payload_in(message).app_install_signals == b"good"
    runtime.fails = False
    device.install_encoder(BUYER, "script 2", version=2)
    assert encode(device) == {BUYER: Step.RUN}


def test_one_success_sets_the_failures_back_to_zero() -> None:
    device, _, runtime = make()
    device.install_encoder(BUYER, "script")
    device.apply_update(BUYER, "com.news", update(b"x"))
    for fails in (True, True, False, True, True):
        runtime.fails = fails
        assert encode(device) == {BUYER: Step.RUN}
        device.apply_update(BUYER, "com.news", update(b"x"))
    assert encode(device) == {BUYER: Step.RUN}


def test_without_signals_the_script_is_deleted() -> None:
    device, _, _ = make()
    device.install_encoder(BUYER, "script")

    assert encode(device) == {BUYER: Step.DELETE_ENCODER}
    assert encode(device) == {}


def test_forced_encoding_waits_four_hours() -> None:
    encoder = Encoder(BUYER, "https://buyer.example/e.js", "x", 0, 0, 0, 0, 1)
    payload = EncodedPayload(BUYER, b"", 0, 1000, 1, 1)
    four_hours = 4 * 3_600_000

    assert not may_force_encoding(None, None, has_signals=True, now_ms=0)
    assert may_force_encoding(encoder, None, has_signals=True, now_ms=0)
    assert not may_force_encoding(encoder, None, has_signals=False, now_ms=0)
    assert not may_force_encoding(encoder, payload, has_signals=True, now_ms=1000 + four_hours)
    assert may_force_encoding(encoder, payload, has_signals=True, now_ms=1001 + four_hours)
    assert REFRESH_AFTER_MS == 24 * 3_600_000


def test_signals_are_marshalled_by_key_oldest_first() -> None:
    signals = [
        Signal(b"\0\0\0\1", b"\xff", "com.a", 1999),
        Signal(b"\0\0\0\2", b"", "com.b", 2000),
        Signal(b"\0\0\0\1", b"\x01\x02", "com.c", 3000),
    ]

    assert json.loads(marshal_signals(signals)) == [
        {"00000001": [{"val": "ff", "time": 1, "app": "com.a"}, {"val": "0102", "time": 3, "app": "com.c"}]},
        {"00000002": [{"val": "", "time": 2, "app": "com.b"}]},
    ]


@pytest.mark.parametrize(
    ("header", "version"),
    [
        (None, 0),
        ("", 0),
        ("7", 7),
        (" 7 ", 7),
        ("-2", -2),
        ("7.1", 0),
        ("x", 0),
        ("٣", 0),
        ("99999999999", 0),
        ("3000000000", 0),
    ],
)
def test_the_encoder_version_is_an_integer_or_zero(header: str | None, version: int) -> None:
    assert parse_version(header) == version


@pytest.mark.parametrize(
    ("value", "data", "text"),
    [
        (None, None, "The encoding script either doesn't contain the required function or the function returned null"),
        ({"status": 1}, b"x", "Exception processing result from encoding"),
        ({}, b"x", "Exception processing result from encoding"),
        ({"status": False}, b"x", "Exception processing result from encoding"),
        ([], b"x", "Exception processing result from encoding"),
        ({"status": 0}, None, "Malformed encoded payload."),
        ({"status": 0}, b"", "Malformed encoded payload."),
        ({"status": 0}, b"12345", "Payload size exceeds limits."),
    ],
)
def test_a_malformed_answer_of_a_script_has_its_text(value: object, data: bytes | None, text: str) -> None:
    with pytest.raises(EncodingError) as caught:
        checked_payload(value, data, BUYER, 4)

    assert caught.value.what == text
    assert checked_payload({"status": 0}, b"1234", BUYER, 4) == b"1234"


# ---- the auction


def test_the_input_is_what_the_reference_device_sends() -> None:
    device, clock, _ = make()
    device.install_encoder(BUYER, "script", version=5)
    device.apply_update(BUYER, "com.news", update(b"abc"))
    encode(device)

    asked = device.get_ad_selection_data("seller.example", package="com.news")
    message, context, plaintext = opened(asked)

    assert asked.ad_selection_id > 0
    assert context.label is Label.SFE_CURRENT
    assert (len(plaintext), plaintext[0]) == (1024, 2)
    assert message.publisher_name == "com.news"
    assert message.generation_id == str(asked.ad_selection_id)
    assert message.request_timestamp_ms == clock.now_ms()
    assert not message.enable_unlimited_egress
    assert not message.enable_debug_reporting
    assert message.buyer_input[BUYER] == gzip_compress(bytes.fromhex("1207" + "0a03616263" + "1005"))


def test_policy_reaches_the_input() -> None:
    policy = AuctionPolicy(label=Label.SFE_LEGACY, enable_unlimited_egress=True, consented_debug_token="secret-token")
    message, context, _ = opened(make(policy=policy)[0].get_ad_selection_data("s.example", package="p"))

    assert context.label is Label.SFE_LEGACY
    assert message.enable_unlimited_egress
    assert message.consented_debug_config.token == "secret-token"
    limited = AuctionPolicy(enable_unlimited_egress=True, is_ad_id_limited=True)
    message, _, _ = opened(make(policy=limited)[0].get_ad_selection_data("s.example", package="p"))
    assert not message.enable_unlimited_egress


def test_a_sellers_configuration_fixes_the_size_and_leaves_out_what_does_not_fit() -> None:
    device, _, _ = make()
    for buyer, n in ((BUYER, 90), (OTHER, 5)):
        device.install_encoder(buyer, "script")
        device.apply_update(buyer, "com.news", update(*[bytes(range(k, k + n)) for k in range(3)]))
    encode(device)

    roomy, _, frame = opened(
        device.get_ad_selection_data("s.example", package="com.news", configuration=SellerConfiguration(3000))
    )
    tight, _, small = opened(
        device.get_ad_selection_data(
            "s.example", package="com.news", configuration=SellerConfiguration(200, {OTHER: 100})
        )
    )

    assert (len(frame), set(roomy.buyer_input)) == (3000, {BUYER, OTHER})
    assert (len(small), set(tight.buyer_input)) == (200, {OTHER})
    with pytest.raises(MalformedMessageError):
        device.get_ad_selection_data("s.example", package="com.news", configuration=SellerConfiguration(20))


def test_without_a_key_nothing_is_sent() -> None:
    with pytest.raises(NoPublicKeyError):
        make(keys=False)[0].get_ad_selection_data("s.example", package="p")


def answered(device: Device, result: messages.AuctionResult) -> tuple[int, bytes]:
    asked = device.get_ad_selection_data("seller.example", package="com.news")
    _, context, _ = opened(asked)
    payload = gzip_compress(result.SerializeToString())
    frame = encode_client_frame(payload, compression=Compression.GZIP, size=padded_response_size(len(payload)))
    return asked.ad_selection_id, context.encapsulate_response(frame)


def winner(**changes: object) -> messages.AuctionResult:
    fields: dict[str, object] = {
        "ad_render_url": "https://ads.buyer.example/1",
        "interest_group_owner": BUYER,
        "score": 2.5,
        "ad_type": messages.AD_TYPE_PROTECTED_APP_SIGNALS_AD,
    }
    return messages.AuctionResult(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_winner_is_kept_once() -> None:
    device, _, _ = make()
    number, data = answered(device, winner())

    outcome = device.persist_ad_selection_result(number, data)

    assert (outcome.ad_render_uri, outcome.buyer, outcome.has_winner) == ("https://ads.buyer.example/1", BUYER, True)
    with pytest.raises(UnknownSelectionError):
        device.persist_ad_selection_result(number, data)


def test_chaff_is_no_winner() -> None:
    device, _, _ = make()
    outcome = device.persist_ad_selection_result(*answered(device, messages.AuctionResult(is_chaff=True)))

    assert not outcome.has_winner


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (messages.AuctionResult(error={"code": 400, "message": "no"}), "AuctionResult has an error: no"),
        (winner(ad_type=0), "AuctionResult type is unknown"),
        (winner(interest_group_owner=""), "Invalid object of Auction Result"),
        (winner(interest_group_owner="stranger.example"), "Invalid object of Auction Result"),
        (winner(ad_render_url="http://ads.buyer.example/1"), "Invalid object of Auction Result"),
        (winner(ad_render_url="https://evilbuyer.example/1"), "Invalid object of Auction Result"),
        (winner(ad_render_url="https://buyer.example.evil.com/1"), "Invalid object of Auction Result"),
        (winner(ad_render_url="https://buyer.example@evil.com/"), "Invalid object of Auction Result"),
        (winner(ad_render_url="https://evil.com\\.buyer.example/"), "Invalid object of Auction Result"),
        (winner(ad_render_url="https://evil.com\\@buyer.example/"), "Invalid object of Auction Result"),
        (winner(ad_render_url=""), "Invalid object of Auction Result"),
        (winner(bid=-1.0), "Invalid object of Auction Result"),
        (winner(score=-0.5), "Invalid object of Auction Result"),
        (winner(score=float("nan")), "Invalid object of Auction Result"),
    ],
)
def test_a_result_that_may_not_be_kept_has_its_text(result: messages.AuctionResult, text: str) -> None:
    device, _, _ = make(enrolment=Enrolment.of([AdTech(BUYER)]))

    with pytest.raises(AuctionResultError) as caught:
        device.persist_ad_selection_result(*answered(device, result))

    assert caught.value.what == text


def test_the_result_of_another_selection_does_not_open() -> None:
    device, _, _ = make()
    _, data = answered(device, winner())
    other = device.get_ad_selection_data("seller.example", package="com.news")

    with pytest.raises(AuctionResultError, match="cannot be read"):
        device.persist_ad_selection_result(other.ad_selection_id, data)


def test_a_thousand_beacons_in_all_are_kept_and_the_rest_dropped() -> None:
    device, _, _ = make()
    urls = {f"e{n}": "https://seller.example/e" for n in range(10)}
    theirs = {f"e{n}": "https://buyer.example/e" for n in range(10)}
    result = winner(
        win_reporting_urls={
            "top_level_seller_reporting_urls": {"interaction_reporting_urls": urls},
            "buyer_reporting_urls": {"interaction_reporting_urls": theirs},
        }
    )

    counts = [device.persist_ad_selection_result(*answered(device, result)).n_beacons for _ in range(51)]

    assert counts == [20] * 50 + [0]
    fresh = make()[0]
    kept = fresh.persist_ad_selection_result(*answered(fresh, result)).with_beacons_for(13)
    assert (len(kept.seller_urls.beacons), len(kept.buyer_urls.beacons)) == (10, 3)


def test_the_hourly_job_runs_once_an_hour_and_goes_on_after_a_failure() -> None:
    device, clock, runtime = make()
    broken = Device.open(None, web=Web(), clock=clock)
    for each in (broken, device):
        each.install_encoder(BUYER, "script")
        each.apply_update(BUYER, "com.news", update(b"x"))
    pauses_s: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses_s.append(seconds)
        clock.advance_ms(round(seconds * 1000))
        device.apply_update(BUYER, "com.news", update(b"y"))

    asyncio.run(run_hourly([broken, device], InsecureFixedRandom(1), sleep=sleep, rounds=3))

    assert runtime.calls == 3
    assert [pauses_s[n] + pauses_s[n + 1] for n in (0, 2, 4)] == [3600, 3600, 3600]
    assert all(3300 <= pause_s <= 3600 for pause_s in pauses_s[::2])
    assert len(set(pauses_s[::2])) == 3


def test_reporting_urls_of_others_and_too_many_beacons_are_dropped() -> None:
    device, _, _ = make()
    beacons = {f"event-{n:02}": f"https://buyer.example/{n}" for n in range(12)}
    beacons |= {"k" * 41: "https://buyer.example/k", "long": "https://buyer.example/" + "x" * 400}
    result = winner(
        win_reporting_urls={
            "buyer_reporting_urls": {
                "reporting_url": "https://tracker.example/w",
                "interaction_reporting_urls": {"aaa": "https://tracker.example/a", **beacons},
            },
            "top_level_seller_reporting_urls": {"reporting_url": "https://r.seller.example/w"},
        }
    )

    outcome = device.persist_ad_selection_result(*answered(device, result))

    assert outcome.buyer_urls.reporting_url == ""
    assert list(outcome.buyer_urls.beacons) == [f"event-{n:02}" for n in range(10)]
    assert outcome.seller_urls.reporting_url == "https://r.seller.example/w"


def test_an_expired_signal_is_not_encoded_though_no_maintenance_came_by() -> None:
    device, clock, _ = make()
    device.apply_update(BUYER, "com.news", update(b"old"))
    clock.advance_ms(1)
    device.apply_update(BUYER, "com.news", json.dumps({"put": {"AAAAAg==": base64.b64encode(b"new").decode()}}))
    device.install_encoder(BUYER, "code")
    clock.advance_ms(TIME_TO_LIVE_MS)

    assert encode(device) == {BUYER: Step.RUN}
    payload = device._store.payload(BUYER)
    assert payload is not None
    assert payload.data == b"new"
    clock.advance_ms(1)
    assert encode(device) == {BUYER: Step.DELETE_ENCODER}
    assert device._store.payload(BUYER) is None
