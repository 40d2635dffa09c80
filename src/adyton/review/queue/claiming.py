"""Giving ads to moderators: the next one by the pull index, an escalation by name, and taking back what is over.

No two people hold one ad, since a claim locks its row; nobody is told "empty" while an eligible ad waits, since the
book of waiting ads is brought up to date within the claim, and ads that another transaction has locked are waited for
before "empty" is said (its owner may vanish and give it back).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from adyton.kernel.chance import bernoulli
from adyton.kernel.ids import AdId
from adyton.review.queue import ad_store, golden, lifecycle
from adyton.review.queue.clocks import day_start_ms, is_claim_over
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import ClaimError, NotPermittedError, StoreUnavailableError
from adyton.review.queue.event_log import append
from adyton.review.queue.next_ad import Bar, bar
from adyton.review.queue.people import find_person
from adyton.review.queue.permissions import Action, Role, require
from adyton.review.queue.records import AdFile, Person
from adyton.review.queue.states import QueueReason, ReviewEvent, ReviewState, next_state
from adyton.review.queue.tables import ads
from adyton.review.queue.waiting_book import Look
from adyton.review.queue.waiting_reader import refresh

_MAX_LOOKS = 500
_FEW = 64
"""So many of the best ads are tried before all of them are ranked."""
DISAGREEMENTS = "disagreement"
"""The escalation queue of ads on which two opinions differ; every lead serves it, but not for its own opinion."""


@dataclass(frozen=True)
class Claim:
    """An ad in somebody's hands. token: to be shown with every step.   expires_at_ms: None: does not time out.
    exposure_left: severity points left of the day's budget, this ad counted."""

    ad: AdFile
    token: str = field(repr=False)
    expires_at_ms: int | None
    exposure_left: int


@dataclass(frozen=True)
class NothingWaits:
    """No ad for this moderator. barred: how many ads of the markets wait that are not for this person, and why."""

    barred: Mapping[Bar, int]
    exposure_left: int


def claim_next(desk: Desk, actor: Person) -> Claim | NothingWaits:
    """The ad that the actor works on: the one already claimed, or else the best one that waits.

    A double click or a lost reply therefore gives the same ad and token again.
    Raises NotPermittedError, StoreUnavailableError (busy for longer than the rules allow; never for "empty").
    """
    require(actor.role, Action.CLAIM)
    with desk.writing() as tx:
        # One claim at a time: two clicks of one person wait for each other here.
        person = find_person(tx, actor.person_id, is_locked=True)
        exposure_left = left_of_budget(tx, person)
        current = ad_store.active_claim(tx, person.person_id)
        if current is not None:
            return _as_claim(current, exposure_left)
        is_golden = tx.rules.golden_one_in > 0 and bernoulli(tx.random, 1, tx.rules.golden_one_in)
        copy = golden.copy_for(tx, person, exposure_left) if is_golden else None
        if copy is not None:
            return _claim(tx, copy, person)
        return _claim_best(tx, person, exposure_left)


def _claim_best(tx: Tx, person: Person, exposure_left: int) -> Claim | NothingWaits:
    for _ in range(_MAX_LOOKS):
        for most in (_FEW, None):
            look = _look(tx, person, exposure_left, most)
            if not look.ad_ids:
                return NothingWaits(look.barred, exposure_left)
            ad = ad_store.lock_first(tx, look.ad_ids, is_patient=False)
            if ad is not None or len(look.ad_ids) < _FEW:
                break
        if ad is None:
            # All are locked by others at this moment: wait for the best one rather than say "empty", then look anew.
            ad = ad_store.lock_first(tx, look.ad_ids[:1], is_patient=True)
        if ad is not None and _is_for(tx, ad, person, exposure_left):
            return _claim(tx, ad, person)
    raise StoreUnavailableError("too many claims at once", hint="try again")


def _look(tx: Tx, person: Person, exposure_left: int, most: int | None) -> Look:
    with tx.book.lock:
        refresh(tx)
        wanted = len(tx.book) if most is None else most
        return tx.book.look(person, tx.rules, tx.now_ms, exposure_left=exposure_left, most=max(1, wanted))


def _is_for(tx: Tx, ad: AdFile, person: Person, exposure_left: int) -> bool:
    """Whether the locked ad is for this person: it may have changed since the look at what waits."""
    judged = ad_store.judged_round(tx, ad.ad_id, person.person_id)
    reason = bar(
        is_skipped=ad_store.skipped_round(tx, ad.ad_id, person.person_id) == ad.round,
        has_judged=judged is not None and (ad.reason is QueueReason.APPEAL or judged == ad.round),
        severity=ad.severity,
        exposure_left=exposure_left,
    )
    return reason is None and ad.market in person.markets


def exposure_left(desk: Desk, actor: Person) -> int:
    """Severity points of hard content that the actor may still see today."""
    require(actor.role, Action.CLAIM)
    with desk.reading() as tx:
        return left_of_budget(tx, actor)


def left_of_budget(tx: Tx, person: Person) -> int:
    """Severity points that the person may still see today, never negative."""
    since_ms = day_start_ms(tx.now_ms, person.utc_offset_minutes)
    return max(0, person.exposure_budget - ad_store.exposure_since(tx, person.person_id, since_ms))


