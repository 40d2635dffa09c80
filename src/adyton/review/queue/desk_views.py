"""What people read: one ad, lists, the state of the desk, events. Everything passes through `visibility`.

Which steps are open to somebody, and in which words the others are refused, comes from the rules themselves
(`steps_for`), so that a page can never offer what the rules then refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from adyton.kernel.audit import AuditEntry
from adyton.kernel.canonical import Json
from adyton.kernel.clock import iso_utc
from adyton.kernel.errors import RefusedError
from adyton.kernel.ids import AdId
from adyton.review.queue import ad_store, event_log
from adyton.review.queue.claiming import check_may_take
from adyton.review.queue.deciding import check_claim
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import ClaimError, UnknownRecordError
from adyton.review.queue.people import active_judges
from adyton.review.queue.permissions import Action, Role, require
from adyton.review.queue.records import AdFile, Person, check_number
from adyton.review.queue.states import ReviewEvent, ReviewState, next_state
from adyton.review.queue.submission import check_may_appeal
from adyton.review.queue.tables import ads, exposures
from adyton.review.queue.visibility import ad_view, may_see

MAX_PAGE = 500


@dataclass(frozen=True)
class Step:
    """Something that can be done with an ad. refusal: in the words of the rule, None when it may be done now."""

    name: str
    refusal: str | None


def see_ad(desk: Desk, actor: Person, ad_id: AdId) -> dict[str, Json]:
    """The ad as this person may see it, with steps and history.

    Raises UnknownRecordError, ClaimError for a moderator who had it once.
    """
    require(actor.role, Action.SEE_AD)
    with desk.reading() as tx:
        ad = ad_store.find_ad(tx, ad_id)
        return _view(tx, actor, ad, with_history=True)


def _view(tx: Tx, actor: Person, ad: AdFile, *, with_history: bool) -> dict[str, Json]:
    opinions = ad_store.opinions_of(tx, ad)
    has_judged = any(one.person_id == actor.person_id for one in opinions)
    if not may_see(actor, ad, has_judged=has_judged):
        if actor.role is Role.MODERATOR and ad_store.had_claim(tx, ad, actor.person_id):
            raise ClaimError("your claim on this ad is over", hint="ask for the next ad")
        raise ad_store.unknown_ad()
    view = ad_view(actor, ad, opinions, tx.now_ms)
    view["steps"] = [{"name": one.name, "refusal": one.refusal} for one in steps_for(tx, actor, ad)]
    if ad.claim_holder == actor.person_id:
        view["claim_token"] = ad.claim_token
    if with_history:
        view["history"] = [_event_line(actor, entry) for entry in event_log.entries(tx, ad_id=ad.ad_id)]
    return view


def _event_line(actor: Person, entry: AuditEntry) -> dict[str, Json]:
    """An event without its details: those hold opinions, which have their own rule (`visible_opinions`)."""
    is_open = actor.role in (Role.LEAD, Role.AUDITOR)
    why = entry.body["why"] if is_open or entry.body["person_id"] in (None, actor.person_id) else ""
    line: dict[str, Json] = {"at": iso_utc(entry.at_ms), "what": entry.kind, "why": why}
    if is_open:
        line |= {
            "who": entry.body["person_id"],
            "sequence": entry.sequence,
            "round": entry.body["round"],
            "claim": entry.body["claim"],
            "hash": entry.entry_hash,
        }
    return line


def steps_for(tx: Tx, actor: Person, ad: AdFile) -> list[Step]:
    """Every step that the actor's role could take with an ad, open or refused."""

    def with_claim(event: ReviewEvent) -> Callable[[], None]:
        token = ad.claim_token if ad.claim_holder == actor.person_id else None
        return lambda: check_claim(ad, actor, token, event, tx.now_ms)

    def from_outside(event: ReviewEvent) -> Callable[[], object]:
        return lambda: next_state(ad.state, event, ad.verdict)

    rules: list[tuple[str, Action, Callable[[], object]]] = [
        ("take", Action.TAKE_ESCALATION, lambda: check_may_take(ad, actor)),
        ("decide", Action.DECIDE, with_claim(ReviewEvent.DECIDE)),
        ("hold", Action.HOLD, with_claim(ReviewEvent.HOLD)),
        ("resume", Action.HOLD, with_claim(ReviewEvent.RESUME)),
        ("escalate", Action.ESCALATE, with_claim(ReviewEvent.ESCALATE)),
        ("skip", Action.SKIP, with_claim(ReviewEvent.SKIP)),
        ("release", Action.RELEASE, with_claim(ReviewEvent.RELEASE)),
        ("edit", Action.EDIT, from_outside(ReviewEvent.EDIT)),
        ("appeal", Action.APPEAL, lambda: check_may_appeal(ad, tx.rules.max_appeals)),
        ("report", Action.REPORT, from_outside(ReviewEvent.REPORT)),
        ("withdraw", Action.WITHDRAW, from_outside(ReviewEvent.WITHDRAW)),
    ]
    return [Step(name, _refusal(actor, action, rule)) for name, action, rule in rules if _could(actor, action)]


