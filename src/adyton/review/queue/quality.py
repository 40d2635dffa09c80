"""How right people are: marks from golden items, second opinions, escalations and appeals, and accuracy over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sa

from adyton.review.queue.clocks import DAY_MS
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.permissions import Action, require
from adyton.review.queue.records import MILLION, AdFile, Opinion, Person, PersonId
from adyton.review.queue.states import Verdict
from adyton.review.queue.tables import marks

PRIOR_WEIGHT = 20
"""The accuracy in a person's record counts like this many marks (mean of a Beta prior)."""


class MarkSource(Enum):
    """Where the truth came from. The stored values never change."""

    GOLDEN = "golden"
    SECOND_REVIEW = "second_review"
    ESCALATION = "escalation"
    APPEAL = "appeal"


@dataclass(frozen=True)
class DayQuality:
    """One person's marks of one UTC day. day_ms: its start."""

    person_id: PersonId
    day_ms: int
    source: MarkSource
    n_marks: int
    n_right: int


def mark(tx: Tx, ad: AdFile, opinion: Opinion, truth: Verdict, source: MarkSource) -> None:
    """Notes whether the opinion said what turned out to be right; once for each opinion and source."""
    values = {
        "ad_id": ad.ad_id,
        "round": opinion.round,
        "person_id": opinion.person_id,
        "source": source.value,
        "at_ms": tx.now_ms,
        "market": ad.market,
        "is_right": opinion.verdict is truth,
    }
    same = sa.and_(*(marks.c[key] == values[key] for key in ("ad_id", "round", "person_id", "source")))
    if tx.conn.execute(sa.select(marks.c.at_ms).where(same)).first() is None:
        tx.conn.execute(sa.insert(marks).values(values))


def estimated_accuracy(tx: Tx, judges: Sequence[Person]) -> list[float]:
    """Mean of the posterior of each person's probability of a right verdict, given the record and all marks."""
    rows = tx.conn.execute(
        sa.select(marks.c.person_id, sa.func.count(), sa.func.sum(sa.case((marks.c.is_right, 1), else_=0))).group_by(
            marks.c.person_id
        )
    )
    counted = {row[0]: (int(row[1]), int(row[2])) for row in rows}
    estimates = []
    for judge in judges:
        n_marks, n_right = counted.get(judge.person_id, (0, 0))
        prior = judge.accuracy_ppm / MILLION
        estimates.append((prior * PRIOR_WEIGHT + n_right) / (PRIOR_WEIGHT + n_marks))
    return estimates


def quality_by_day(desk: Desk, actor: Person, *, only_own: bool = False) -> list[DayQuality]:
    """Marks by person, day and source, oldest first: accuracy over time.

    Raises NotPermittedError: a moderator may see only the own ones.
    """
    require(actor.role, Action.SEE_OWN_QUALITY if only_own else Action.SEE_QUALITY)
    day = (marks.c.at_ms - marks.c.at_ms % DAY_MS).label("day_ms")
    wanted = (
        sa.select(
            marks.c.person_id,
            day,
            marks.c.source,
            sa.func.count().label("n_marks"),
            sa.func.sum(sa.case((marks.c.is_right, 1), else_=0)).label("n_right"),
        )
        .group_by(marks.c.person_id, day, marks.c.source)
        .order_by(day, marks.c.person_id, marks.c.source)
    )
    if only_own:
        wanted = wanted.where(marks.c.person_id == actor.person_id)
    with desk.reading() as tx:
        rows = tx.conn.execute(wanted).all()
    return [
        DayQuality(row.person_id, int(row.day_ms), MarkSource(row.source), int(row.n_marks), int(row.n_right))
        for row in rows
    ]
