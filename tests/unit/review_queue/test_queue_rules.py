"""Permissions, clocks, records: rules without a database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adyton.kernel.ids import BuyerId
from adyton.review.queue.clocks import DAY_MS, MINUTE_MS, DeskRules, day_start_ms
from adyton.review.queue.errors import NotPermittedError, QueueInputError
from adyton.review.queue.permissions import MAY, Action, Role, require
from adyton.review.queue.records import Finding, Person, PersonId, Submission
from adyton.review.queue.states import QueueReason, Verdict

GOOD = Submission(
    buyer=BuyerId("shop.example"),
    creative_id="c1",
    title="Shoes",
    text="",
    render_url="https://shop.example/",
    market="US",
    countries=("US",),
    product_line="auction",
    value_per_click_micros=1,
    currency="USD",
)


def test_every_role_is_in_the_table_and_every_action_is_somebodys() -> None:
    assert set(MAY) == set(Role)
    assert frozenset().union(*MAY.values()) == frozenset(Action)


def test_an_auditor_changes_nothing() -> None:
    assert all(action.value.startswith("see_") or action is Action.EXPORT for action in MAY[Role.AUDITOR])


def test_an_advertiser_touches_only_what_is_its_own() -> None:
    assert MAY[Role.ADVERTISER].isdisjoint({Action.CLAIM, Action.DECIDE, Action.SEE_QUEUE, Action.SEE_EVENTS})


def test_a_refusal_names_who_may() -> None:
    with pytest.raises(NotPermittedError) as refused:
        require(Role.MODERATOR, Action.BULK_WITHDRAW)

    assert refused.value.hint == "ask somebody who is lead"


@pytest.mark.parametrize(
    "wrong",
    [
        {"render_url": "http://shop.example/"},
        {"render_url": "https:// x"},
        {"title": ""},
        {"title": "a\x00b"},
        {"text": "\ud800"},
        {"countries": ()},
        {"market": "United States"},
        {"currency": "usd"},
        {"value_per_click_micros": -1},
        {"value_per_click_micros": 2**60},
        {"severity": 4},
        {"work_milli": 0},
        {"buyer": "shop\n"},
    ],
)
def test_a_submission_that_cannot_be_used_is_not_born(wrong: dict[str, Any]) -> None:
    with pytest.raises(QueueInputError) as refused:
        replace(GOOD, **wrong)

    assert refused.value.where


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": Verdict.APPROVED},
        {"verdict": Verdict.LIMITED},
        {"min_age": 18},
        {"evidence": ""},
        {"label": "two words"},
        {"version": 0},
    ],
)
def test_a_finding_that_says_nothing_clear_is_not_born(wrong: dict[str, Any]) -> None:
    good = Finding("weapons", 1, Verdict.REJECTED, "a knife")
    with pytest.raises(QueueInputError):
        replace(good, **wrong)


def test_an_advertiser_has_a_buyer_and_nobody_else() -> None:
    with pytest.raises(QueueInputError):
        Person(PersonId("a"), Role.ADVERTISER)
    with pytest.raises(QueueInputError):
        Person(PersonId("a"), Role.LEAD, buyer=BuyerId("shop.example"))


def test_a_persons_day_begins_at_midnight_of_the_persons_calendar() -> None:
    now_ms = 20 * DAY_MS + 23 * 60 * MINUTE_MS

    assert day_start_ms(now_ms, 0) == 20 * DAY_MS
    assert day_start_ms(now_ms, 120) == 21 * DAY_MS - 120 * MINUTE_MS
    assert day_start_ms(now_ms, -60) == 20 * DAY_MS + 60 * MINUTE_MS


def test_a_report_is_due_before_a_new_ad() -> None:
    rules = DeskRules()

    assert rules.due_at_ms(QueueReason.REPORT, 0) < rules.due_at_ms(QueueReason.NEW, 0)


@pytest.mark.parametrize(
    "wrong", [{"claim_minutes": 0}, {"golden_one_in": -1}, {"punishment": -1.0}, {"due_minutes": {QueueReason.NEW: 1}}]
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(QueueInputError):
        DeskRules(**wrong)
