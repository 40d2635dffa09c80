"""Prices of moderators' time from what the desk saw: the dual that also prices the simulated `priced_pull`.

A price says what a minute of somebody's time is worth to the ads that compete for it; without prices the pull index
gives rare good moderators whatever comes first. Each of the last days is made into a simulated pair of equal days, so
that what comes after somebody's shift is work for the next one: the ads that came into the queue, at their minute of
the UTC day, and on the first day those that were waiting before; everybody who may claim, for `minutes_per_day` from
nine o'clock of the own calendar. The price of a moderator is the mean of `bound.dual_prices` over the own shift of the
second day and over the days looked at.   Source: spec/review §2.1 (prices of a linear programme), §2.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy as sa

from adyton.review import estimators
from adyton.review.arrivals import MINUTES_PER_DAY
from adyton.review.bound import BIN_MINUTES, dual_prices
from adyton.review.day import DayArrays
from adyton.review.estimators import WAIT_COST_PER_MINUTE
from adyton.review.queue.clocks import DAY_MS, MINUTE_MS, DeskRules
from adyton.review.queue.desk import Desk, Tx
from adyton.review.queue.errors import NothingToPriceError
from adyton.review.queue.event_log import append
from adyton.review.queue.people import PRICE, active_judges
from adyton.review.queue.permissions import Action, require
from adyton.review.queue.quality import estimated_accuracy
from adyton.review.queue.records import MAX_INTEGER, MILLION, Person, PersonId, check_number
from adyton.review.queue.states import ReviewState
from adyton.review.queue.tables import ads, people
from adyton.review.queue.waiting_book import Judge
from adyton.review.tables import FloatArray

_SHIFT_BEGINS = 9 * 60
DEFAULT_DAYS = 7
DEFAULT_STEPS = 150


@dataclass(frozen=True)
class IncomingAd:
    """What the dual reads of an ad. minute: of the day at which it came, −1 if it was waiting before."""

    minute: int
    market: str
    revenue: float
    punish_num: int
    work: float


@dataclass(frozen=True)
class Prices:
    """price_micros: of a minute of each person's time.   n_ads, n_days: what they were found from."""

    price_micros: Mapping[PersonId, int]
    n_ads: int
    n_days: int


def price_moderators(
    desk: Desk, actor: Person | None, *, days: int = DEFAULT_DAYS, n_steps: int = DEFAULT_STEPS
) -> Prices:
    """The new prices, which everybody who may claim has from now on. actor: None for access to the machine.

    Takes seconds of CPU time for tens of thousands of ads, and the compiler's time on the first run; no lock is held
    meanwhile.   Raises NotPermittedError, QueueInputError, NothingToPriceError.
    """
    if actor is not None:
        require(actor.role, Action.MANAGE_PEOPLE)
    check_number(days, "days", least=1, most=90)
    check_number(n_steps, "n_steps", least=1, most=10_000)
    with desk.reading() as tx:
        found = active_judges(tx)
        judges = [Judge(*one) for one in zip(found, estimated_accuracy(tx, found), strict=True) if one[0].markets]
        came = [day for day in _incoming(tx, days) if day]
    if not judges or not came:
        lacking = "moderator with a market" if not judges else f"ad that came in the last {days} days"
        raise NothingToPriceError(f"there is no {lacking}", hint="prices need both; without them all are equal")
    total = sum(prices_of_day(day, judges, desk.rules, n_steps) for day in came)
    micros = np.minimum(np.rint(total / len(came) * MILLION), MAX_INTEGER).astype(np.int64)
    prices = {one.person.person_id: int(price) for one, price in zip(judges, micros, strict=True)}
    result = Prices(prices, sum(map(len, came)), len(came))
    with desk.writing() as tx:
        # In the order of the ids, so that two such transactions cannot block each other.
        for person_id in sorted(prices):
            same = people.c.person_id == person_id
            tx.conn.execute(sa.update(people).where(same).values(price_micros=prices[person_id]))
        append(
            tx,
            PRICE,
            None if actor is None else actor.person_id,
            details={
                "n_ads": result.n_ads,
                "n_days": result.n_days,
                "price_micros": {str(one): price for one, price in prices.items()},
            },
        )
    return result


