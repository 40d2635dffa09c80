"""What advertisers and leads do with an ad from outside: submit, edit, appeal, report, withdraw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from adyton.kernel.canonical import Json
from adyton.kernel.ids import AdId, BuyerId
from adyton.review.queue import ad_store, lifecycle
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import AlreadySubmittedError, NotPermittedError, QueueInputError, TransitionError
from adyton.review.queue.event_log import append, request_hash, was_done
from adyton.review.queue.intake import new_file, submission_key
from adyton.review.queue.permissions import Action, Role, require
from adyton.review.queue.records import MAX_SEVERITY, AdFile, Person, Submission, check_number, check_text
from adyton.review.queue.states import ReviewEvent, ReviewState, Verdict, next_state
from adyton.review.queue.tables import ads
from adyton.review.queue.visibility import may_see

MAX_BULK = 10_000


def submit(desk: Desk, actor: Person, submission: Submission) -> AdFile:
    """The new ad, in the queue. The same submission again gives the same ad.

    Raises NotPermittedError (another buyer's ad, or an advertiser naming its own risk), AlreadySubmittedError (the
    creative exists with other content), QueueInputError.
    """
    with desk.writing() as tx:
        return submit_in(tx, actor, submission)[0]


def submit_in(tx: Tx, actor: Person, submission: Submission) -> tuple[AdFile, bool]:
    """`submit` as a part of a larger transaction: the ad, and whether it is new. A refusal changes nothing."""
    require(actor.role, Action.SUBMIT)
    _check_own(actor, submission)
    if submission.expires_at_ms is not None and submission.expires_at_ms <= tx.now_ms:
        raise QueueInputError("the ad would end before it is reviewed", where="expires_at_ms")
    existing = ad_store.find_by_key(tx, submission_key(submission))
    if existing is None:
        ad = new_file(tx, submission, actor.person_id)
        if ad_store.insert(tx, ad):
            append(tx, "submit", actor.person_id, ad=ad, details=_content(submission))
            return ad, True
        # Somebody submitted the same creative between our look and our insert.
        existing = ad_store.find_by_key(tx, submission_key(submission))
        assert existing is not None, "the submission key that refused our insert is there"
    if _content(submission) != _content_of(existing):
        raise AlreadySubmittedError(
            "this creative was submitted before with other content", where="creative_id", hint="edit that ad"
        )
    return existing, False


def edit(desk: Desk, actor: Person, ad_id: AdId, submission: Submission) -> AdFile:
    """The ad with new content, in the queue with a new clock and without a verdict; it stops serving at once.

    The content that the ad already has changes nothing.
    """
    require(actor.role, Action.EDIT)
    _check_own(actor, submission)
    with desk.writing() as tx:
        ad = _own_ad(tx, actor, ad_id)
        if submission_key(submission) != ad.submission_key:
            raise QueueInputError("an edit keeps buyer and creative_id", where="creative_id", hint="submit a new ad")
        if submission.expires_at_ms is not None and submission.expires_at_ms <= tx.now_ms:
            raise QueueInputError("the ad would end before it is reviewed", where="expires_at_ms")
        next_state(ad.state, ReviewEvent.EDIT, ad.verdict)
        if _content(submission) == _content_of(ad):
            return ad
        after = lifecycle.edited(ad, submission, tx.now_ms, tx.rules)
        ad_store.save(tx, ad, after)
        append(tx, ReviewEvent.EDIT.value, actor.person_id, ad=after, why="edited", details=_content(submission))
    return after


def appeal(desk: Desk, actor: Person, ad_id: AdId, why: str) -> AdFile:
    """The ad, in the queue again with a new clock, for somebody who has not judged it. The verdict stands meanwhile.

    Raises TransitionError (nothing to appeal, or too many appeals of this content).
    """
    require(actor.role, Action.APPEAL)
    check_text(why, "why", least=1, most=4_000)
    with desk.writing() as tx:
        ad = _own_ad(tx, actor, ad_id)
        wanted = request_hash(ReviewEvent.APPEAL.value, actor.person_id, ad_id, None, {"why": why})
        try:
            check_may_appeal(ad, tx.rules.max_appeals)
        except TransitionError:
            if was_done(tx, ad, wanted):
                return ad
            raise
        after = lifecycle.moved(ad, ReviewEvent.APPEAL, tx.now_ms, tx.rules)
        after = replace(after, n_appeals=ad.n_appeals + 1, reason_text=why)
        ad_store.save(tx, ad, after)
        append(tx, ReviewEvent.APPEAL.value, actor.person_id, ad=after, why=why, request_hash=wanted)
    return after


def check_may_appeal(ad: AdFile, max_appeals: int) -> None:
    """Nothing, if the decision can be appealed. Raises TransitionError."""
    next_state(ad.state, ReviewEvent.APPEAL, ad.verdict)
    if ad.n_appeals >= max_appeals:
        raise TransitionError(
            f"this content was appealed {ad.n_appeals} times, the most there can be", hint="edit the ad instead"
        )


def report(
    desk: Desk, actor: Person, ad_id: AdId, why: str, *, severity: int = 0, stops_serving: bool = False
) -> AdFile:
    """A running ad, in the queue again because somebody complained. It keeps serving unless `stops_serving`.

    severity: raises the ad's severity, never lowers it.
    """
    require(actor.role, Action.REPORT)
    check_text(why, "why", least=1, most=4_000)
    check_number(severity, "severity", most=MAX_SEVERITY)
    body: dict[str, Json] = {"why": why, "severity": severity, "stops_serving": stops_serving}
    with desk.writing() as tx:
        ad = _own_ad(tx, actor, ad_id)
        wanted = request_hash(ReviewEvent.REPORT.value, actor.person_id, ad_id, None, body)
        try:
            after = lifecycle.moved(ad, ReviewEvent.REPORT, tx.now_ms, tx.rules)
        except TransitionError:
            if was_done(tx, ad, wanted):
                return ad
            raise
        after = replace(
            after,
            reason_text=why,
            severity=max(ad.severity, severity),
            may_serve=ad.may_serve and not stops_serving,
        )
        ad_store.save(tx, ad, after)
        append(tx, ReviewEvent.REPORT.value, actor.person_id, ad=after, why=why, request_hash=wanted, details=body)
    return after


def withdraw(desk: Desk, actor: Person, ad_id: AdId, why: str) -> AdFile:
    """The ad, withdrawn for good. Withdrawing it again changes nothing."""
    require(actor.role, Action.WITHDRAW)
    check_text(why, "why", most=2_000)
    with desk.writing() as tx:
        ad = _own_ad(tx, actor, ad_id)
        return _withdraw(tx, actor, ad, why)


def _withdraw(tx: Tx, actor: Person, ad: AdFile, why: str) -> AdFile:
    if ad.state is ReviewState.DECIDED and ad.verdict is Verdict.WITHDRAWN:
        return ad
    after = lifecycle.ended(ad, ReviewEvent.WITHDRAW, tx.now_ms, tx.rules)
    ad_store.save(tx, ad, after)
    append(tx, ReviewEvent.WITHDRAW.value, actor.person_id, ad=after, token=ad.claim_token, why=why)
    return after


@dataclass(frozen=True)
class BulkWithdrawal:
    """withdrawn: now out.   unchanged: already withdrawn or expired.   unknown: ids that do not exist."""

    withdrawn: tuple[AdId, ...]
    unchanged: tuple[AdId, ...]
    unknown: tuple[AdId, ...]


def withdraw_many(
    desk: Desk, actor: Person, why: str, *, ad_ids: Sequence[AdId] = (), buyer: BuyerId | None = None
) -> BulkWithdrawal:
    """What was withdrawn: the ads named and, with `buyer`, all of that buyer, in one transaction.

    Raises QueueInputError for neither or for more than `MAX_BULK` ads (nothing is withdrawn then).
    """
    require(actor.role, Action.BULK_WITHDRAW)
    check_text(why, "why", least=1, most=2_000)
    if not ad_ids and buyer is None:
        raise QueueInputError("name ads or a buyer", where="ad_ids, buyer")
    condition: sa.ColumnElement[bool] = ads.c.ad_id.in_(list(ad_ids))
    if buyer is not None:
        condition = sa.or_(condition, ads.c.buyer == buyer)
    with desk.writing() as tx:
        found = ad_store.lock_many(
            tx, sa.and_(condition, ads.c.golden_id.is_(None)), limit=MAX_BULK + 1, skip_locked=False
        )
        if len(found) > MAX_BULK:
            raise QueueInputError(f"more than {MAX_BULK} ads at once", hint="name the ads in several calls")
        withdrawn, unchanged = [], []
        for ad in found:
            is_over = ad.state is ReviewState.DECIDED and ad.verdict in (Verdict.WITHDRAWN, Verdict.EXPIRED)
            if is_over:
                unchanged.append(ad.ad_id)
            else:
                withdrawn.append(_withdraw(tx, actor, ad, why).ad_id)
    known = {ad.ad_id for ad in found}
    unknown = tuple(ad_id for ad_id in dict.fromkeys(ad_ids) if ad_id not in known)
    return BulkWithdrawal(tuple(withdrawn), tuple(unchanged), unknown)


def _own_ad(tx: Tx, actor: Person, ad_id: AdId) -> AdFile:
    ad = ad_store.find_ad(tx, ad_id, is_locked=True)
    if not may_see(actor, ad, has_judged=False) or ad.golden_id is not None:
        raise ad_store.unknown_ad()
    return ad


def _check_own(actor: Person, submission: Submission) -> None:
    if actor.role is not Role.ADVERTISER:
        return
    if submission.buyer != actor.buyer:
        raise NotPermittedError("an advertiser submits ads of its own buyer only", where="buyer")
    if submission.revenue_micros is not None or submission.punish_num is not None:
        raise NotPermittedError(
            "an advertiser does not state its own revenue or punishments", where="revenue_micros, punish_num"
        )


def _content(submission: Submission) -> dict[str, Json]:
    """What a buyer may change, as it goes into the event."""
    return {
        "creative_id": submission.creative_id,
        "buyer": submission.buyer,
        "title": submission.title,
        "text": submission.text,
        "render_url": submission.render_url,
        "market": submission.market,
        "countries": list(submission.countries),
        "product_line": submission.product_line,
        "value_per_click_micros": submission.value_per_click_micros,
        "currency": submission.currency,
        "expires_at_ms": submission.expires_at_ms,
    }


def _content_of(ad: AdFile) -> dict[str, Json]:
    return {
        "creative_id": ad.creative_id,
        "buyer": ad.buyer,
        "title": ad.title,
        "text": ad.text,
        "render_url": ad.render_url,
        "market": ad.market,
        "countries": list(ad.countries),
        "product_line": ad.product_line,
        "value_per_click_micros": ad.value_per_click_micros,
        "currency": ad.currency,
        "expires_at_ms": ad.expires_at_ms,
    }
