"""What the holder of a claim does: decide, hold, resume, release, skip, escalate.

Every step shows the claim's token. The same request again (a double click, a lost reply) changes nothing and gives the
same answer; a token that is over, or a step that cannot follow, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from adyton.kernel.canonical import Json
from adyton.kernel.chance import bernoulli
from adyton.kernel.ids import AdId
from adyton.review.queue import ad_store, lifecycle, quality
from adyton.review.queue.claiming import DISAGREEMENTS
from adyton.review.queue.clocks import MINUTE_MS
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import ClaimError, QueueInputError, TransitionError
from adyton.review.queue.event_log import append, request_hash, was_done
from adyton.review.queue.golden import expected_verdict
from adyton.review.queue.people import find_person
from adyton.review.queue.permissions import Action, Role, require
from adyton.review.queue.policy_book import check_judgement
from adyton.review.queue.quality import MarkSource
from adyton.review.queue.records import (
    AdFile,
    Finding,
    Judgement,
    Opinion,
    Person,
    PersonId,
    check_name,
    check_number,
    check_text,
)
from adyton.review.queue.states import QueueReason, ReviewEvent, ReviewState, next_state


def decide(desk: Desk, actor: Person, ad_id: AdId, token: str, judgement: Judgement) -> AdFile:
    """The file after the judgement: decided, waiting for a second opinion, or escalated because two opinions differ.

    Raises ClaimError, QueueInputError (a finding names no current policy), NotPermittedError, UnknownRecordError.
    """

    def step(tx: Tx, ad: AdFile, wanted: str) -> AdFile:
        check_judgement(tx, actor, judgement)
        # Opinions of an escalation that went back and forth may come from the same person: the last one counts.
        earlier = ad_store.opinions_of(tx, ad)
        if any(one.person_id == actor.person_id and one.round == ad.round for one in earlier):
            ad_store.replace_opinion(tx, ad, actor.person_id, judgement)
        else:
            ad_store.add_opinion(tx, ad, actor.person_id, judgement)
        others = tuple(one for one in earlier if one.round == ad.round and one.person_id != actor.person_id)
        if ad.state is ReviewState.SECOND_REVIEW and others[-1].verdict is not judgement.verdict:
            after = lifecycle.moved(ad, ReviewEvent.ESCALATE, tx.now_ms, tx.rules)
            after = replace(after, assigned_queue=DISAGREEMENTS, assigned_person=None)
            append(
                tx,
                ReviewEvent.ESCALATE.value,
                actor.person_id,
                ad=after,
                token=ad.claim_token,
                why="the second opinion differs from the first",
                request_hash=wanted,
                details=judgement.as_json(),
            )
            return after
        if _wants_second(tx, ad):
            after = lifecycle.moved(ad, ReviewEvent.ASK_SECOND, tx.now_ms, tx.rules)
            append(
                tx,
                ReviewEvent.ASK_SECOND.value,
                actor.person_id,
                ad=after,
                token=ad.claim_token,
                why="drawn for a second opinion",
                request_hash=wanted,
                details=judgement.as_json(),
            )
            return after
        return _settle(tx, ad, actor, judgement, others, earlier, wanted)

    body = judgement.as_json()
    return _with_claim(desk, actor, ad_id, token, Action.DECIDE, ReviewEvent.DECIDE, body, step)


def _wants_second(tx: Tx, ad: AdFile) -> bool:
    if ad.golden_id is not None or ad.state not in (ReviewState.CLAIMED, ReviewState.HELD):
        return False
    return tx.rules.second_one_in > 0 and bernoulli(tx.random, 1, tx.rules.second_one_in)


def _settle(
    tx: Tx,
    ad: AdFile,
    actor: Person,
    judgement: Judgement,
    others: tuple[Opinion, ...],
    earlier: tuple[Opinion, ...],
    wanted: str,
) -> AdFile:
    """The decided file; marks everybody whose opinion this decision confirms or overturns."""
    is_second = ad.state is ReviewState.SECOND_REVIEW
    findings = _merged(others[-1].findings, judgement.findings) if is_second else judgement.findings
    after = lifecycle.decided(ad, findings, tx.now_ms, tx.rules)
    # The content is part of the link, so that it proves *what* was approved.
    details = {
        **judgement.as_json(),
        "creative_id": ad.creative_id,
        "render_url": ad.render_url,
        "content_version": ad.content_version,
    }
    entry = append(
        tx,
        ReviewEvent.DECIDE.value,
        actor.person_id,
        ad=after,
        token=ad.claim_token,
        request_hash=wanted,
        details=details,
    )
    source = MarkSource.ESCALATION if ad.state is ReviewState.ESCALATED else MarkSource.SECOND_REVIEW
    for opinion in others:
        quality.mark(tx, ad, opinion, after.verdict, source)
    if ad.reason is QueueReason.APPEAL:
        for opinion in earlier:
            if opinion.round == ad.round - 1:
                quality.mark(tx, ad, opinion, after.verdict, MarkSource.APPEAL)
    if ad.golden_id is not None:
        own = Opinion(ad.ad_id, ad.round, actor.person_id, tx.now_ms, judgement.verdict, judgement.findings, "")
        quality.mark(tx, ad, own, expected_verdict(tx, ad.golden_id), MarkSource.GOLDEN)
    return replace(after, decision_hash=entry.entry_hash)


def _merged(first: tuple[Finding, ...], second: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What either of two agreeing people found; the first one's words where both name a policy and limit it alike."""
    return first + tuple(one for one in second if one.label not in {other.label for other in first})


