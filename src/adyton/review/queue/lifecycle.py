"""What an event does to the file of an ad: pure functions from one `AdFile` to the next."""

from __future__ import annotations

from dataclasses import replace

from adyton.review.queue.clocks import MINUTE_MS, DeskRules
from adyton.review.queue.records import AdFile, Finding, PersonId, Submission
from adyton.review.queue.states import NEW_CLOCK, ReviewEvent, Verdict, next_state, worst

_ENDS_CLAIM = frozenset(ReviewEvent) - {ReviewEvent.CLAIM, ReviewEvent.HOLD, ReviewEvent.RESUME}
_ENDS_ASSIGNMENT = frozenset(
    {ReviewEvent.DECIDE, ReviewEvent.EDIT, ReviewEvent.WITHDRAW, ReviewEvent.EXPIRE, ReviewEvent.APPEAL}
)


def moved(ad: AdFile, event: ReviewEvent, now_ms: int, rules: DeskRules) -> AdFile:
    """The file after `event`, with the claim ended and a new clock where the tables say so.

    Raises TransitionError if the event cannot happen now.
    """
    ad = replace(ad, state=next_state(ad.state, event, ad.verdict))
    if event in _ENDS_CLAIM:
        ad = replace(ad, claim_holder=None, claim_token=None, claimed_at_ms=None, claim_expires_at_ms=None)
    if event in _ENDS_ASSIGNMENT:
        ad = replace(ad, assigned_person=None, assigned_queue=None)
    if event in NEW_CLOCK:
        reason = NEW_CLOCK[event]
        ad = replace(
            ad,
            round=ad.round + 1,
            reason=reason,
            reason_text="",
            queued_at_ms=now_ms,
            due_at_ms=rules.due_at_ms(reason, now_ms),
        )
    return ad


def claimed(ad: AdFile, holder: PersonId, token: str, now_ms: int, rules: DeskRules, *, is_timed: bool) -> AdFile:
    """The file while `holder` has it. is_timed: False for an escalation, which never times out."""
    ad = moved(ad, ReviewEvent.CLAIM, now_ms, rules)
    until = rules.lock_until_ms(now_ms) if is_timed else None
    return replace(ad, claim_holder=holder, claim_token=token, claimed_at_ms=now_ms, claim_expires_at_ms=until)


def held(ad: AdFile, minutes: int, now_ms: int, rules: DeskRules) -> AdFile:
    """The file while its holder keeps it for `minutes` from now."""
    return replace(moved(ad, ReviewEvent.HOLD, now_ms, rules), claim_expires_at_ms=now_ms + minutes * MINUTE_MS)


def resumed(ad: AdFile, now_ms: int, rules: DeskRules) -> AdFile:
    """The file with a new lock for the same claim."""
    return replace(moved(ad, ReviewEvent.RESUME, now_ms, rules), claim_expires_at_ms=rules.lock_until_ms(now_ms))


def decided(ad: AdFile, findings: tuple[Finding, ...], now_ms: int, rules: DeskRules) -> AdFile:
    """The file with the verdict of the worst finding. Copies of golden items never serve."""
    verdict = worst(finding.verdict for finding in findings)
    return replace(
        moved(ad, ReviewEvent.DECIDE, now_ms, rules),
        verdict=verdict,
        findings=findings,
        may_serve=verdict in (Verdict.APPROVED, Verdict.LIMITED) and ad.golden_id is None,
        decided_at_ms=now_ms,
    )


def ended(ad: AdFile, event: ReviewEvent, now_ms: int, rules: DeskRules) -> AdFile:
    """The file after WITHDRAW or EXPIRE: for good."""
    verdict = Verdict.WITHDRAWN if event is ReviewEvent.WITHDRAW else Verdict.EXPIRED
    return replace(moved(ad, event, now_ms, rules), verdict=verdict, may_serve=False, decided_at_ms=now_ms)


def edited(ad: AdFile, submission: Submission, now_ms: int, rules: DeskRules) -> AdFile:
    """The file with new content and no verdict: what was approved is no longer what is shown."""
    return replace(
        with_content(moved(ad, ReviewEvent.EDIT, now_ms, rules), submission),
        verdict=Verdict.NONE,
        findings=(),
        may_serve=False,
        content_version=ad.content_version + 1,
        n_appeals=0,
        decided_at_ms=None,
        decision_hash=None,
    )


def with_content(ad: AdFile, submission: Submission) -> AdFile:
    """The file with what the buyer wrote; what the desk knows about it (revenue, risk) stays unless it is given."""
    return replace(
        ad,
        title=submission.title,
        text=submission.text,
        render_url=submission.render_url,
        market=submission.market,
        countries=submission.countries,
        product_line=submission.product_line,
        value_per_click_micros=submission.value_per_click_micros,
        currency=submission.currency,
        revenue_micros=ad.revenue_micros if submission.revenue_micros is None else submission.revenue_micros,
        punish_num=ad.punish_num if submission.punish_num is None else submission.punish_num,
        work_milli=ad.work_milli if submission.work_milli is None else submission.work_milli,
        severity=max(ad.severity, submission.severity),
        expires_at_ms=submission.expires_at_ms,
    )
