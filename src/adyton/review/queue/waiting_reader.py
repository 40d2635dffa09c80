"""Brings the book of waiting ads up to date from the database, inside the transaction that is going to claim.

Whatever changes an ad appends an event in the same transaction, and the head of the chain is locked until commit, so
events become visible in the order of their numbers: having seen event n means having seen all before it. What changed
since then is what the newer events name. The hash of the newest event seen is checked each time, so that a restored
copy or a transaction that was rolled back makes the book read everything anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from adyton.kernel.ids import AdId
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.people import PEOPLE_EVENTS, active_judges
from adyton.review.queue.quality import estimated_accuracy
from adyton.review.queue.records import MILLION, PersonId
from adyton.review.queue.states import QueueReason, ReviewState
from adyton.review.queue.tables import ads, chain_head, events, opinions, skips
from adyton.review.queue.waiting_book import NEVER_MS, Judge, WaitingAd

_MANY_EVENTS = 5_000
"""So many missed events are not read one by one: reading all open ads is quicker."""
_CHUNK = 500
_SHELVED = (ReviewState.QUEUED, ReviewState.CLAIMED, ReviewState.HELD, ReviewState.SECOND_REVIEW)
_IS_SHELVED = sa.and_(ads.c.state.in_(_SHELVED), ads.c.golden_id.is_(None))
_COLUMNS = (
    ads.c.ad_id,
    ads.c.market,
    ads.c.revenue_micros,
    ads.c.punish_num,
    ads.c.work_milli,
    ads.c.severity,
    ads.c.queued_at_ms,
    ads.c.due_at_ms,
    ads.c.expires_at_ms,
    ads.c.round,
    ads.c.reason,
    ads.c.state,
    ads.c.claim_holder,
    ads.c.claim_expires_at_ms,
)


def refresh(tx: Tx) -> None:
    """Makes `tx.book` say what the database says as of this moment. The caller holds the book's lock.

    Only for a transaction that has not appended anything itself.
    """
    book = tx.book
    if book.sequence < -1:
        _read_all(tx)
        return
    newer = tx.conn.execute(
        sa.select(events.c.sequence, events.c.ad_id, events.c.kind, events.c.entry_hash)
        .where(events.c.sequence >= book.sequence)
        .order_by(events.c.sequence)
        .limit(_MANY_EVENTS + 1)
    ).all()
    is_same_log = bool(newer) and (newer[0].sequence, newer[0].entry_hash) == (book.sequence, book.entry_hash)
    if not is_same_log or len(newer) > _MANY_EVENTS:
        _read_all(tx)
        return
    changed = list(dict.fromkeys(AdId(one.ad_id) for one in newer[1:] if one.ad_id is not None))
    for begin in range(0, len(changed), _CHUNK):
        _read_some(tx, changed[begin : begin + _CHUNK])
    book.sequence, book.entry_hash = newer[-1].sequence, newer[-1].entry_hash
    if book.are_judges_old(tx.rules, tx.now_ms) or any(one.kind in PEOPLE_EVENTS for one in newer[1:]):
        _read_judges(tx)


def warm_up(desk: Desk) -> int:
    """Reads the waiting ads before the first moderator asks; how many there are."""
    with desk.reading() as tx, tx.book.lock:
        refresh(tx)
        return len(tx.book)


def _read_all(tx: Tx) -> None:
    book = tx.book
    # The head first: what changes while the ads are read is then seen again as newer.
    head = tx.conn.execute(sa.select(chain_head.c.sequence, chain_head.c.entry_hash)).one()
    book.forget_ads()
    _put(tx, tx.conn.execute(sa.select(*_COLUMNS).where(_IS_SHELVED)), _IS_SHELVED)
    book.sequence, book.entry_hash = int(head.sequence), str(head.entry_hash)
    _read_judges(tx)


def _read_some(tx: Tx, ad_ids: Sequence[AdId]) -> None:
    is_wanted = sa.and_(ads.c.ad_id.in_(ad_ids), _IS_SHELVED)
    rows = tx.conn.execute(sa.select(*_COLUMNS).where(is_wanted)).all()
    for gone in set(ad_ids) - {row.ad_id for row in rows}:
        tx.book.drop(gone)
    if rows:
        _put(tx, rows, is_wanted)


def _put(tx: Tx, rows: Iterable[Any], is_wanted: sa.ColumnElement[bool]) -> None:
    judged, skipped = (_rounds(tx, table, is_wanted) for table in (opinions, skips))
    for row in rows:
        is_free = row.state is ReviewState.QUEUED or row.claim_holder is None
        free_from_ms = 0 if is_free else NEVER_MS if row.claim_expires_at_ms is None else row.claim_expires_at_ms
        tx.book.put(
            WaitingAd(
                ad_id=row.ad_id,
                market=row.market,
                revenue=row.revenue_micros / MILLION,
                punish_num=row.punish_num,
                work=row.work_milli / 1000,
                severity=row.severity,
                queued_at_ms=row.queued_at_ms,
                due_at_ms=row.due_at_ms,
                free_from_ms=free_from_ms,
                ends_at_ms=NEVER_MS if row.expires_at_ms is None else row.expires_at_ms,
                round=row.round,
                is_appeal=row.reason is QueueReason.APPEAL,
                judged=judged.get(row.ad_id, {}),
                skipped=skipped.get(row.ad_id, {}),
            )
        )


def _rounds(tx: Tx, table: sa.Table, is_wanted: sa.ColumnElement[bool]) -> dict[AdId, dict[PersonId, int]]:
    """The newest round in which each person has a row in `table`, by ad."""
    found: dict[AdId, dict[PersonId, int]] = {}
    for ad_id, person_id, number in tx.conn.execute(
        sa.select(table.c.ad_id, table.c.person_id, sa.func.max(table.c.round))
        .join(ads, ads.c.ad_id == table.c.ad_id)
        .where(is_wanted)
        .group_by(table.c.ad_id, table.c.person_id)
    ):
        found.setdefault(ad_id, {})[person_id] = int(number)
    return found


def _read_judges(tx: Tx) -> None:
    people = active_judges(tx)
    accuracy = estimated_accuracy(tx, people)
    tx.book.set_judges(map(Judge, people, accuracy), tx.now_ms)
