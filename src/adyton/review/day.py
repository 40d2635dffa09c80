"""One day of review as arrays: what the simulator, the allocators and the bound all read.

Axes: A ads in order of arrival, M moderators, K markets. Times are whole minutes from the start of the day; a task
occupies its moderator for a whole number of minutes, and an ad that arrives in minute t can be taken up in minute t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from adyton.kernel.chance import stream
from adyton.kernel.ids import AdId, ModeratorId
from adyton.review.arrivals import ADS_PER_DAY, MINUTES_PER_DAY, ArrivalStream, Pattern, arrivals_per_minute
from adyton.review.errors import DayConfigError
from adyton.review.estimators import WAIT_COST_PER_MINUTE, Estimators, SourceEstimators
from adyton.review.tables import FloatArray, IntArray, Workbook
from adyton.review.time_zones import utc_offset_minutes


class DayArrays(NamedTuple):
    """The numbers of one day, in the form that compiled code takes.

    arrival: int64[A] ascending.   value, stake: float64[A], loss when not reviewed, loss when the verdict is wrong.
    work: float64[A] > 0.   market: int64[A] in [0, K).   pace: float64[M, K], minutes per unit of work.
    error: float64[M, K], probability of a wrong verdict.   shift_start, shift_end: int64[M]; a task must be *expected*
    to end by shift_end.   break_start, break_end: int64[M]; no task begins inside.   first: int64[K + 1] and members:
    the moderators of market k are members[first[k]:first[k + 1]], ascending.   effort: float64[A], actual over expected
    handling time.   ticket: float64[A, 2] uniform, for the random allocator.   horizon: minutes.   wait_cost: share of
    the value lost per minute of waiting.
    """

    arrival: IntArray
    value: FloatArray
    stake: FloatArray
    work: FloatArray
    market: IntArray
    pace: FloatArray
    error: FloatArray
    shift_start: IntArray
    shift_end: IntArray
    break_start: IntArray
    break_end: IntArray
    first: IntArray
    members: IntArray
    effort: FloatArray
    ticket: FloatArray
    horizon: int
    wait_cost: float


_MAX_SIGMA = 5.0
_MAX_PUNISHMENT = 1e9
"""Far beyond anything that is meant, and well within what a float can count."""


@dataclass(frozen=True)
class DayConfig:
    """What kind of day to draw.

    volume: 1 is 15,000 ads; any number > 0, also more than the workbook holds (rows then appear again as new ads).
    punishment: how many times worse a bad ad passed is than a clean one stopped, >= 0.
    handling_sigma: spread of actual over expected handling time (log-normal, mean 1); 0 is exact.
    break_minutes: one break for each moderator, at a random time of the shift; 0 is none.
    no_show: probability that a moderator does not come, unknown beforehand.
    is_shift_by_time_zone: shifts start in the local morning of the moderator's first market instead of minute 0.
    """

    pattern: Pattern = Pattern.EVEN
    volume: float = 1.0
    punishment: float = 1.0
    n_moderators: int = 350
    horizon: int = MINUTES_PER_DAY
    handling_sigma: float = 0.0
    break_minutes: int = 0
    no_show: float = 0.0
    is_shift_by_time_zone: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.volume <= 100:
            raise DayConfigError(f"volume must be in (0, 100], got {self.volume:g}")
        if not 0 <= self.punishment <= _MAX_PUNISHMENT:
            raise DayConfigError(f"punishment must be in [0, {_MAX_PUNISHMENT:g}], got {self.punishment:g}")
        if self.n_moderators < 1 or self.horizon < 1:
            raise DayConfigError("a day needs at least one moderator and one minute")
        if not 0 <= self.handling_sigma <= _MAX_SIGMA:
            raise DayConfigError(f"handling_sigma must be in [0, {_MAX_SIGMA:g}], got {self.handling_sigma:g}")
        if not 0 <= self.break_minutes <= MINUTES_PER_DAY:
            raise DayConfigError(f"break_minutes must be in [0, {MINUTES_PER_DAY}], got {self.break_minutes}")
        if not 0 <= self.no_show <= 1:
            raise DayConfigError(f"no_show lies in [0, 1], got {self.no_show:g}")


@dataclass(frozen=True, eq=False)
class Day:
    """One day: its arrays, and where each ad and moderator came from.

    ad_row: int64[A], row of `workbook.ads`.   copy: int64[A], 0 the first time a row appears on this day, then 1, 2, …
    moderator_row: int64[M], row of `workbook.moderators`.   market_names: K names.
    """

    config: DayConfig
    arrays: DayArrays
    workbook: Workbook
    ad_row: IntArray
    copy: IntArray
    moderator_row: IntArray
    market_names: tuple[str, ...]
    risk: FloatArray
    estimators: Estimators = field(default_factory=SourceEstimators)

    @property
    def n_ads(self) -> int:
        return len(self.ad_row)

    @property
    def n_moderators(self) -> int:
        return len(self.moderator_row)

    @property
    def is_exact(self) -> bool:
        """Whether every task takes exactly as long as expected."""
        return self.config.handling_sigma == 0

    def ad_id(self, ad: int) -> AdId:
        """The workbook's id; later copies of a row carry `#2`, `#3`, … since each ad arrives once."""
        name = str(self.workbook.ads.ad_id[self.ad_row[ad]])
        return AdId(name if self.copy[ad] == 0 else f"{name}#{self.copy[ad] + 1}")

    def moderator_id(self, moderator: int) -> ModeratorId:
        return ModeratorId(str(self.workbook.moderators.moderator_id[self.moderator_row[moderator]]))

    def country(self, ad: int) -> str:
        return self.market_names[int(self.arrays.market[ad])]

    def accuracy(self, ad: int, moderator: int) -> float:
        return float(1 - self.arrays.error[moderator, self.arrays.market[ad]])