def _incoming(tx: Tx, days: int) -> list[list[IncomingAd]]:
    """For each of the last days the ads that came, and in each those of before that still wait."""
    first_ms = (tx.now_ms // DAY_MS - days + 1) * DAY_MS
    is_open = ads.c.state != ReviewState.DECIDED
    rows = tx.conn.execute(
        sa.select(ads.c.queued_at_ms, ads.c.market, ads.c.revenue_micros, ads.c.punish_num, ads.c.work_milli)
        .where(ads.c.golden_id.is_(None), sa.or_(ads.c.queued_at_ms >= first_ms, is_open))
        .order_by(ads.c.queued_at_ms, ads.c.ad_id)
    )
    waiting: list[IncomingAd] = []
    came: list[list[IncomingAd]] = [[] for _ in range(days)]
    for row in rows:
        is_older = row.queued_at_ms < first_ms
        minute = -1 if is_older else row.queued_at_ms % DAY_MS // MINUTE_MS
        ad = IncomingAd(minute, row.market, row.revenue_micros / MILLION, row.punish_num, row.work_milli / 1000)
        # The clock may have been ahead when the ad came: what seems to come tomorrow came today.
        day = min((row.queued_at_ms - first_ms) // DAY_MS, days - 1)
        (waiting if is_older else came[day]).append(ad)
    return [[*waiting, *day] for day in came if day] or [waiting]


def prices_of_day(came: Sequence[IncomingAd], judges: Sequence[Judge], rules: DeskRules, n_steps: int) -> FloatArray:
    """Mean price of a minute of each judge's shift, float64[M], in units of revenue."""
    arrays = day_arrays(came, judges, rules)
    _, price = dual_prices(arrays, rules.unserved_value, n_steps=n_steps)
    second = slice(len(judges), None)
    start, end = arrays.shift_start[second, None], arrays.shift_end[second, None]
    edges = np.arange(price.shape[1] + 1) * BIN_MINUTES
    minutes = np.maximum(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0)
    return np.asarray(np.sum(price[second] * minutes, axis=1) / (end - start)[:, 0])


def day_arrays(came: Sequence[IncomingAd], judges: Sequence[Judge], rules: DeskRules) -> DayArrays:
    """The day and its repetition as the simulator and the dual read them. came: in the order of `minute`.

    Rows of moderators: everybody on the first day, then everybody on the second.
    """
    names = {name: k for k, name in enumerate(sorted({ad.market for ad in came}))}
    both = [*came, *(replace(ad, minute=ad.minute + MINUTES_PER_DAY) for ad in came if ad.minute >= 0)]
    staff = [*judges, *judges]
    members = [[j for j, one in enumerate(staff) if name in one.person.markets] for name in names]
    revenue = np.array([ad.revenue for ad in both], dtype=np.float64)
    risk = estimators.risk(np.array([ad.punish_num for ad in both], dtype=np.float64))
    nine = np.array([_SHIFT_BEGINS - one.person.utc_offset_minutes for one in judges], dtype=np.int64)
    start = np.concatenate([nine % MINUTES_PER_DAY, nine % MINUTES_PER_DAY + MINUTES_PER_DAY])
    minutes = np.array([one.person.minutes_per_day for one in staff], dtype=np.int64)
    nothing = np.zeros(len(staff), dtype=np.int64)
    return DayArrays(
        arrival=np.array([max(0, ad.minute) for ad in both], dtype=np.int64),
        value=estimators.value(revenue, risk),
        stake=estimators.stake(revenue, risk, rules.punishment),
        work=np.array([ad.work for ad in both], dtype=np.float64),
        market=np.array([names[ad.market] for ad in both], dtype=np.int64),
        pace=_by_market([one.person.pace_milli / 1000 for one in staff], len(names)),
        error=_by_market([1 - one.accuracy for one in staff], len(names)),
        shift_start=start,
        shift_end=np.minimum(start + minutes, 2 * MINUTES_PER_DAY),
        break_start=nothing,
        break_end=nothing,
        first=np.cumsum([0, *map(len, members)]).astype(np.int64),
        members=np.array([j for one in members for j in one], dtype=np.int64),
        effort=np.ones(len(both)),
        ticket=np.zeros((len(both), 2)),
        horizon=2 * MINUTES_PER_DAY,
        wait_cost=WAIT_COST_PER_MINUTE,
    )


def _by_market(values: Sequence[float], n_markets: int) -> FloatArray:
    return np.repeat(np.array(values, dtype=np.float64)[:, None], n_markets, axis=1)
