"""The policies that a finding can name. A version never changes; a new one replaces it for new findings."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import NotPermittedError, QueueInputError
from adyton.review.queue.event_log import append, lock_head
from adyton.review.queue.permissions import Action, require
from adyton.review.queue.records import Judgement, Person, check_name, check_text
from adyton.review.queue.states import Verdict
from adyton.review.queue.tables import policies

_WORST = (Verdict.LIMITED, Verdict.REJECTED)


@dataclass(frozen=True)
class Policy:
    """One version of a policy. worst: what a finding under it may say at most, limited or rejected."""

    label: str
    version: int
    title: str
    text: str
    worst: Verdict
    since_ms: int

    def __post_init__(self) -> None:
        check_name(self.label, "label")
        check_text(self.title, "title", least=1, most=200)
        check_text(self.text, "text", most=20_000)
        if self.worst not in _WORST:
            raise QueueInputError("a policy leads to limited or rejected at worst", where="worst")


def current_policies(tx: Tx) -> dict[str, Policy]:
    """The newest version of each policy by label."""
    rows = tx.conn.execute(sa.select(policies).order_by(policies.c.label, policies.c.version))
    return {row.label: Policy(**row._mapping) for row in rows}


def list_policies(desk: Desk, actor: Person) -> list[Policy]:
    """The newest versions, by label."""
    require(actor.role, Action.SEE_POLICIES)
    with desk.reading() as tx:
        return list(current_policies(tx).values())


def put_policy(desk: Desk, actor: Person | None, label: str, title: str, text: str, worst: Verdict) -> Policy:
    """The new version, or the newest one if it says the same. actor: None for access to the machine."""
    if actor is not None:
        require(actor.role, Action.MANAGE_POLICIES)
    with desk.writing() as tx:
        lock_head(tx)  # two leads who publish at once get two versions
        newest = current_policies(tx).get(label)
        if newest is not None and (newest.title, newest.text, newest.worst) == (title, text, worst):
            return newest
        policy = Policy(label, 1 if newest is None else newest.version + 1, title, text, worst, tx.now_ms)
        append(
            tx,
            "publish policy",
            None if actor is None else actor.person_id,
            details={"label": label, "version": policy.version, "worst": worst.value},
        )
        tx.conn.execute(
            sa.insert(policies).values(
                label=label,
                version=policy.version,
                title=title,
                text=text,
                worst=worst,
                since_ms=tx.now_ms,
            )
        )
    return policy


def check_judgement(tx: Tx, person: Person, judgement: Judgement) -> None:
    """Nothing, if every finding names a current policy that the person may apply and does not go beyond it.

    Raises QueueInputError, NotPermittedError.
    """
    book = current_policies(tx)
    for k, finding in enumerate(judgement.findings):
        where = f"findings[{k}]"
        policy = book.get(finding.label)
        if policy is None:
            raise QueueInputError("there is no policy of this label", where=where, hint=f"one of {', '.join(book)}")
        if policy.version != finding.version:
            raise QueueInputError(
                f"the policy is at version {policy.version}, not {finding.version}",
                where=where,
                hint="read the new version, then decide again",
            )
        if policy.worst is Verdict.LIMITED and finding.verdict is Verdict.REJECTED:
            raise QueueInputError("this policy limits an ad and cannot reject it", where=where)
        if person.labels and finding.label not in person.labels:
            raise NotPermittedError(
                "you may not apply this policy", where=where, hint=f"escalate, or apply {', '.join(person.labels)}"
            )