def draw_day(
    workbook: Workbook,
    config: DayConfig,
    *,
    seed: int,
    estimators: Estimators | None = None,
    roster_seed: int | None = None,
    arrivals: ArrivalStream | None = None,
) -> Day:
    """A day drawn from `workbook`; the same seed gives the same day, whatever is later done with it.

    Streams for arrivals, ads, moderators, handling times, breaks and absence are independent (common random numbers).
    roster_seed: seed of everything about the moderators; `seed` when None.   arrivals: a stream that takes the place of
    pattern and volume.   Raises DayConfigError for a day that cannot be drawn from this workbook.
    """
    estimators = estimators or SourceEstimators()
    roster_seed = seed if roster_seed is None else roster_seed
    if arrivals is None:
        n_asked = round(ADS_PER_DAY * config.volume * config.horizon / MINUTES_PER_DAY)
        rng = stream(seed, "review", "arrivals")
        hours = workbook.ads.start_hour
        arrivals = ArrivalStream(arrivals_per_minute(config.pattern, n_asked, rng, hours, config.horizon))
    per_minute = arrivals.per_minute
    if len(per_minute) != config.horizon or np.any(per_minute < 0):
        raise DayConfigError(f"arrivals need {config.horizon} counts that are not negative, got {len(per_minute)}")
    arrival = np.repeat(np.arange(config.horizon, dtype=np.int64), per_minute)
    if arrivals.ad_ids is None:
        ad_row, copy = _rows_once(len(workbook.ads), len(arrival), stream(seed, "review", "ads"))
    else:
        ad_row, copy = _rows_named(workbook, arrivals.ad_ids)
    usable = workbook.moderators.usable()
    if config.n_moderators > len(usable):
        raise DayConfigError(
            f"{config.n_moderators} moderators asked, {len(usable)} have known accuracy, handling time and market"
        )
    moderator_row = np.sort(
        stream(roster_seed, "review", "moderators").choice(usable, config.n_moderators, replace=False)
    ).astype(np.int64)
    return assemble_day(workbook, config, arrival, ad_row, copy, moderator_row, estimators, seed, roster_seed)


def assemble_day(
    workbook: Workbook,
    config: DayConfig,
    arrival: IntArray,
    ad_row: IntArray,
    copy: IntArray,
    moderator_row: IntArray,
    estimators: Estimators,
    seed: int,
    roster_seed: int,
) -> Day:
    """The day on which these rows arrive at these minutes, with chance drawn only for effort, breaks and absence."""
    market_names, market_of_row = np.unique(workbook.ads.country.astype(str), return_inverse=True)
    n_markets, n_ads = len(market_names), len(ad_row)
    moderators = workbook.moderators
    ads = workbook.ads
    first, members = _members(market_names, [moderators.markets[row] for row in moderator_row])
    shift_start, shift_end = _shifts(workbook, config, moderator_row, roster_seed)
    break_start = np.zeros(len(moderator_row), dtype=np.int64)
    if config.break_minutes:
        share = stream(roster_seed, "review", "breaks").random(len(moderator_row))
        room = np.maximum(shift_end - shift_start - config.break_minutes, 0)
        break_start = shift_start + (share * room).astype(np.int64)
    sigma = config.handling_sigma
    effort = np.ones(n_ads)
    if sigma:
        effort = stream(seed, "review", "effort").lognormal(-sigma * sigma / 2, sigma, n_ads)
    arrays = DayArrays(
        arrival=arrival,
        value=estimators.value(ads, config.punishment)[ad_row],
        stake=estimators.stake(ads, config.punishment)[ad_row],
        work=estimators.work(ads)[ad_row],
        market=market_of_row.astype(np.int64)[ad_row],
        pace=np.ascontiguousarray(estimators.pace(moderators, n_markets)[moderator_row]),
        error=np.ascontiguousarray(1 - estimators.accuracy(moderators, n_markets)[moderator_row]),
        shift_start=shift_start,
        shift_end=shift_end,
        break_start=break_start,
        break_end=break_start + config.break_minutes,
        first=first,
        members=members,
        effort=effort,
        ticket=stream(seed, "review", "tickets").random((n_ads, 2)),
        horizon=config.horizon,
        wait_cost=WAIT_COST_PER_MINUTE,
    )
    risk = estimators.risk(ads)[ad_row]
    _check_estimates(arrays, risk)
    return Day(config, arrays, workbook, ad_row, copy, moderator_row, tuple(map(str, market_names)), risk, estimators)


