"""Server-rendered pages. Each has a JSON twin at its own address with `.json`, made by the same function.

A page shows only what the functions of the queue give this person; buttons that cannot be pressed carry the refusal of
the rule as their title.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from adyton.console.review_queue import api
from adyton.console.review_queue.access import COOKIE, Actor, TheDesk, desk_of
from adyton.console.review_queue.refusals import refusal, status_of
from adyton.kernel.errors import AdytonError
from adyton.kernel.ids import AdId
from adyton.review.queue import claiming, desk_views, policy_book
from adyton.review.queue.desk import Desk
from adyton.review.queue.people import person_of_token
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import MAX_INTEGER, Person

router = APIRouter(include_in_schema=False)
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
HOME = {Role.MODERATOR: "/work", Role.LEAD: "/lead", Role.AUDITOR: "/audit", Role.ADVERTISER: "/mine"}
Json = dict[str, Any]


def _page(template: str, actor: Person | None, data: Json) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(actor=actor, home=HOME, **data))


class _Token(BaseModel):
    token: str


@router.get("/")
def home(request: Request) -> Response:
    """The page of the caller's role, or the place to sign in."""
    try:
        person = person_of_token(desk_of(request), request.cookies.get(COOKIE))
    except AdytonError:
        return RedirectResponse("/sign-in", status_code=303)
    return RedirectResponse(HOME[person.role], status_code=303)


@router.get("/sign-in")
def sign_in_page() -> HTMLResponse:
    """Where a token is pasted."""
    return _page("sign_in.html", None, {})


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
    """The moderator's own ads (claimed, held, escalated to me), the policies, and the own quality."""
    return {
        "claims": desk_views.list_ads(desk, actor) if actor.role is Role.MODERATOR else _held_by(actor, desk),
        "escalations": [
            {"ad_id": one.ad_id, "title": one.title, "queue": one.assigned_queue}
            for one in claiming.escalations_for(desk, actor)
        ],
        "policies": api.policies(actor, desk)["policies"],
        "quality": api.quality_over_time(actor, desk, only_own=True)["days"],
    }


def _held_by(actor: Person, desk: Desk) -> list[Json]:
    return [dict(one) for one in desk_views.list_ads(desk, actor, limit=desk_views.MAX_PAGE) if one["is_mine"]]


@router.get("/work")
def work_page(actor: Actor, desk: TheDesk) -> HTMLResponse:
    """What a moderator sees."""
    return _page("work.html", actor, _work(actor, desk))


@router.get("/work.json")
def work_json(actor: Actor, desk: TheDesk) -> Json:
    """Twin of /work."""
    return _work(actor, desk)


def _lead(actor: Person, desk: Desk) -> Json:
    return {
        "overview": dict(desk_views.desk_overview(desk, actor)),
        "escalations": api.escalations(actor, desk)["ads"],
        "people": api.list_people(actor, desk)["people"],
        "quality": api.quality_over_time(actor, desk)["days"],
    }


@router.get("/lead")
def lead_page(actor: Actor, desk: TheDesk) -> HTMLResponse:
    """What a lead sees."""
    return _page("lead.html", actor, _lead(actor, desk))


@router.get("/lead.json")
def lead_json(actor: Actor, desk: TheDesk) -> Json:
    """Twin of /lead."""
    return _lead(actor, desk)


def _audit(actor: Person, desk: Desk, after: int) -> Json:
    events = [one.as_json() for one in desk_views.see_events(desk, actor, after=after, limit=200)]
    return {
        "overview": dict(desk_views.desk_overview(desk, actor)),
        "events": events,
        "quality": api.quality_over_time(actor, desk)["days"],
        "next_after": events[-1]["sequence"] if events else after,
    }


After = Annotated[int, Query(ge=-1, le=MAX_INTEGER)]


@router.get("/audit")
def audit_page(actor: Actor, desk: TheDesk, after: After = -1) -> HTMLResponse:
    """What an auditor sees."""
    return _page("audit.html", actor, _audit(actor, desk, after))


@router.get("/audit.json")
def audit_json(actor: Actor, desk: TheDesk, after: After = -1) -> Json:
    """Twin of /audit."""
    return _audit(actor, desk, after)


def _mine(actor: Person, desk: Desk) -> Json:
    return {"ads": [dict(one) for one in desk_views.list_ads(desk, actor, limit=desk_views.MAX_PAGE)]}


@router.get("/mine")
def mine_page(actor: Actor, desk: TheDesk) -> HTMLResponse:
    """What an advertiser sees."""
    return _page("mine.html", actor, _mine(actor, desk))


@router.get("/mine.json")
def mine_json(actor: Actor, desk: TheDesk) -> Json:
    """Twin of /mine."""
    return _mine(actor, desk)


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
    return _page("ad.html", actor, _ad(actor, desk, ad_id))
