"""People and their tokens. A token is shown once; the database keeps its hash."""

from __future__ import annotations

import re
from dataclasses import fields

import sqlalchemy as sa

from adyton.kernel.canonical import Json
from adyton.review.queue.clocks import DAY_MS
from adyton.review.queue.desk import Desk, Tx, hash_of_secret
from adyton.review.queue.errors import NotSignedInError, UnknownRecordError
from adyton.review.queue.event_log import append
from adyton.review.queue.permissions import Action, Role, require
from adyton.review.queue.records import Person, PersonId, check_number
from adyton.review.queue.tables import people, tokens

TOKEN_PREFIX = "adq_"  # noqa: S105 - a prefix by which leak scanners find tokens
_TOKEN = re.compile(TOKEN_PREFIX + "[0-9a-f]{64}")
ADD, CHANGE, PRICE = "add person", "change person", "price moderators"
PEOPLE_EVENTS = frozenset({ADD, CHANGE, PRICE})
"""The events after which what is known of those who judge may be different."""
_FIELDS = tuple(one.name for one in fields(Person))


def find_person(tx: Tx, person_id: str, *, is_locked: bool = False) -> Person:
    """The person, also one who is no longer active. Raises UnknownRecordError."""
    wanted = sa.select(people).where(people.c.person_id == person_id)
    row = tx.conn.execute(wanted.with_for_update() if is_locked else wanted).one_or_none()
    if row is None:
        raise UnknownRecordError("there is no such person", where="person id")
    return Person(**row._mapping)


def active_judges(tx: Tx) -> list[Person]:
    """Everybody who may claim ads."""
    rows = tx.conn.execute(sa.select(people).where(people.c.is_active, people.c.role.in_((Role.MODERATOR, Role.LEAD))))
    return [Person(**row._mapping) for row in rows]


def list_people(desk: Desk, actor: Person) -> list[Person]:
    """Everybody, by id."""
    require(actor.role, Action.SEE_PEOPLE)
    with desk.reading() as tx:
        return [Person(**row._mapping) for row in tx.conn.execute(sa.select(people).order_by(people.c.person_id))]


def put_person(desk: Desk, actor: Person | None, person: Person) -> Person:
    """Adds or changes a person; the price of somebody's time stays (`pricing` finds it).

    actor: None for somebody with access to the machine, to make the first lead.
    """
    if actor is not None:
        require(actor.role, Action.MANAGE_PEOPLE)
    values = {name: getattr(person, name) for name in _FIELDS}
    with desk.writing() as tx:
        same = people.c.person_id == person.person_id
        # Locked before the head of the chain, as everywhere.
        is_known = tx.conn.execute(sa.select(people.c.role).where(same).with_for_update()).first() is not None
        if not is_known:
            with tx.conn.begin_nested() as savepoint:
                try:
                    tx.conn.execute(sa.insert(people).values(values))
                except sa.exc.IntegrityError:  # another lead added the same person just now
                    savepoint.rollback()
                    is_known = True
        if is_known:
            kept = {name: value for name, value in values.items() if name != "price_micros"}
            tx.conn.execute(sa.update(people).where(same).values(kept))
        append(
            tx,
            CHANGE if is_known else ADD,
            None if actor is None else actor.person_id,
            details=_person_details(person),
        )
    return person


def _person_details(person: Person) -> dict[str, Json]:
    return {
        "person_id": person.person_id,
        "role": person.role.value,
        "buyer": person.buyer,
        "markets": list(person.markets),
        "labels": list(person.labels),
        "queues": list(person.queues),
        "is_active": person.is_active,
    }


def issue_token(desk: Desk, actor: Person | None, person_id: PersonId, *, days: int = 30) -> str:
    """A new token for the person, `adq_` and 64 hex digits, valid for `days`; it cannot be shown again.

    Raises UnknownRecordError; NotPermittedError unless the actor is a lead (None: access to the machine).
    """
    if actor is not None:
        require(actor.role, Action.MANAGE_PEOPLE)
    check_number(days, "days", least=1, most=3650)
    with desk.writing() as tx:
        find_person(tx, person_id)
        token = TOKEN_PREFIX + tx.new_secret()
        tx.conn.execute(
            sa.insert(tokens).values(
                token_hash=hash_of_secret(token),
                person_id=person_id,
                created_at_ms=tx.now_ms,
                expires_at_ms=tx.now_ms + days * DAY_MS,
            )
        )
        append(
            tx,
            "issue token",
            None if actor is None else actor.person_id,
            details={"person_id": person_id, "days": days},
        )
    return token


def revoke_tokens(desk: Desk, actor: Person | None, person_id: PersonId) -> int:
    """Ends all tokens of the person; how many there were."""
    if actor is not None:
        require(actor.role, Action.MANAGE_PEOPLE)
    with desk.writing() as tx:
        find_person(tx, person_id)
        count = tx.conn.execute(
            sa.update(tokens)
            .where(tokens.c.person_id == person_id, tokens.c.revoked_at_ms.is_(None))
            .values(revoked_at_ms=tx.now_ms)
        ).rowcount
        append(
            tx,
            "revoke tokens",
            None if actor is None else actor.person_id,
            details={"person_id": person_id, "count": count},
        )
    return int(count)


def person_of_token(desk: Desk, token: str | None) -> Person:
    """Who carries this token. Raises NotSignedInError with the same words for every kind of bad token."""
    refusal = NotSignedInError(
        "no valid token", hint="send 'Authorization: Bearer adq_...'; a lead issues tokens with 'adyton queue token'"
    )
    if not token or not _TOKEN.fullmatch(token):
        raise refusal
    with desk.reading() as tx:
        row = tx.conn.execute(
            sa.select(people)
            .join(tokens, tokens.c.person_id == people.c.person_id)
            .where(
                tokens.c.token_hash == hash_of_secret(token),
                tokens.c.expires_at_ms > tx.now_ms,
                tokens.c.revoked_at_ms.is_(None),
                people.c.is_active,
            )
        ).one_or_none()
    if row is None:
        raise refusal
    return Person(**row._mapping)