def _check_estimates(arrays: DayArrays, risk: FloatArray) -> None:
    """Refuse estimates that no day can be made of; those of `SourceEstimators` never are."""
    n_ads, shape = len(arrays.arrival), (len(arrays.shift_start), len(arrays.first) - 1)
    named = {"value": arrays.value, "stake": arrays.stake, "risk": risk, "accuracy": 1 - arrays.error}
    for name, found in (*named.items(), ("work", arrays.work), ("pace", arrays.pace)):
        low = 0.0 if name in named else np.nextafter(0, 1)
        high = 1.0 if name in ("risk", "accuracy") else np.inf
        if found.shape != (shape if name in ("pace", "accuracy") else (n_ads,)):
            raise DayConfigError(f"the estimator of {name} gives an array of the wrong shape")
        if not np.all(np.isfinite(found) & (found >= low) & (found <= high)):
            raise DayConfigError(f"the estimator of {name} gives a number that is not finite or outside its range")


def _rows_once(n_rows: int, n_wanted: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Rows in random order, each once; when more are wanted than there are, a new round begins (`copy` counts)."""
    rounds = [rng.permutation(n_rows) for _ in range(-(-n_wanted // n_rows))]
    rows = np.concatenate([np.empty(0, dtype=np.int64), *rounds])[:n_wanted]
    return rows.astype(np.int64), np.arange(n_wanted, dtype=np.int64) // n_rows


def _rows_named(workbook: Workbook, ad_ids: Sequence[str]) -> tuple[IntArray, IntArray]:
    row_of = {str(name): row for row, name in enumerate(workbook.ads.ad_id)}
    n_unknown = sum(name not in row_of for name in ad_ids)
    if n_unknown:
        raise DayConfigError(f"{n_unknown} of the {len(ad_ids)} ads that arrive are not in the workbook")
    rows = np.array([row_of[name] for name in ad_ids], dtype=np.int64)
    seen: dict[int, int] = {}
    copy = np.zeros(len(rows), dtype=np.int64)
    for place, row in enumerate(rows.tolist()):
        copy[place] = seen[row] = seen.get(row, -1) + 1
    return rows, copy


def _members(market_names: npt.NDArray[np.str_], markets: Sequence[tuple[str, ...]]) -> tuple[IntArray, IntArray]:
    index = {str(name): k for k, name in enumerate(market_names)}
    lists: list[list[int]] = [[] for _ in market_names]
    for moderator, names in enumerate(markets):
        for name in names:
            if name in index:
                lists[index[name]].append(moderator)
    first = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return first, np.array([moderator for members in lists for moderator in members], dtype=np.int64)


def planned_minutes(workbook: Workbook, config: DayConfig, moderator_row: IntArray) -> IntArray:
    """Length of each shift as planned, int64[M]: 4·Productivity per day, unknown is the whole horizon."""
    minutes = 4 * workbook.moderators.productivity[moderator_row] * (config.horizon / MINUTES_PER_DAY)
    return np.minimum(np.nan_to_num(minutes, nan=config.horizon), config.horizon).astype(np.int64)


def _shifts(
    workbook: Workbook, config: DayConfig, moderator_row: IntArray, roster_seed: int
) -> tuple[IntArray, IntArray]:
    """[start, end) of each shift; who does not come has an empty one.

    By time zone: a shift begins between 7 and 10 o'clock local time, and earlier where it would outlast the horizon,
    so that options compare days of equal capacity.
    """
    length = planned_minutes(workbook, config, moderator_row)
    start = np.zeros(len(length), dtype=np.int64)
    if config.is_shift_by_time_zone:
        begins = 7 * 60 + stream(roster_seed, "review", "shift starts").integers(0, 7, len(length)) * 30
        markets = workbook.moderators.markets
        offset = np.array([utc_offset_minutes(markets[row][0]) for row in moderator_row], dtype=np.int64)
        start = np.minimum((begins - offset) % MINUTES_PER_DAY, config.horizon - length)
    end = start + length
    if config.no_show:
        absent = stream(roster_seed, "review", "no shows").random(len(length)) < config.no_show
        end = np.where(absent, start, end)
    return start, end
