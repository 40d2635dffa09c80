"""An app must not learn from a call whether its user opted out or blocked it; and who may call at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from adyton.device.device import Device
from adyton.device.enrolment import AdTech, App, Enrolment
from adyton.device.errors import (
    AdTechServerError,
    BackgroundCallerError,
    DelegationError,
    NotAllowedError,
    RateExceededError,
    UnknownSelectionError,
    UpdateUriError,
)
from adyton.device.web import Web
from adyton.kernel.clock import ManualClock
from adyton.kernel.errors import AdytonError
from adyton.kernel.ids import BuyerId
from adyton.protocol.keys import TEST_MODE_KEY

BUYER, OTHER = BuyerId("buyer.example"), BuyerId("other.example")
ENROLMENT = Enrolment.of(
    [AdTech(BUYER), AdTech(OTHER)], [App("com.news", uid=7, ad_techs=frozenset({BUYER})), App("com.shop", uid=8)]
)
CHOICES: dict[str, Callable[[Device], None]] = {
    "none": lambda device: None,
    "opted out": lambda device: device.opt_out(),
    "blocked": lambda device: device.block_app("com.news"),
}


def make(*, enforce_foreground: bool = False) -> tuple[Device, ManualClock]:
    clock = ManualClock(10**12)
    # Nothing listens there: a device that fetches fails, and one that keeps silent does not.
    web = Web(routes={BUYER: "http://127.0.0.1:9", OTHER: "http://127.0.0.1:9"})
    device = Device.open(
        None,
        web=web,
        clock=clock,
        enrolment=ENROLMENT,
        public_keys=[TEST_MODE_KEY.public_key],
        enforce_foreground=enforce_foreground,
    )
    return device, clock


def called(device: Device, **arguments: object) -> type[AdytonError] | None:
    given: dict[str, object] = {"update_uri": "https://buyer.example/u", "package": "com.news", **arguments}
    try:
        asyncio.run(device.update_signals(**given))  # type: ignore[arg-type]
    except AdytonError as error:
        return type(error)
    return None


@pytest.mark.parametrize("choice", CHOICES)
def test_every_refusal_is_the_same_whatever_the_user_chose(choice: str) -> None:
    cases: list[tuple[dict[str, object], type[AdytonError]]] = [
        ({"uid": 8}, NotAllowedError),
        ({"update_uri": "http://buyer.example/u"}, UpdateUriError),
        ({"update_uri": "https://stranger.example/u"}, NotAllowedError),
        ({"update_uri": "https://other.example/u"}, NotAllowedError),
        ({"update_uri": "https://partner.example/u", "buyer": BUYER}, DelegationError),
        ({"is_foreground": False}, BackgroundCallerError),
    ]
    for arguments, expected in cases:
        device, _ = make(enforce_foreground=True)
        CHOICES[choice](device)
        assert called(device, **arguments) is expected

    device, clock = make()
    CHOICES[choice](device)
    silent = choice != "none"
    assert called(device) is (None if silent else AdTechServerError)
    assert called(device) is RateExceededError
    clock.advance_ms(1000)
    assert called(device) is (None if silent else AdTechServerError)


def test_the_background_is_refused_only_where_the_foreground_is_enforced() -> None:
    device, _ = make()
    assert called(device, is_foreground=False) is AdTechServerError
    device, _ = make(enforce_foreground=True)
    assert called(device, is_foreground=True) is AdTechServerError


@pytest.mark.parametrize("choice", ["opted out", "blocked"])
def test_a_result_for_random_bytes_is_no_winner_and_reports_nothing(choice: str) -> None:
    device, _ = make()
    CHOICES[choice](device)
    asked = device.get_ad_selection_data("seller.example", package="com.news")

    outcome = device.persist_ad_selection_result(asked.ad_selection_id, b"whatever a seller answers")

    assert (outcome.ad_selection_id, outcome.has_winner) == (asked.ad_selection_id, False)
    assert asyncio.run(device.report_impression(asked.ad_selection_id)).sent == ()
    assert asyncio.run(device.report_event(asked.ad_selection_id, "click")).failed == ()


def test_opting_out_between_request_and_result_is_no_winner_either() -> None:
    device, _ = make()
    asked = device.get_ad_selection_data("seller.example", package="com.news")
    device.opt_out()

    assert not device.persist_ad_selection_result(asked.ad_selection_id, b"late").has_winner
    assert asyncio.run(device.report_impression(asked.ad_selection_id)).sent == ()
    device.opt_in()
    with pytest.raises(UnknownSelectionError):
        device.persist_ad_selection_result(asked.ad_selection_id + 1, b"of another device")
