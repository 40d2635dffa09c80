"""Server-rendered pages. Each has a JSON twin at its own address with `.json`, made by the same function.

A page shows only what the functions of the queue give this person; buttons that cannot be pressed carry the refusal of
the rule as their title.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel

from adyton.console.review_queue import api
from adyton.console.review_queue.access import COOKIE, Actor, TheDesk, desk_of
from adyton.console.review_queue.refusals import refusal, status_of
from adyton.console.review_queue.rendering import HOME, Json, page, quality_lines
from adyton.kernel.clock import iso_utc
from adyton.kernel.errors import AdytonError
from adyton.kernel.ids import AdId
from adyton.review.queue import claiming, desk_views, policy_book
from adyton.review.queue.desk import Desk
from adyton.review.queue.errors import NotPermittedError, NotSignedInError
from adyton.review.queue.people import person_of_token
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import MAX_INTEGER, Person
from adyton.review.queue.states import ReviewState

router = APIRouter(include_in_schema=False)


def _only(actor: Person, *roles: Role) -> None:
    """Nothing, if the page is one of this person's. Raises NotPermittedError."""
    if actor.role not in roles:
        names = " or ".join(role.value for role in roles)
        raise NotPermittedError(
            f"this page is for the role {names}, you are {actor.role.value}", hint="go to your page"
        )


class _Token(BaseModel):
    token: str


@router.get("/")
def home(request: Request) -> Response:
    """The page of the caller's role, or the place to sign in."""
    try:
        person = person_of_token(desk_of(request), request.cookies.get(COOKIE))
    except NotSignedInError:
        return RedirectResponse("/sign-in", status_code=303)
    return RedirectResponse(HOME[person.role], status_code=303)


@router.get("/sign-in")
def sign_in_page() -> HTMLResponse:
    """Where a token is pasted."""
    return page("sign_in.html", None, {})


@router.post("/sign-in")
def sign_in(body: _Token, request: Request) -> Response:
    """Keeps the token in a cookie that no script can read."""
    try:
        person = person_of_token(desk_of(request), body.token)
    except AdytonError as error:
        return refusal(error, status_of(error))
    answer = JSONResponse({"home": HOME[person.role]})
    is_secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, body.token, httponly=True, samesite="strict", secure=is_secure, path="/")
    return answer


@router.post("/sign-out")
def sign_out(actor: Actor) -> Response:  # noqa: ARG001
    """Forgets the cookie; the token stays valid until it is revoked."""
    answer = JSONResponse({"home": "/sign-in"})
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _work(actor: Person, desk: Desk) -> Json:
    """The moderator's own ads (claimed, held, escalated to me), what is left to look at today, and the own quality."""
    _only(actor, Role.MODERATOR, Role.LEAD)
    quality = api.quality_over_time(actor, desk, only_own=True)["days"]
    return {
        "exposure": {"left": claiming.exposure_left(desk, actor), "budget": actor.exposure_budget},
        "claims": desk_views.list_ads(desk, actor) if actor.role is Role.MODERATOR else _held_by(actor, desk),
        "escalations": [
            {"ad_id": one.ad_id, "title": one.title, "queue": one.assigned_queue}
            for one in claiming.escalations_for(desk, actor)
        ],
        "quality": quality,
        "quality_lines": quality_lines(quality),
    }


def _held_by(actor: Person, desk: Desk) -> list[Json]:
    return [dict(one) for one in desk_views.list_ads(desk, actor, limit=desk_views.MAX_PAGE) if one["is_mine"]]


@router.get("/work")
def work_page(actor: Actor, desk: TheDesk) -> HTMLResponse:
    """What a moderator sees."""
    return page("work.html", actor, _work(actor, desk))


@router.get("/work.json")
def work_json(actor: Actor, desk: TheDesk) -> Json:
    """Twin of /work."""
    return _work(actor, desk)