def _could(actor: Person, action: Action) -> bool:
    try:
        require(actor.role, action)
    except RefusedError:
        return False
    return True


def _refusal(actor: Person, action: Action, rule: Callable[[], object]) -> str | None:
    try:
        require(actor.role, action)
        rule()
    except RefusedError as error:
        return error.what if error.hint is None else f"{error.what} ({error.hint})"
    except UnknownRecordError:
        return "this escalation is not addressed to you"
    return None


def list_ads(
    desk: Desk, actor: Person, *, after: str = "", limit: int = 100, state: ReviewState | None = None
) -> list[dict[str, Json]]:
    """Ads by id, after the id given: an advertiser's own, a moderator's own claims, everything for lead and auditor."""
    require(actor.role, Action.SEE_AD)
    check_number(limit, "limit", least=1, most=MAX_PAGE)
    condition: sa.ColumnElement[bool] = sa.true()
    if actor.role is Role.ADVERTISER:
        condition = sa.and_(ads.c.buyer == actor.buyer, ads.c.golden_id.is_(None))
    elif actor.role is Role.MODERATOR:
        condition = ads.c.claim_holder == actor.person_id
    if state is not None:
        condition = sa.and_(condition, ads.c.state == state)
    with desk.reading() as tx:
        found = ad_store.list_ads(tx, condition, limit=limit, after=after)
        return [_view(tx, actor, ad, with_history=False) for ad in found]


def desk_overview(desk: Desk, actor: Person) -> dict[str, Json]:
    """The queue at one moment: ads by state and market, the oldest, the late ones, who works, exposure today.

    n_judges: people who may claim the ads of a market; where it is 0 they wait for ever.
    """
    require(actor.role, Action.SEE_QUEUE)
    real = ads.c.golden_id.is_(None)
    is_open = sa.and_(real, ads.c.state != ReviewState.DECIDED)
    with desk.reading() as tx:
        by_state = tx.conn.execute(sa.select(ads.c.state, sa.func.count()).where(real).group_by(ads.c.state)).all()
        by_market = tx.conn.execute(
            sa.select(
                ads.c.market,
                sa.func.count().label("n_open"),
                sa.func.min(ads.c.queued_at_ms).label("oldest"),
                sa.func.sum(sa.case((ads.c.due_at_ms < tx.now_ms, 1), else_=0)).label("n_late"),
            )
            .where(is_open)
            .group_by(ads.c.market)
            .order_by(ads.c.market)
        ).all()
        working = tx.conn.execute(
            sa.select(sa.func.count(sa.distinct(ads.c.claim_holder))).where(ads.c.claim_expires_at_ms > tx.now_ms)
        ).scalar_one()
        seen = tx.conn.execute(
            sa.select(exposures.c.person_id, sa.func.sum(exposures.c.severity).label("points"))
            .where(exposures.c.at_ms > tx.now_ms - 24 * 3_600_000)
            .group_by(exposures.c.person_id)
            .order_by(exposures.c.person_id)
        ).all()
        judged_by = Counter(market for person in active_judges(tx) for market in set(person.markets))
        now_ms = tx.now_ms
    counted = {row[0]: int(row[1]) for row in by_state}
    return {
        "at": iso_utc(now_ms),
        "by_state": {state.value: counted.get(state, 0) for state in ReviewState},
        "by_market": [
            {
                "market": row.market,
                "n_open": int(row.n_open),
                "oldest_wait_ms": now_ms - int(row.oldest),
                "n_late": int(row.n_late),
                "n_judges": judged_by[row.market],
            }
            for row in by_market
        ],
        "n_late": sum(int(row.n_late) for row in by_market),
        "oldest_wait_ms": max((now_ms - int(row.oldest) for row in by_market), default=None),
        "n_working": int(working),
        "exposure_last_24_h": [{"person_id": row.person_id, "points": int(row.points)} for row in seen],
    }


def see_events(desk: Desk, actor: Person, *, after: int = -1, limit: int = 100) -> list[AuditEntry]:
    """Links of the chain with a sequence above `after`. Only an auditor: they hold what blind review hides."""
    require(actor.role, Action.SEE_EVENTS)
    check_number(limit, "limit", least=1, most=MAX_PAGE)
    with desk.reading() as tx:
        return list(event_log.entries(tx, after=after, limit=limit))


def verify_events(desk: Desk, actor: Person | None) -> tuple[int, str]:
    """Number of events and newest hash of a chain that holds. Raises BrokenChainError. actor: None for the machine."""
    if actor is not None:
        require(actor.role, Action.SEE_EVENTS)
    with desk.reading() as tx:
        return event_log.verify(tx)
