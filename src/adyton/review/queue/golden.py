"""Golden items: ads with a known verdict, shown as fresh copies that look like any other ad."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from adyton.kernel.chance import randbelow
from adyton.kernel.ids import BuyerId
from adyton.review.queue import ad_store
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import QueueInputError
from adyton.review.queue.event_log import append
from adyton.review.queue.intake import new_file
from adyton.review.queue.permissions import Action, require
from adyton.review.queue.records import AdFile, GoldenId, Person, Submission
from adyton.review.queue.states import Verdict
from adyton.review.queue.tables import ads, golden_items

_KNOWN = (Verdict.APPROVED, Verdict.LIMITED, Verdict.REJECTED)


@dataclass(frozen=True)
class GoldenItem:
    """An ad whose right verdict is known."""

    golden_id: GoldenId
    submission: Submission
    expected: Verdict
    is_active: bool


def add_golden(desk: Desk, actor: Person, submission: Submission, expected: Verdict) -> GoldenItem:
    """The new golden item. Raises NotPermittedError, QueueInputError."""
    require(actor.role, Action.MANAGE_GOLDEN)
    if expected not in _KNOWN:
        raise QueueInputError("a golden item is approved, limited or rejected", where="expected")
    with desk.writing() as tx:
        item = GoldenItem(GoldenId(f"g-{tx.new_secret()[:16]}"), submission, expected, is_active=True)
        tx.conn.execute(
            sa.insert(golden_items).values(
                golden_id=item.golden_id,
                submission=json.dumps(asdict(submission)),
                market=submission.market,
                expected=expected,
                is_active=True,
            )
        )
        append(
            tx, "add golden item", actor.person_id, details={"golden_id": item.golden_id, "expected": expected.value}
        )
    return item


def list_golden(desk: Desk, actor: Person) -> list[GoldenItem]:
    """All golden items, by id."""
    require(actor.role, Action.MANAGE_GOLDEN)
    with desk.reading() as tx:
        return [_item(row) for row in tx.conn.execute(sa.select(golden_items).order_by(golden_items.c.golden_id))]


def expected_verdict(tx: Tx, golden_id: GoldenId) -> Verdict:
    """What a copy of this item should get."""
    wanted = sa.select(golden_items.c.expected).where(golden_items.c.golden_id == golden_id)
    verdict: Verdict = tx.conn.execute(wanted).scalar_one()
    return verdict


def copy_for(tx: Tx, person: Person, exposure_left: int) -> AdFile | None:
    """A fresh copy, queued and not yet claimed, of a random item that the person has not had; None without one."""
    seen = sa.select(ads.c.golden_id).where(ads.c.golden_id.is_not(None), ads.c.submitted_by == person.person_id)
    rows = tx.conn.execute(
        sa.select(golden_items)
        .where(
            golden_items.c.is_active,
            golden_items.c.market.in_(person.markets),
            golden_items.c.golden_id.not_in(seen),
        )
        .order_by(golden_items.c.golden_id)
    ).all()
    items = [item for item in map(_item, rows) if item.submission.severity <= exposure_left]
    if not items:
        return None
    item = items[randbelow(tx.random, len(items))]
    # `submitted_by` remembers for whom the copy was made, so that nobody gets an item twice.
    ad = new_file(tx, item.submission, person.person_id, golden_id=item.golden_id)
    ad_store.insert(tx, ad)
    return ad


def _item(row: sa.Row[Any]) -> GoldenItem:
    stored = json.loads(row.submission)
    stored["buyer"] = BuyerId(stored["buyer"])
    stored["countries"] = tuple(stored["countries"])
    return GoldenItem(row.golden_id, Submission(**stored), row.expected, row.is_active)
