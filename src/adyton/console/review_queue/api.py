"""The JSON API. Each function parses, calls the queue, and gives back what the caller may see; rules live there."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from adyton.console.review_queue.access import Actor, TheDesk, signed_in
from adyton.console.review_queue.bodies import (
    BulkWithdrawalBody,
    ClaimTokenBody,
    DecisionBody,
    ErrorBody,
    EscalationBody,
    GoldenBody,
    HoldBody,
    PersonBody,
    PolicyBody,
    ReportBody,
    SkipBody,
    SubmissionBody,
    TokenBody,
    WhyBody,
)
from adyton.kernel.clock import iso_utc
from adyton.kernel.ids import AdId, BuyerId
from adyton.review.queue import claiming, deciding, desk_views, golden, people, policy_book, quality, submission
from adyton.review.queue.claiming import Claim, NothingWaits
from adyton.review.queue.desk import Desk
from adyton.review.queue.export import Limit, export_approved
from adyton.review.queue.records import MAX_INTEGER, Person, PersonId
from adyton.review.queue.states import ReviewState, Verdict

_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in (401, 403, 404, 409, 422, 503)}
router = APIRouter(prefix="/api", dependencies=[Depends(signed_in)], responses=_ERRORS)
Json = dict[str, Any]
AfterAd = Annotated[str, Query(pattern=r"^[A-Za-z0-9._@-]*$", max_length=64)]
_NO_LIMITS: list[Limit] = []
AdPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$", max_length=64)]


def _seen(desk: Desk, actor: Person, ad_id: str) -> Json:
    return dict(desk_views.see_ad(desk, actor, AdId(ad_id)))


@router.get("/me")
def me(actor: Actor) -> Json:
    """Who you are to the queue."""
    return {"person_id": actor.person_id, "role": actor.role.value, "buyer": actor.buyer, "markets": actor.markets}


@router.post("/ads", status_code=201)
def submit(body: SubmissionBody, actor: Actor, desk: TheDesk) -> Json:
    """Hand in an ad. The same submission again gives the same ad."""
    return _seen(desk, actor, submission.submit(desk, actor, body.submission()).ad_id)


@router.get("/ads")
def ads(
    actor: Actor,
    desk: TheDesk,
    state: ReviewState | None = None,
    after: AfterAd = "",
    limit: Annotated[int, Query(ge=1, le=desk_views.MAX_PAGE)] = 100,
) -> Json:
    """Ads that you may see, by id: an advertiser's own, a moderator's claims, all for lead and auditor."""
    found = desk_views.list_ads(desk, actor, after=after, limit=limit, state=state)
    return {"ads": found, "next_after": found[-1]["ad_id"] if len(found) == limit else None}


@router.get("/ads/{ad_id}")
def ad(ad_id: AdPath, actor: Actor, desk: TheDesk) -> Json:
    """One ad with its steps and history."""
    return _seen(desk, actor, ad_id)


@router.put("/ads/{ad_id}")
def edit(ad_id: AdPath, body: SubmissionBody, actor: Actor, desk: TheDesk) -> Json:
    """New content, which is reviewed anew; the ad stops serving at once."""
    submission.edit(desk, actor, AdId(ad_id), body.submission())
    return _seen(desk, actor, ad_id)


@router.post("/ads/{ad_id}/appeal")
def appeal(ad_id: AdPath, body: WhyBody, actor: Actor, desk: TheDesk) -> Json:
    """Ask for another review of a rejected or limited ad."""
    submission.appeal(desk, actor, AdId(ad_id), body.why)
    return _seen(desk, actor, ad_id)


@router.post("/ads/{ad_id}/report")
def report(ad_id: AdPath, body: ReportBody, actor: Actor, desk: TheDesk) -> Json:
    """Send a running ad back to the queue."""
    submission.report(desk, actor, AdId(ad_id), body.why, severity=body.severity, stops_serving=body.stops_serving)
    return _seen(desk, actor, ad_id)


@router.post("/ads/{ad_id}/withdraw")
def withdraw(ad_id: AdPath, body: WhyBody, actor: Actor, desk: TheDesk) -> Json:
    """Take an ad out for good."""
    submission.withdraw(desk, actor, AdId(ad_id), body.why)
    return _seen(desk, actor, ad_id)


@router.post("/withdrawals")
def withdraw_many(body: BulkWithdrawalBody, actor: Actor, desk: TheDesk) -> Json:
    """Take many ads out for good: those named, or all of a buyer."""
    buyer = None if body.buyer is None else BuyerId(body.buyer)
    return asdict(submission.withdraw_many(desk, actor, body.why, ad_ids=body.ids(), buyer=buyer))


@router.post("/claims")
def claim(actor: Actor, desk: TheDesk) -> Json:
    """The next ad for you, or the one that you already work on."""
    return claim_json(desk, actor, claiming.claim_next(desk, actor))


def claim_json(desk: Desk, actor: Person, found: Claim | NothingWaits) -> Json:
    """{"ad", "claim_token", "expires_at", "exposure_left", "barred"}; "ad" is null when nothing waits."""
    if isinstance(found, NothingWaits):
        barred = {one.value: count for one, count in found.barred.items()}
        return {
            "ad": None,
            "claim_token": None,
            "expires_at": None,
            "exposure_left": found.exposure_left,
            "barred": barred,
        }
    return {
        "ad": _seen(desk, actor, found.ad.ad_id),
        "claim_token": found.token,
        "expires_at": None if found.expires_at_ms is None else iso_utc(found.expires_at_ms),
        "exposure_left": found.exposure_left,
        "barred": {},
    }


@router.get("/escalations")
def escalations(actor: Actor, desk: TheDesk) -> Json:
    """Escalated ads that you may take."""
    found = claiming.escalations_for(desk, actor)
    return {"ads": [{"ad_id": one.ad_id, "title": one.title, "queue": one.assigned_queue} for one in found]}


@router.post("/ads/{ad_id}/take")
def take(ad_id: AdPath, actor: Actor, desk: TheDesk) -> Json:
    """Take an escalated ad; it does not time out."""
    return claim_json(desk, actor, claiming.take_escalation(desk, actor, AdId(ad_id)))


@router.post("/ads/{ad_id}/decide")
def decide(ad_id: AdPath, body: DecisionBody, actor: Actor, desk: TheDesk) -> Json:
    """Say what you found. A double click changes nothing."""
    deciding.decide(desk, actor, AdId(ad_id), body.claim_token, body.judgement())
    return _seen(desk, actor, ad_id)


@router.post("/ads/{ad_id}/hold")
def hold(ad_id: AdPath, body: HoldBody, actor: Actor, desk: TheDesk) -> Json:
    """Keep the ad past the lock while you ask for help."""
    deciding.hold(desk, actor, AdId(ad_id), body.claim_token, body.minutes, body.why)
    return _seen(desk, actor, ad_id)


@router.post("/ads/{ad_id}/resume")
def resume(ad_id: AdPath, body: ClaimTokenBody, actor: Actor, desk: TheDesk) -> Json:
    """Go on with an ad that you hold."""
    deciding.resume(desk, actor, AdId(ad_id), body.claim_token)
    return _seen(desk, actor, ad_id)


@router.post("/ads/{ad_id}/release")
def release(ad_id: AdPath, body: ClaimTokenBody, actor: Actor, desk: TheDesk) -> Json:
    """Give the ad back."""
    deciding.release(desk, actor, AdId(ad_id), body.claim_token)
    return {"ad_id": ad_id, "released": True}


@router.post("/ads/{ad_id}/skip")
def skip(ad_id: AdPath, body: SkipBody, actor: Actor, desk: TheDesk) -> Json:
    """Give the ad back and do not see it again in this round; others still get it."""
    deciding.skip(desk, actor, AdId(ad_id), body.claim_token, body.why)
    return {"ad_id": ad_id, "skipped": True}


@router.post("/ads/{ad_id}/escalate")
def escalate(ad_id: AdPath, body: EscalationBody, actor: Actor, desk: TheDesk) -> Json:
    """Hand the ad to a named person or to an escalation queue."""
    person = None if body.person is None else PersonId(body.person)
    deciding.escalate(desk, actor, AdId(ad_id), body.why, person=person, queue=body.queue, token=body.claim_token)
    return {"ad_id": ad_id, "escalated": True}


@router.get("/queue")
def queue(actor: Actor, desk: TheDesk) -> Json:
    """The state of the desk: counts, lateness, the oldest wait, exposure."""
    return dict(desk_views.desk_overview(desk, actor))


@router.get("/events")
def events(
    actor: Actor,
    desk: TheDesk,
    after: Annotated[int, Query(ge=-1, le=MAX_INTEGER)] = -1,
    limit: Annotated[int, Query(ge=1, le=desk_views.MAX_PAGE)] = 100,
) -> Json:
    """Links of the event chain, oldest first."""
    return {"events": [one.as_json() for one in desk_views.see_events(desk, actor, after=after, limit=limit)]}


@router.get("/events/verification")
def verification(actor: Actor, desk: TheDesk) -> Json:
    """Check every link of the chain. Keep the newest hash elsewhere."""
    count, newest = desk_views.verify_events(desk, actor)
    return {"n_events": count, "newest_hash": newest}


@router.get("/quality")
def quality_over_time(actor: Actor, desk: TheDesk, only_own: bool = False) -> Json:
    """Marks by person, UTC day and source of truth."""
    found = quality.quality_by_day(desk, actor, only_own=only_own)
    return {
        "days": [
            {
                "person_id": one.person_id,
                "day": iso_utc(one.day_ms)[:10],
                "source": one.source.value,
                "n_marks": one.n_marks,
                "n_right": one.n_right,
            }
            for one in found
        ]
    }


@router.get("/approved")
def approved(actor: Actor, desk: TheDesk, keeps: Annotated[list[Limit], Query(max_length=10)] = _NO_LIMITS) -> Json:
    """Every ad that may run now, as the auction takes it; those with a limit of a kind that it `keeps` as well."""
    export = export_approved(desk, actor, frozenset(keeps))
    return {"ads": [asdict(one) for one in export.ads], "n_kept_back": export.n_kept_back}


@router.get("/policies")
def policies(actor: Actor, desk: TheDesk) -> Json:
    """The policies that a finding can name, newest versions."""
    return {"policies": [policy_json(one) for one in policy_book.list_policies(desk, actor)]}


@router.post("/policies", status_code=201)
def put_policy(body: PolicyBody, actor: Actor, desk: TheDesk) -> Json:
    """Publish a policy or its next version."""
    return policy_json(policy_book.put_policy(desk, actor, body.label, body.title, body.text, Verdict(body.worst)))


def policy_json(policy: policy_book.Policy) -> Json:
    """One version of a policy as JSON."""
    return asdict(policy) | {"worst": policy.worst.value}


@router.get("/golden")
def golden_items(actor: Actor, desk: TheDesk) -> Json:
    """The golden items."""
    return {"items": [_golden(one) for one in golden.list_golden(desk, actor)]}


@router.post("/golden", status_code=201)
def add_golden(body: GoldenBody, actor: Actor, desk: TheDesk) -> Json:
    """Add an ad with a known verdict."""
    return _golden(golden.add_golden(desk, actor, body.submission.submission(), Verdict(body.expected)))


def _golden(item: golden.GoldenItem) -> Json:
    return {"golden_id": item.golden_id, "title": item.submission.title, "expected": item.expected.value}


@router.get("/people")
def list_people(actor: Actor, desk: TheDesk) -> Json:
    """Everybody with access."""
    return {"people": [asdict(one) | {"role": one.role.value} for one in people.list_people(desk, actor)]}


@router.put("/people/{person_id}")
def put_person(person_id: AdPath, body: PersonBody, actor: Actor, desk: TheDesk) -> Json:
    """Add or change a person."""
    person = people.put_person(desk, actor, body.person(person_id))
    return asdict(person) | {"role": person.role.value}


@router.post("/people/{person_id}/tokens", status_code=201)
def issue_token(person_id: AdPath, body: TokenBody, actor: Actor, desk: TheDesk) -> Json:
    """A new token for a person; shown once."""
    return {"token": people.issue_token(desk, actor, PersonId(person_id), days=body.days)}


@router.delete("/people/{person_id}/tokens")
def revoke_tokens(person_id: AdPath, actor: Actor, desk: TheDesk) -> Json:
    """End all tokens of a person."""
    return {"n_revoked": people.revoke_tokens(desk, actor, PersonId(person_id))}
