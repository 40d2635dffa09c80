"""Reads and writes the files of ads, and finds those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from adyton.kernel.ids import AdId
from adyton.review.queue.desk import Tx
from adyton.review.queue.errors import UnknownRecordError
from adyton.review.queue.records import AdFile, Judgement, Opinion, PersonId
from adyton.review.queue.states import ReviewState
from adyton.review.queue.tables import ads, events, exposures, opinions, skips

_FIELDS = tuple(one.name for one in fields(AdFile))
_CHUNK = 64
_TIMED = (ReviewState.CLAIMED, ReviewState.HELD, ReviewState.SECOND_REVIEW)


def _from_row(row: sa.Row[Any]) -> AdFile:
    return AdFile(**row._mapping)


def find_ad(tx: Tx, ad_id: str, *, is_locked: bool = False) -> AdFile:
    """The file of an ad; with is_locked nobody else changes it until the transaction ends.

    Raises UnknownRecordError.
    """
    wanted = sa.select(ads).where(ads.c.ad_id == ad_id)
    row = tx.conn.execute(wanted.with_for_update() if is_locked else wanted).one_or_none()
    if row is None:
        raise unknown_ad()
    return _from_row(row)


def unknown_ad() -> UnknownRecordError:
    """The one answer for an ad that is not there and for one that the caller may not know of."""
    return UnknownRecordError("there is no such ad", hint="check the id; you see only what your role may see")


def find_by_key(tx: Tx, submission_key: str) -> AdFile | None:
    """The file with this submission key, locked."""
    row = tx.conn.execute(sa.select(ads).where(ads.c.submission_key == submission_key).with_for_update()).one_or_none()
    return None if row is None else _from_row(row)


def insert(tx: Tx, ad: AdFile) -> bool:
    """Whether the ad is new; False when somebody else inserted the same submission key meanwhile."""
    values = {name: getattr(ad, name) for name in _FIELDS}
    with tx.conn.begin_nested() as savepoint:
        try:
            tx.conn.execute(sa.insert(ads).values(values))
        except sa.exc.IntegrityError:
            savepoint.rollback()
            return False
    return True


def save(tx: Tx, before: AdFile, after: AdFile) -> None:
    """Writes what differs. The caller holds the lock on the row."""
    changed = {name: getattr(after, name) for name in _FIELDS if getattr(after, name) != getattr(before, name)}
    if changed:
        tx.conn.execute(sa.update(ads).where(ads.c.ad_id == before.ad_id).values(changed))


def _is_waiting(now_ms: int) -> sa.ColumnElement[bool]:
    """In the queue, wanting a second opinion from anybody, or with a claim that is over. Copies of golden items are
    made for one person and never wait; an ad past its own end is left to `sweep`."""
    return sa.and_(
        sa.or_(
            ads.c.state == ReviewState.QUEUED,
            sa.and_(ads.c.state == ReviewState.SECOND_REVIEW, ads.c.claim_holder.is_(None)),
            sa.and_(ads.c.state.in_(_TIMED), ads.c.claim_expires_at_ms <= now_ms),
        ),
        ads.c.golden_id.is_(None),
        sa.or_(ads.c.expires_at_ms.is_(None), ads.c.expires_at_ms > now_ms),
    )


def lock_first(tx: Tx, ad_ids: Sequence[AdId], *, is_patient: bool) -> AdFile | None:
    """The first of `ad_ids` that still waits and that this transaction could lock.

    is_patient: wait for locks of others instead of passing over their ads.   None when there is none: each of them was
    taken, or (not patient) is locked by somebody who may yet give it back.
    """
    # The very best is free nearly always, and by its key alone the database finds it at once.
    for begin, end in [(0, 1), *((k, k + _CHUNK) for k in range(1, len(ad_ids), _CHUNK))]:
        chunk = ad_ids[begin:end]
        wanted = sa.select(ads).where(ads.c.ad_id.in_(chunk), _is_waiting(tx.now_ms))
        if len(chunk) > 1:
            wanted = wanted.order_by(sa.case({ad_id: k for k, ad_id in enumerate(chunk)}, value=ads.c.ad_id))
        row = tx.conn.execute(wanted.limit(1).with_for_update(skip_locked=not is_patient)).one_or_none()
        if row is not None:
            return _from_row(row)
    return None


def active_claim(tx: Tx, person_id: PersonId) -> AdFile | None:
    """The ad that the person works on: claimed, first or second opinion, and the lock has not ended."""
    row = tx.conn.execute(
        sa.select(ads).where(
            ads.c.claim_holder == person_id,
            ads.c.state.in_((ReviewState.CLAIMED, ReviewState.SECOND_REVIEW)),
            ads.c.claim_expires_at_ms > tx.now_ms,
        )
    ).first()
    return None if row is None else _from_row(row)


def lock_many(tx: Tx, condition: sa.ColumnElement[bool], *, limit: int, skip_locked: bool) -> list[AdFile]:
    """Files that meet the condition, locked, in order of id so that two such transactions cannot block each other."""
    wanted = sa.select(ads).where(condition).order_by(ads.c.ad_id).limit(limit)
    return [_from_row(row) for row in tx.conn.execute(wanted.with_for_update(skip_locked=skip_locked))]


def list_ads(tx: Tx, condition: sa.ColumnElement[bool], *, limit: int, after: str = "") -> list[AdFile]:
    """Files that meet the condition, by id."""
    wanted = sa.select(ads).where(condition, ads.c.ad_id > after).order_by(ads.c.ad_id).limit(limit)
    return [_from_row(row) for row in tx.conn.execute(wanted)]


def add_opinion(tx: Tx, ad: AdFile, person_id: PersonId, judgement: Judgement) -> None:
    """Keeps what the person said in this round."""
    tx.conn.execute(
        sa.insert(opinions).values(
            ad_id=ad.ad_id,
            round=ad.round,
            person_id=person_id,
            at_ms=tx.now_ms,
            verdict=judgement.verdict,
            findings=judgement.findings,
            note=judgement.note,
        )
    )


def replace_opinion(tx: Tx, ad: AdFile, person_id: PersonId, judgement: Judgement) -> None:
    """Keeps what the person says now instead of what the same person said earlier in this round."""
    same = sa.and_(opinions.c.ad_id == ad.ad_id, opinions.c.round == ad.round, opinions.c.person_id == person_id)
    tx.conn.execute(sa.delete(opinions).where(same))
    add_opinion(tx, ad, person_id, judgement)


def had_claim(tx: Tx, ad: AdFile, person_id: PersonId) -> bool:
    """Whether the person has or ever had something to do with the ad."""
    done = sa.select(events.c.sequence).where(events.c.ad_id == ad.ad_id, events.c.person_id == person_id).limit(1)
    return ad.claim_holder == person_id or tx.conn.execute(done).first() is not None


def opinions_of(tx: Tx, ad: AdFile) -> tuple[Opinion, ...]:
    """All opinions on the ad, oldest first."""
    rows = tx.conn.execute(sa.select(opinions).where(opinions.c.ad_id == ad.ad_id).order_by(opinions.c.at_ms))
    return tuple(Opinion(**row._mapping) for row in rows)


def judged_round(tx: Tx, ad_id: AdId, person_id: PersonId) -> int | None:
    """The newest round in which the person gave an opinion on the ad."""
    return _newest_round(tx, opinions, ad_id, person_id)


def skipped_round(tx: Tx, ad_id: AdId, person_id: PersonId) -> int | None:
    """The newest round in which the person skipped the ad."""
    return _newest_round(tx, skips, ad_id, person_id)


def _newest_round(tx: Tx, table: sa.Table, ad_id: AdId, person_id: PersonId) -> int | None:
    newest = sa.select(sa.func.max(table.c.round)).where(table.c.ad_id == ad_id, table.c.person_id == person_id)
    found: int | None = tx.conn.execute(newest).scalar_one()
    return found


def add_skip(tx: Tx, ad: AdFile, person_id: PersonId) -> None:
    """Hides the ad from this person for this round."""
    tx.conn.execute(sa.insert(skips).values(person_id=person_id, ad_id=ad.ad_id, round=ad.round, at_ms=tx.now_ms))


def add_exposure(tx: Tx, ad: AdFile, person_id: PersonId) -> None:
    """Counts an ad that is hard to look at, once per look; looks within one millisecond are one."""
    same = {"person_id": person_id, "at_ms": tx.now_ms, "ad_id": ad.ad_id}
    seen = sa.select(exposures.c.severity).where(*(exposures.c[key] == value for key, value in same.items()))
    if ad.severity > 0 and tx.conn.execute(seen).first() is None:
        tx.conn.execute(sa.insert(exposures).values(severity=ad.severity, **same))


def exposure_since(tx: Tx, person_id: PersonId, since_ms: int) -> int:
    """Severity points that the person has seen since then."""
    total = sa.select(sa.func.coalesce(sa.func.sum(exposures.c.severity), 0))
    return int(
        tx.conn.execute(total.where(exposures.c.person_id == person_id, exposures.c.at_ms >= since_ms)).scalar_one()
    )
