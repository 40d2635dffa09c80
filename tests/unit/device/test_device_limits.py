"""The numbers of protected-auction §2-§4 and §13, and what happens on both sides of each edge."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from adyton.device import device as device_module
from adyton.device import encoding, public_keys, reporting, schedule, signals, web
from adyton.device.auction import AdSelectionOutcome, AuctionPolicy
from adyton.device.device import Device
from adyton.device.encoding import needs_refresh
from adyton.device.enrolment import AdTech, Enrolment
from adyton.device.errors import AuctionResultError, RateExceededError, UnknownSelectionError, UpdateUriError
from adyton.device.records import EncodedPayload, Encoder
from adyton.device.web import Web
from adyton.kernel.clock import ManualClock
from adyton.kernel.ids import BuyerId
from adyton.protocol import signal_updates
from adyton.protocol.compression import gzip_compress
from adyton.protocol.frames import Compression, decode_client_frame, encode_client_frame, padded_response_size
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.ohttp import ServerContext, decapsulate_request

BUYER = BuyerId("buyer.example")
DAY_MS = 24 * 3_600_000


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("connect timeout", web.CONNECT_TIMEOUT_S, 5.0),
        ("read timeout", web.READ_TIMEOUT_S, 5.0),
        ("largest update", signal_updates.MAX_UPDATE_BYTES, 10_240),
        ("updates of one app", device_module.MIN_UPDATE_INTERVAL_S, 1.0),
        ("time to live", signals.TIME_TO_LIVE_MS, 5_184_000_000),
        ("encoder job", encoding.JOB_PERIOD_MS, 3_600_000),
        ("its flex", schedule.FLEX_MS, 300_000),
        ("time of a script", encoding.SCRIPT_TIMEOUT_MS, 5_000),
        ("largest payload", encoding.MAX_PAYLOAD_BYTES, 1536),
        ("largest script", encoding.MAX_SCRIPT_BYTES, 1_048_576),
        ("key fetch", public_keys.KEY_FETCH_TIMEOUT_S, 3.0),
        ("report", reporting.REPORT_TIMEOUT_S, 2.0),
    ],
)
def test_limits_that_take_long_to_reach_are_those_of_the_specification(name: str, found: float, wanted: float) -> None:
    assert found == wanted


def make(
    *, ad_techs: dict[str, AdTech] | None = None, policy: AuctionPolicy | None = None
) -> tuple[Device, ManualClock]:
    clock = ManualClock(10**12)
    enrolment = Enrolment(is_enforced=False) if ad_techs is None else Enrolment(ad_techs=ad_techs)
    keys = [TEST_MODE_KEY.public_key]
    return Device.open(None, web=Web(), clock=clock, enrolment=enrolment, public_keys=keys, policy=policy), clock


def store_payload(device: Device, clock: ManualClock, buyer: BuyerId) -> None:
    device._store.store_payload(EncodedPayload(buyer, b"abc", 1, clock.now_ms(), 1, 1))


def asked(device: Device) -> tuple[int, messages.ProtectedAuctionInput, ServerContext]:
    data = device.get_ad_selection_data("seller.example", package="com.news")
    plaintext, context = decapsulate_request(KeyRing.test_mode(), data.data)
    frame = decode_client_frame(plaintext, read_compression=False)
    return data.ad_selection_id, messages.ProtectedAuctionInput.FromString(frame.payload), context


def kept(device: Device, **members: object) -> AdSelectionOutcome:
    """What the device keeps of a won auction's result with these members."""
    number, _, context = asked(device)
    fields: dict[str, object] = {"ad_render_url": "https://buyer.example/1", "interest_group_owner": BUYER, **members}
    fields |= {"score": 1.0, "ad_type": messages.AD_TYPE_PROTECTED_APP_SIGNALS_AD}
    payload = gzip_compress(messages.AuctionResult(**fields).SerializeToString())  # type: ignore[arg-type]
    frame = encode_client_frame(payload, compression=Compression.GZIP, size=padded_response_size(len(payload)))
    return device.persist_ad_selection_result(number, context.encapsulate_response(frame))


def test_one_update_a_second_and_app_counted_from_the_last_one() -> None:
    device, clock = make()

    async def ask(package: str) -> None:
        with pytest.raises(UpdateUriError):  # allowed to ask, and told what is wrong with the URI
            await device.update_signals("http://buyer.example/", package=package)

    async def work() -> None:
        await ask("com.news")
        await ask("com.other")
        clock.advance_ms(999)
        with pytest.raises(RateExceededError):
            await device.update_signals("http://buyer.example/", package="com.news")
        clock.advance_ms(1)
        await ask("com.news")

    asyncio.run(work())


def test_a_script_is_refreshed_when_it_is_older_than_a_day() -> None:
    encoder = Encoder(BUYER, "https://buyer.example/e.js", "code", 1, 1_000, 1_000, 0, 1)

    assert not needs_refresh(encoder, 1_000 + DAY_MS)
    assert needs_refresh(encoder, 1_000 + DAY_MS + 1)