def _claim(tx: Tx, ad: AdFile, person: Person, *, is_timed: bool = True) -> Claim:
    before = ad
    if is_claim_over(ad, tx.now_ms):
        ad = take_back(tx, ad)
    after = lifecycle.claimed(ad, person.person_id, tx.new_secret(), tx.now_ms, tx.rules, is_timed=is_timed)
    ad_store.save(tx, before, after)
    ad_store.add_exposure(tx, after, person.person_id)
    append(tx, ReviewEvent.CLAIM.value, person.person_id, ad=after, token=after.claim_token)
    return _as_claim(after, left_of_budget(tx, person))


def _as_claim(ad: AdFile, exposure_left: int) -> Claim:
    assert ad.claim_token is not None, "a claimed ad has a token"
    return Claim(ad, ad.claim_token, ad.claim_expires_at_ms, exposure_left)


def take_back(tx: Tx, ad: AdFile) -> AdFile:
    """The file without the claim that is over; the caller saves it."""
    after = lifecycle.moved(ad, ReviewEvent.LOSE_CLAIM, tx.now_ms, tx.rules)
    append(tx, ReviewEvent.LOSE_CLAIM.value, None, ad=after, token=ad.claim_token, why="the lock or hold ended")
    return after


def take_escalation(desk: Desk, actor: Person, ad_id: AdId) -> Claim:
    """An escalated ad for the person or queue that it was escalated to, or for any lead; it never times out.

    Raises UnknownRecordError, NotPermittedError, ClaimError (somebody else has it), TransitionError.
    """
    require(actor.role, Action.TAKE_ESCALATION)
    with desk.writing() as tx:
        person = find_person(tx, actor.person_id, is_locked=True)
        ad = ad_store.find_ad(tx, ad_id, is_locked=True)
        check_may_take(ad, person)
        if ad.assigned_queue == DISAGREEMENTS and ad_store.judged_round(tx, ad.ad_id, person.person_id) is not None:
            raise NotPermittedError("you gave one of the opinions that differ", hint="leave it to another lead")
        if ad.claim_holder == person.person_id:
            return _as_claim(ad, left_of_budget(tx, person))
        return _claim(tx, ad, person, is_timed=False)


def check_may_take(ad: AdFile, person: Person) -> None:
    """Nothing, if the escalation is this person's to take. A lead may take any that is not in somebody's hands.

    Raises UnknownRecordError, NotPermittedError, ClaimError, TransitionError.
    """
    is_addressed = ad.assigned_person == person.person_id or (ad.assigned_queue in person.queues)
    if person.role is not Role.LEAD and not is_addressed:
        raise ad_store.unknown_ad()
    if ad.state is not ReviewState.ESCALATED:
        next_state(ad.state, ReviewEvent.CLAIM, ad.verdict)
        raise NotPermittedError("only an escalated ad is taken by name", hint="ask for the next ad instead")
    if ad.claim_holder not in (None, person.person_id):
        raise ClaimError("somebody else has this escalation", hint="escalate it again to take it over")


def escalations_for(desk: Desk, actor: Person) -> list[AdFile]:
    """The escalated ads that the actor may take or has, by id."""
    require(actor.role, Action.TAKE_ESCALATION)
    condition = ads.c.state == ReviewState.ESCALATED
    if actor.role is not Role.LEAD:
        is_mine = sa.or_(ads.c.assigned_person == actor.person_id, ads.c.assigned_queue.in_(actor.queues))
        condition = sa.and_(condition, is_mine)
    with desk.reading() as tx:
        return ad_store.list_ads(tx, condition, limit=500)


def sweep(desk: Desk, *, limit: int = 500) -> tuple[int, int]:
    """Takes back claims and holds that are over and ends ads whose own end has come; how many of each.

    Claims do not wait for it: `claim_next` gives an ad whose lock has ended without it. Run it every few seconds, so
    that lists and clocks are right as well.
    """
    with desk.writing() as tx:
        is_past = sa.and_(
            ads.c.expires_at_ms <= tx.now_ms,
            sa.or_(
                ads.c.state.not_in((ReviewState.DECIDED, ReviewState.ESCALATED)),
                sa.and_(ads.c.state == ReviewState.DECIDED, ads.c.may_serve),
            ),
        )
        expired = ad_store.lock_many(tx, is_past, limit=limit, skip_locked=True)
        for before in expired:
            after = lifecycle.ended(before, ReviewEvent.EXPIRE, tx.now_ms, tx.rules)
            ad_store.save(tx, before, after)
            append(tx, ReviewEvent.EXPIRE.value, None, ad=after, why="the ad's own end has come")
    with desk.writing() as tx:
        is_over = sa.and_(
            ads.c.claim_expires_at_ms <= tx.now_ms,
            ads.c.state.in_((ReviewState.CLAIMED, ReviewState.HELD, ReviewState.SECOND_REVIEW)),
        )
        lost = ad_store.lock_many(tx, is_over, limit=limit, skip_locked=True)
        for before in lost:
            after = take_back(tx, before)
            if before.golden_id is not None:
                after = lifecycle.ended(after, ReviewEvent.WITHDRAW, tx.now_ms, tx.rules)
            ad_store.save(tx, before, after)
    return len(lost), len(expired)
