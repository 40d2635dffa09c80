"""The append-only log of what happened: who, when, why, under which claim. A `kernel.audit` chain in a table.

Every event of the desk is one link of one chain, so that no ad's history can be taken out unseen. The body holds
everything; the other columns repeat parts of it for look-ups, and `verify` compares them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from adyton.kernel.audit import GENESIS_HASH, AuditEntry, BrokenChainError, link, verify_chain
from adyton.kernel.canonical import Json, canonical_bytes, canonical_hash
from adyton.kernel.errors import BadInputError
from adyton.review.queue.desk import Tx, claim_id
from adyton.review.queue.errors import StoreUnavailableError
from adyton.review.queue.records import AdFile, PersonId
from adyton.review.queue.tables import chain_head, events

HEAD_SLOT = 1
_BATCH = 1_000


def append(
    tx: Tx,
    kind: str,
    person: PersonId | None,
    *,
    ad: AdFile | None = None,
    why: str = "",
    token: str | None = None,
    request_hash: str | None = None,
    details: Mapping[str, Json] | None = None,
) -> AuditEntry:
    """The new link. person: None for what time itself does.   token: of the claim under which it happened.

    Takes the lock on the head of the chain until the transaction ends: call it after all other locks are held.
    """
    sequence, newest = lock_head(tx)
    body: dict[str, Json] = {
        "ad_id": None if ad is None else ad.ad_id,
        "person_id": person,
        "round": None if ad is None else ad.round,
        "why": why,
        "claim": None if token is None else claim_id(token),
        "request_hash": request_hash,
        "state": None if ad is None else ad.state.value,
        "verdict": None if ad is None else ad.verdict.value,
        "details": dict(details or {}),
    }
    previous = None if newest == GENESIS_HASH else AuditEntry(sequence, 0, "", {}, "", newest)
    entry = link(previous, at_ms=tx.now_ms, kind=kind, body=body)
    tx.conn.execute(
        sa.insert(events).values(
            sequence=entry.sequence,
            at_ms=entry.at_ms,
            kind=entry.kind,
            ad_id=body["ad_id"],
            person_id=person,
            round=body["round"],
            request_hash=request_hash,
            body=canonical_bytes(body).decode(),
            previous_hash=entry.previous_hash,
            entry_hash=entry.entry_hash,
        )
    )
    tx.conn.execute(
        sa.update(chain_head)
        .where(chain_head.c.slot == HEAD_SLOT)
        .values(sequence=entry.sequence, entry_hash=entry.entry_hash)
    )
    return entry


def lock_head(tx: Tx) -> tuple[int, str]:
    """Sequence and hash of the newest link (−1 and `GENESIS_HASH` before the first), locked until the end."""
    head = tx.conn.execute(sa.select(chain_head).where(chain_head.c.slot == HEAD_SLOT).with_for_update()).one_or_none()
    if head is None:
        raise StoreUnavailableError("the event chain has no head", hint="run: adyton queue migrate")
    return int(head.sequence), str(head.entry_hash)


def request_hash(action: str, person: PersonId, ad_id: str, token: str | None, body: Mapping[str, Json]) -> str:
    """The name of one request: a double click has the same one."""
    return canonical_hash({"action": action, "person": person, "ad": ad_id, "claim": token, "body": dict(body)})


def was_done(tx: Tx, ad: AdFile, wanted_hash: str) -> bool:
    """Whether this very request was carried out on the ad in its current round."""
    found = tx.conn.execute(
        sa.select(events.c.sequence)
        .where(events.c.ad_id == ad.ad_id, events.c.round == ad.round, events.c.request_hash == wanted_hash)
        .limit(1)
    )
    return found.first() is not None


def entries(tx: Tx, *, after: int = -1, limit: int | None = None, ad_id: str | None = None) -> Iterator[AuditEntry]:
    """Links with a sequence above `after`, oldest first, all or those of one ad."""
    while limit is None or limit > 0:
        size = _BATCH if limit is None else min(limit, _BATCH)
        wanted = sa.select(events).where(events.c.sequence > after).order_by(events.c.sequence).limit(size)
        rows = tx.conn.execute(wanted if ad_id is None else wanted.where(events.c.ad_id == ad_id)).all()
        for row in rows:
            try:
                body = json.loads(row.body)
            except (ValueError, TypeError, RecursionError):
                body = None
            if not isinstance(body, dict):
                raise BrokenChainError("the body of an event cannot be read", where=f"entry {row.sequence}")
            if (body.get("ad_id"), body.get("person_id"), body.get("round"), body.get("request_hash")) != (
                row.ad_id,
                row.person_id,
                row.round,
                row.request_hash,
            ):
                raise BrokenChainError("a column of an event differs from its body", where=f"entry {row.sequence}")
            yield AuditEntry(row.sequence, row.at_ms, row.kind, body, row.previous_hash, row.entry_hash)
        if len(rows) < size:
            return
        after = rows[-1].sequence
        limit = None if limit is None else limit - len(rows)


def verify(tx: Tx) -> tuple[int, str]:
    """Number of events and the newest hash; keep the hash elsewhere to notice a cut-off tail.

    Raises BrokenChainError naming the first link that does not fit.
    """
    try:
        newest = verify_chain(entries(tx))
    except BadInputError as error:  # a body that no event of ours can have
        raise BrokenChainError("an event holds what cannot be hashed", hint="restore the log") from error
    count = tx.conn.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()
    head = tx.conn.execute(
        sa.select(chain_head.c.entry_hash).where(chain_head.c.slot == HEAD_SLOT)
    ).scalar_one_or_none()
    if head != newest:
        raise BrokenChainError("the newest events are missing", where=f"entry {count}", hint="restore the log")
    return int(count), newest