def test_sixty_days_old_signals_payloads_and_scripts_stay_and_older_ones_go() -> None:
    device, clock = make()
    device.apply_update(BUYER, "com.news", json.dumps({"put": {"AAAAAQ==": base64.b64encode(b"x").decode()}}))
    device.install_encoder(BUYER, "code")
    store_payload(device, clock, BUYER)

    def present() -> tuple[bool, bool, bool]:
        device.maintain()
        store = device._store
        return bool(store.signals(BUYER)), store.payload(BUYER) is not None, store.encoder(BUYER) is not None

    clock.advance_ms(60 * DAY_MS)
    assert present() == (True, True, True)
    assert asked(device)[1].buyer_input.keys() == {BUYER}
    clock.advance_ms(1)
    assert asked(device)[1].buyer_input.keys() == set()
    assert present() == (False, False, False)


def test_a_payload_and_a_script_age_by_their_own_dates() -> None:
    device, clock = make()
    device.install_encoder(BUYER, "code")
    store_payload(device, clock, BUYER)
    clock.advance_ms(DAY_MS)
    device.apply_update(BUYER, "com.news", json.dumps({"put": {"AAAAAQ==": base64.b64encode(b"x").decode()}}))
    clock.advance_ms(59 * DAY_MS + 1)
    device.maintain()

    assert device._store.payload(BUYER) is None
    assert device._store.encoder(BUYER) is None
    assert device._store.signals(BUYER)


def test_an_ad_tech_that_left_the_registry_is_in_no_input_and_wins_nothing() -> None:
    ad_techs = {"buyer.example": AdTech(BUYER)}
    device, clock = make(ad_techs=ad_techs)
    store_payload(device, clock, BUYER)
    assert asked(device)[1].buyer_input.keys() == {BUYER}
    assert kept(device).buyer == BUYER

    ad_techs.clear()

    assert asked(device)[1].buyer_input.keys() == set()
    with pytest.raises(AuctionResultError, match="Invalid object of Auction Result"):
        kept(device)


def test_maintenance_deletes_what_a_blocked_app_still_holds_and_selections_of_yesterday() -> None:
    device, clock = make()
    device.apply_update(BUYER, "com.news", json.dumps({"put": {"AAAAAQ==": base64.b64encode(b"x").decode()}}))
    number = kept(device).ad_selection_id
    device._store.set_blocked("com.news", True)  # as in a store that came from a backup
    clock.advance_ms(DAY_MS)
    device.maintain()

    assert device.list_signals() == []
    assert asyncio.run(device.report_impression(number)).sent == ()
    clock.advance_ms(1)
    device.maintain()
    with pytest.raises(UnknownSelectionError):
        asyncio.run(device.report_impression(number))


def test_the_first_permitted_call_of_an_app_is_its_consent_until_a_reset() -> None:
    device, clock = make()
    update = json.dumps({"put": {"AAAAAQ==": base64.b64encode(b"x").decode()}})

    def consents() -> dict[str, int | None]:
        return {use.package: use.consented_at_ms for use in device.list_apps()}

    first_ms = clock.now_ms()
    device.apply_update(BUYER, "com.news", update)
    clock.advance_ms(1000)
    device.apply_update(BUYER, "com.news", update)
    device.block_app("com.shop")
    device.apply_update(BUYER, "com.shop", update)
    assert consents() == {"com.news": first_ms, "com.shop": None}

    device.block_app("com.news")
    device.reset()
    assert consents() == {"com.news": None, "com.shop": None}


def test_debug_settings_reach_the_input() -> None:
    for prod, reporting_on in ((True, False), (False, True)):
        policy = AuctionPolicy(prod_debug=prod, enable_debug_reporting=reporting_on)
        _, message, _ = asked(make(policy=policy)[0])
        assert (message.prod_debug, message.enable_debug_reporting) == (prod, reporting_on)


@pytest.mark.parametrize(
    ("key", "url", "is_kept"),
    [
        ("k" * 40, "https://buyer.example/", True),
        ("k" * 41, "https://buyer.example/", False),
        ("ü" * 20, "https://buyer.example/", True),
        ("ü" * 20 + "k", "https://buyer.example/", False),
        ("k", "https://buyer.example/".ljust(400, "x"), True),
        ("k", "https://buyer.example/".ljust(401, "x"), False),
    ],
)
def test_a_beacons_key_has_at_most_40_bytes_and_its_url_400(key: str, url: str, is_kept: bool) -> None:
    urls = {"buyer_reporting_urls": {"interaction_reporting_urls": {key: url}}}

    outcome = kept(make()[0], win_reporting_urls=urls)

    assert dict(outcome.buyer_urls.beacons) == ({key: url} if is_kept else {})
