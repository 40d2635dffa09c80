"""Templates to pages, and what the pages' pictures are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adyton.review.queue.permissions import Role
from adyton.review.queue.records import Person

Json = dict[str, Any]
HOME = {Role.MODERATOR: "/work", Role.LEAD: "/lead", Role.AUDITOR: "/audit", Role.ADVERTISER: "/mine"}
_MENU = {
    Role.MODERATOR: (),
    Role.LEAD: (("/lead", "desk"), ("/work", "my work"), ("/ads", "ads")),
    Role.AUDITOR: (("/audit", "audit"), ("/ads", "ads")),
    Role.ADVERTISER: (),
}
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, actor: Person | None, data: Json, status: int = 200) -> HTMLResponse:
    """The template with `data`, for this person; None: for somebody who is not signed in."""
    menu = () if actor is None else _MENU[actor.role]
    entries = [{"address": address, "name": name} for address, name in menu]
    return HTMLResponse(_templates.get_template(template).render(actor=actor, menu=entries, **data), status)


def quality_lines(days: list[Json]) -> list[Json]:
    """One line for each person: all sources of a day together, at most the last 60 days with marks.

    days: as `api.quality_over_time` gives them, oldest first.
    """
    by_person: dict[str, dict[str, list[int]]] = {}
    for one in days:
        counts = by_person.setdefault(one["person_id"], {}).setdefault(one["day"], [0, 0])
        counts[0] += one["n_right"]
        counts[1] += one["n_marks"]
    lines = []
    for person_id, counted in sorted(by_person.items()):
        points = [{"day": day, "n_right": right, "n_marks": marks} for day, (right, marks) in counted.items()]
        n_right, n_marks = (sum(column) for column in zip(*counted.values(), strict=True))
        lines.append({"person_id": person_id, "points": points[-60:], "n_right": n_right, "n_marks": n_marks})
    return lines
