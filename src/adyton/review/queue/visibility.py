"""What each role sees of an ad: pure functions; the page, the API and the tests read the same ones.

Reviewers decide blind: while a second opinion is wanted nobody who could give it sees the first one. An advertiser sees
only its own ads, never who judged them, what they are worth to the desk, or a note. Only lead and auditor can tell a
golden item from an ad.
"""

from __future__ import annotations

from collections.abc import Iterable

from adyton.kernel.canonical import Json
from adyton.kernel.clock import iso_utc
from adyton.review.queue.clocks import clocks_of
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import MAX_TIME_MS, AdFile, Opinion, Person
from adyton.review.queue.states import ReviewState

_SEES_EVERYTHING = (Role.LEAD, Role.AUDITOR)


def may_see(person: Person, ad: AdFile, *, has_judged: bool) -> bool:
    """Whether the person may know of the ad. has_judged: whether the person gave an opinion on it in any round."""
    if person.role in _SEES_EVERYTHING:
        return True
    if person.role is Role.ADVERTISER:
        return ad.buyer == person.buyer and ad.golden_id is None
    is_assigned = ad.assigned_person == person.person_id or (
        ad.assigned_queue is not None and ad.assigned_queue in person.queues
    )
    return has_judged or is_assigned or ad.claim_holder == person.person_id


def visible_opinions(person: Person, ad: AdFile, opinions: Iterable[Opinion]) -> tuple[Opinion, ...]:
    """The opinions that the person may read, of every round."""
    if person.role is Role.ADVERTISER:
        return ()
    is_blind = ad.state is ReviewState.SECOND_REVIEW and person.role is not Role.AUDITOR
    return tuple(
        one for one in opinions if not (is_blind and one.round == ad.round) or one.person_id == person.person_id
    )


def ad_view(person: Person, ad: AdFile, opinions: Iterable[Opinion], now_ms: int) -> dict[str, Json]:
    """The ad as JSON for this person. The caller has asked `may_see`."""
    clocks = clocks_of(ad, now_ms)
    view: dict[str, Json] = {
        "ad_id": ad.ad_id,
        "buyer": ad.buyer,
        "creative_id": ad.creative_id,
        "title": ad.title,
        "text": ad.text,
        "render_url": ad.render_url,
        "market": ad.market,
        "countries": list(ad.countries),
        "product_line": ad.product_line,
        "state": ad.state.value,
        "state_in_words": ad.state.in_words(),
        "verdict": ad.verdict.value,
        "may_serve": ad.may_serve,
        "reason": ad.reason.value,
        "reason_text": ad.reason_text,
        "round": ad.round,
        "content_version": ad.content_version,
        "submitted_at": iso_utc(ad.submitted_at_ms),
        "due_at": iso_utc(ad.due_at_ms),
        "is_late": clocks.is_late,
        "decided_at": None if ad.decided_at_ms is None else iso_utc(ad.decided_at_ms),
        "findings": [finding.as_json() for finding in ad.findings],
    }
    if person.role is not Role.MODERATOR:
        view["value_per_click_micros"] = ad.value_per_click_micros
        view["currency"] = ad.currency
        view["expires_at"] = None if ad.expires_at_ms is None else iso_utc(min(ad.expires_at_ms, MAX_TIME_MS))
    if person.role is Role.ADVERTISER:
        # A decision that is being second-guessed is no news for the advertiser, and a claim is nobody else's business.
        return view
    view["severity"] = ad.severity
    view["clocks"] = {
        "since_submission_ms": clocks.since_submission_ms,
        "since_queued_ms": clocks.since_queued_ms,
        "since_claim_ms": clocks.since_claim_ms,
        "until_due_ms": clocks.until_due_ms,
        "until_lock_ends_ms": clocks.until_lock_ends_ms,
    }
    view["assigned_to_me"] = ad.assigned_person == person.person_id
    view["assigned_queue"] = ad.assigned_queue
    view["is_mine"] = ad.claim_holder == person.person_id
    view["opinions"] = [_opinion_view(person, one) for one in visible_opinions(person, ad, opinions)]
    if person.role in _SEES_EVERYTHING:
        view["revenue_micros"] = ad.revenue_micros
        view["punish_num"] = ad.punish_num
        view["work_milli"] = ad.work_milli
        view["is_golden"] = ad.golden_id is not None
        view["claim_holder"] = ad.claim_holder
        view["assigned_person"] = ad.assigned_person
        view["submitted_by"] = ad.submitted_by
        view["decision_hash"] = ad.decision_hash
    return view


def _opinion_view(person: Person, opinion: Opinion) -> dict[str, Json]:
    """Moderators read what a colleague said, not who it was."""
    is_named = person.role in _SEES_EVERYTHING or opinion.person_id == person.person_id
    return {
        "round": opinion.round,
        "person_id": opinion.person_id if is_named else None,
        "at": iso_utc(opinion.at_ms),
        "verdict": opinion.verdict.value,
        "findings": [finding.as_json() for finding in opinion.findings],
        "note": opinion.note,
    }