def hold(desk: Desk, actor: Person, ad_id: AdId, token: str, minutes: int, why: str) -> AdFile:
    """The file while the actor keeps the ad past the lock to ask for help; other ads may be claimed meanwhile."""
    check_number(minutes, "minutes", least=1, most=desk.rules.max_hold_minutes)
    check_text(why, "why", least=1, most=2_000)

    def step(tx: Tx, ad: AdFile, wanted: str) -> AdFile:
        after = lifecycle.held(ad, minutes, tx.now_ms, tx.rules)
        details: dict[str, Json] = {"minutes": minutes}
        append(
            tx,
            ReviewEvent.HOLD.value,
            actor.person_id,
            ad=after,
            token=token,
            why=why,
            request_hash=wanted,
            details=details,
        )
        return after

    body: dict[str, Json] = {"minutes": minutes, "why": why}
    return _with_claim(desk, actor, ad_id, token, Action.HOLD, ReviewEvent.HOLD, body, step)


def resume(desk: Desk, actor: Person, ad_id: AdId, token: str) -> AdFile:
    """The file with a new lock. Raises ClaimError also while the actor works on another ad."""

    def step(tx: Tx, ad: AdFile, wanted: str) -> AdFile:
        if ad_store.active_claim(tx, actor.person_id) is not None:
            raise ClaimError("you work on another ad", hint="decide, hold or release that one first")
        after = lifecycle.resumed(ad, tx.now_ms, tx.rules)
        append(tx, ReviewEvent.RESUME.value, actor.person_id, ad=after, token=token, request_hash=wanted)
        return after

    return _with_claim(desk, actor, ad_id, token, Action.HOLD, ReviewEvent.RESUME, {}, step)


def release(desk: Desk, actor: Person, ad_id: AdId, token: str) -> AdFile:
    """The file after the actor gave the ad back."""

    def step(tx: Tx, ad: AdFile, wanted: str) -> AdFile:
        return _give_back(tx, ad, actor, ReviewEvent.RELEASE, "", wanted)

    return _with_claim(desk, actor, ad_id, token, Action.RELEASE, ReviewEvent.RELEASE, {}, step)


def skip(desk: Desk, actor: Person, ad_id: AdId, token: str, why: str) -> AdFile:
    """The file after the actor gave the ad back, hidden from the actor only, for this round."""
    check_text(why, "why", least=1, most=2_000)

    def step(tx: Tx, ad: AdFile, wanted: str) -> AdFile:
        after = _give_back(tx, ad, actor, ReviewEvent.SKIP, why, wanted)
        ad_store.add_skip(tx, ad, actor.person_id)
        return after

    return _with_claim(desk, actor, ad_id, token, Action.SKIP, ReviewEvent.SKIP, {"why": why}, step)


def _give_back(tx: Tx, ad: AdFile, actor: Person, event: ReviewEvent, why: str, wanted: str) -> AdFile:
    after = lifecycle.moved(ad, event, tx.now_ms, tx.rules)
    if ad.golden_id is not None:
        # A copy of a golden item was made for one person; nobody else gets it.
        after = lifecycle.ended(after, ReviewEvent.WITHDRAW, tx.now_ms, tx.rules)
    append(tx, event.value, actor.person_id, ad=after, token=ad.claim_token, why=why, request_hash=wanted)
    return after


