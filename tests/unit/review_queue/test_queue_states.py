"""The state table is total, and says what the documents say."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from adyton.review.queue.errors import TransitionError
from adyton.review.queue.states import (
    NEW_CLOCK,
    TRANSITIONS,
    WHEN_DECIDED,
    QueueReason,
    ReviewEvent,
    ReviewState,
    Verdict,
    next_state,
    reference_page,
    worst,
)

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("state", "event", "verdict"), list(product(ReviewState, ReviewEvent, Verdict)))
def test_every_combination_moves_or_is_refused_in_words(
    state: ReviewState, event: ReviewEvent, verdict: Verdict
) -> None:
    is_allowed = (state, event) in TRANSITIONS and (state is not ReviewState.DECIDED or verdict in WHEN_DECIDED[event])
    if is_allowed:
        assert next_state(state, event, verdict) is TRANSITIONS[state, event]
    else:
        with pytest.raises(TransitionError, match=r"^an ad ") as refused:
            next_state(state, event, verdict)
        assert refused.value.hint


def test_every_state_is_reachable_and_can_be_left() -> None:
    reached = {ReviewState.SUBMITTED}
    for _ in ReviewState:
        reached |= {target for (state, _), target in TRANSITIONS.items() if state in reached}

    assert reached == set(ReviewState)
    for state in ReviewState:
        assert any(source is state and target is not state for (source, _), target in TRANSITIONS.items())


def test_every_event_is_used_and_every_state_has_words() -> None:
    assert {event for _, event in TRANSITIONS} == set(ReviewEvent)
    assert all(state.in_words() for state in ReviewState)


def test_every_event_of_a_decided_ad_names_its_verdicts() -> None:
    from_decided = {event for state, event in TRANSITIONS if state is ReviewState.DECIDED}

    assert from_decided == set(WHEN_DECIDED)


def test_new_clocks_lead_to_the_queue_and_cover_every_reason() -> None:
    assert set(NEW_CLOCK.values()) == set(QueueReason)
    for event in NEW_CLOCK:
        assert {target for (_, one), target in TRANSITIONS.items() if one is event} == {ReviewState.QUEUED}


def test_an_escalation_never_times_out() -> None:
    assert (ReviewState.ESCALATED, ReviewEvent.LOSE_CLAIM) not in TRANSITIONS
    assert (ReviewState.ESCALATED, ReviewEvent.EXPIRE) not in TRANSITIONS


@pytest.mark.parametrize("verdict", [Verdict.WITHDRAWN, Verdict.EXPIRED, Verdict.NONE])
def test_nothing_happens_to_an_ad_that_is_withdrawn_or_expired(verdict: Verdict) -> None:
    for event in ReviewEvent:
        with pytest.raises(TransitionError):
            next_state(ReviewState.DECIDED, event, verdict)


def test_the_worst_finding_wins() -> None:
    assert worst([]) is Verdict.APPROVED
    assert worst([Verdict.LIMITED]) is Verdict.LIMITED
    assert worst([Verdict.LIMITED, Verdict.REJECTED, Verdict.LIMITED]) is Verdict.REJECTED


@pytest.mark.parametrize("verdict", [Verdict.NONE, Verdict.WITHDRAWN, Verdict.EXPIRED])
def test_a_finding_cannot_say_what_is_no_judgement(verdict: Verdict) -> None:
    with pytest.raises(TransitionError):
        worst([verdict])


def test_the_reference_page_is_the_table() -> None:
    page = (ROOT / "docs/reference/review-states.md").read_text()

    assert page == reference_page()