def _lead(actor: Person, desk: Desk) -> Json:
    _only(actor, Role.LEAD)
    quality = api.quality_over_time(actor, desk)["days"]
    return {
        "overview": dict(desk_views.desk_overview(desk, actor)),
        "escalations": api.escalations(actor, desk)["ads"],
        "people": api.list_people(actor, desk)["people"],
        "policies": api.policies(actor, desk)["policies"],
        "golden": api.golden_items(actor, desk)["items"],
        "quality": quality,
        "quality_lines": quality_lines(quality),
    }


@router.get("/lead")
def lead_page(actor: Actor, desk: TheDesk) -> HTMLResponse:
    """What a lead sees."""
    return page("lead.html", actor, _lead(actor, desk))


@router.get("/lead.json")
def lead_json(actor: Actor, desk: TheDesk) -> Json:
    """Twin of /lead."""
    return _lead(actor, desk)


def _audit(actor: Person, desk: Desk, after: int) -> Json:
    _only(actor, Role.AUDITOR)
    found = desk_views.see_events(desk, actor, after=after, limit=200)
    events = [{**one.as_json(), "at": iso_utc(one.at_ms)} for one in found]
    quality = api.quality_over_time(actor, desk)["days"]
    return {
        "overview": dict(desk_views.desk_overview(desk, actor)),
        "events": events,
        "quality": quality,
        "quality_lines": quality_lines(quality),
        "after": after,
        "next_after": found[-1].sequence if found else after,
    }


After = Annotated[int, Query(ge=-1, le=MAX_INTEGER)]


@router.get("/audit")
def audit_page(actor: Actor, desk: TheDesk, after: After = -1) -> HTMLResponse:
    """What an auditor sees."""
    return page("audit.html", actor, _audit(actor, desk, after))


@router.get("/audit.json")
def audit_json(actor: Actor, desk: TheDesk, after: After = -1) -> Json:
    """Twin of /audit."""
    return _audit(actor, desk, after)


def _mine(actor: Person, desk: Desk, after: str) -> Json:
    _only(actor, Role.ADVERTISER)
    return api.ads(actor, desk, after=after, limit=desk_views.MAX_PAGE)


@router.get("/mine")
def mine_page(actor: Actor, desk: TheDesk, after: api.AfterAd = "") -> HTMLResponse:
    """What an advertiser sees."""
    return page("mine.html", actor, _mine(actor, desk, after))


@router.get("/mine.json")
def mine_json(actor: Actor, desk: TheDesk, after: api.AfterAd = "") -> Json:
    """Twin of /mine."""
    return _mine(actor, desk, after)


def _ads(actor: Person, desk: Desk, state: ReviewState | None, after: str) -> Json:
    _only(actor, Role.LEAD, Role.AUDITOR)
    found = api.ads(actor, desk, state=state, after=after, limit=100)
    return found | {"state": None if state is None else state.value, "states": [one.value for one in ReviewState][1:]}


# Before /ads/ID, whose pattern would take the twin's address for an id.
@router.get("/ads")
def ads_page(actor: Actor, desk: TheDesk, state: ReviewState | None = None, after: api.AfterAd = "") -> HTMLResponse:
    """Ads by id, of one state or of all."""
    return page("ads.html", actor, _ads(actor, desk, state, after))


@router.get("/ads.json")
def ads_json(actor: Actor, desk: TheDesk, state: ReviewState | None = None, after: api.AfterAd = "") -> Json:
    """Twin of /ads."""
    return _ads(actor, desk, state, after)


def _ad(actor: Person, desk: Desk, ad_id: str) -> Json:
    return {
        "ad": dict(desk_views.see_ad(desk, actor, AdId(ad_id))),
        "policies": [api.policy_json(one) for one in policy_book.list_policies(desk, actor)],
    }


# The twin stands first: its address would otherwise be read as an id that ends in ".json".
@router.get("/ads/{ad_id}.json")
def ad_json(ad_id: api.AdPath, actor: Actor, desk: TheDesk) -> Json:
    """Twin of /ads/ID."""
    return _ad(actor, desk, ad_id)


@router.get("/ads/{ad_id}")
def ad_page(ad_id: api.AdPath, actor: Actor, desk: TheDesk) -> HTMLResponse:
    """One ad with every step that the caller's role has."""
    return page("ad.html", actor, _ad(actor, desk, ad_id))