def escalate(
    desk: Desk,
    actor: Person,
    ad_id: AdId,
    why: str,
    *,
    person: PersonId | None = None,
    queue: str | None = None,
    token: str | None = None,
) -> AdFile:
    """The file, waiting for one named person or one queue until somebody decides it; it never times out.

    token: of the actor's claim; a lead needs none for an ad that is queued or already escalated.
    Raises QueueInputError (not exactly one addressee, or one who cannot judge), ClaimError, TransitionError.
    """
    check_text(why, "why", least=1, most=2_000)
    if (person is None) == (queue is None):
        raise QueueInputError("escalate to a person or to a queue", where="person, queue")
    if queue is not None:
        check_name(queue, "queue")

    def step(tx: Tx, ad: AdFile, wanted: str) -> AdFile:
        if person is not None:
            addressee = find_person(tx, person)
            if not addressee.is_active or addressee.role not in (Role.MODERATOR, Role.LEAD):
                raise QueueInputError("this person cannot judge ads", where="person")
            is_first = any(one.person_id == person and one.round == ad.round for one in ad_store.opinions_of(tx, ad))
            if is_first:
                raise QueueInputError("this person has already judged the ad in this round", where="person")
        after = lifecycle.moved(ad, ReviewEvent.ESCALATE, tx.now_ms, tx.rules)
        after = replace(after, assigned_person=person, assigned_queue=queue)
        details: dict[str, Json] = {"person": person, "queue": queue}
        append(
            tx,
            ReviewEvent.ESCALATE.value,
            actor.person_id,
            ad=after,
            token=ad.claim_token,
            why=why,
            request_hash=wanted,
            details=details,
        )
        return after

    body: dict[str, Json] = {"person": person, "queue": queue, "why": why}
    return _with_claim(desk, actor, ad_id, token, Action.ESCALATE, ReviewEvent.ESCALATE, body, step)


def _with_claim(
    desk: Desk,
    actor: Person,
    ad_id: AdId,
    token: str | None,
    action: Action,
    event: ReviewEvent,
    body: Mapping[str, Json],
    step: Callable[[Tx, AdFile, str], AdFile],
) -> AdFile:
    """Runs `step` on the locked file if the claim allows it, and saves what it gives back.

    A request that was already carried out gives the file as it is now.
    """
    require(actor.role, action)
    wanted = request_hash(event.value, actor.person_id, ad_id, token, body)
    with desk.writing() as tx:
        ad = ad_store.find_ad(tx, ad_id, is_locked=True)
        try:
            check_claim(ad, actor, token, event, tx.now_ms)
        except (ClaimError, TransitionError):
            if was_done(tx, ad, wanted):
                return ad
            if not _may_know(tx, ad, actor):
                raise ad_store.unknown_ad() from None
            raise
        after = step(tx, ad, wanted)
        ad_store.save(tx, ad, after)
    return after


def _may_know(tx: Tx, ad: AdFile, actor: Person) -> bool:
    """A token for an ad that the actor never had must not tell that the ad exists."""
    return actor.role is Role.LEAD or ad_store.had_claim(tx, ad, actor.person_id)


def check_claim(ad: AdFile, actor: Person, token: str | None, event: ReviewEvent, now_ms: int) -> None:
    """Nothing, if the actor may now do `event` under this claim. Raises ClaimError, TransitionError.

    A lead routes ads that are queued or escalated without a claim.
    """
    next_state(ad.state, event, ad.verdict)
    routes = event is ReviewEvent.ESCALATE and actor.role is Role.LEAD
    if routes and ad.state in (ReviewState.QUEUED, ReviewState.ESCALATED):
        return
    if ad.claim_holder != actor.person_id or token is None or token != ad.claim_token:
        raise ClaimError("this claim is not yours or is over", hint="claim the ad first")
    if ad.claim_expires_at_ms is not None and ad.claim_expires_at_ms <= now_ms:
        late_s = (now_ms - ad.claim_expires_at_ms) // 1000
        minutes = MINUTE_MS // 1000
        raise ClaimError(
            f"the claim ended {late_s // minutes} min {late_s % minutes} s ago",
            hint="claim again; hold an ad to keep it",
        )
