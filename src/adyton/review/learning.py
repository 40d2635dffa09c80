"""Past known accuracy and risk: both are estimated from verdicts while the same people review, day after day.

What is known for certain: of a share of the finished ads the truth comes to light (a second review, an appeal, a golden
item). From these, counts of wrong verdicts by (moderator, market) and of harmful ads by punishment record. Both are
Beta-Bernoulli; a moderator's markets share strength, since the prior of each is centred on that moderator's own rate.
Exploration is posterior sampling (Thompson 1933): each day is planned with rates drawn from the posterior, so whoever
has been seen little is now and then believed good and tried. Regret is the loss above that of the same allocator on
the same day with the true rates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from adyton.kernel.chance import stream
from adyton.review import estimators
from adyton.review.allocators.registry import find_allocator
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.engine.moves import Schedule
from adyton.review.errors import DayConfigError
from adyton.review.simulation import audit_schedule, losses
from adyton.review.tables import FloatArray, IntArray, Workbook

N_RISK_CLASSES = 6
"""Punishments on record: unknown, 0, 1, 2, 3, 4 or more."""


@dataclass(frozen=True)
class Prior:
    """wrong, right: pseudo-counts of a new moderator's verdicts.   market_strength: pseudo-counts that a moderator's
    own rate is worth in a market not seen yet.   harmful, harmless: pseudo-counts of a new class of ads.
    """

    wrong: float = 1.5
    right: float = 8.5
    market_strength: float = 20.0
    harmful: float = 0.5
    harmless: float = 9.5


@dataclass
class Beliefs:
    """Counts so far. wrong, seen: float64[M, K].   harmful, judged: float64[N_RISK_CLASSES]."""

    wrong: FloatArray
    seen: FloatArray
    prior: Prior = field(default_factory=Prior)

    def __post_init__(self) -> None:
        self.harmful = np.zeros(N_RISK_CLASSES)
        self.judged = np.zeros(N_RISK_CLASSES)

    def error(self, rng: np.random.Generator | None) -> FloatArray:
        """float64[M, K]: rates of wrong verdicts, drawn from the posterior, or its mean when rng is None."""
        prior = self.prior
        total = prior.wrong + prior.right + np.sum(self.seen, axis=1, keepdims=True)
        own = (prior.wrong + np.sum(self.wrong, axis=1, keepdims=True)) / total
        a = prior.market_strength * own + self.wrong
        b = prior.market_strength * (1 - own) + self.seen - self.wrong
        return np.asarray(a / (a + b) if rng is None else rng.beta(a, b))

    def risk(self, rng: np.random.Generator | None) -> FloatArray:
        """float64[N_RISK_CLASSES]: rates of harmful ads, likewise."""
        a, b = self.prior.harmful + self.harmful, self.prior.harmless + self.judged - self.harmful
        return np.asarray(a / (a + b) if rng is None else rng.beta(a, b))

    def learn(self, day: Day, schedule: Schedule, classes: IntArray, revealed_share: float, seed: int) -> None:
        """Take in the truth of a random share of the ads that were finished on `day`."""
        is_harmful = stream(seed, "review", "truth").random(day.n_ads) < day.risk
        slip = stream(seed, "review", "verdicts").random(day.n_ads)
        revealed = stream(seed, "review", "revealed").random(day.n_ads) < revealed_share
        arrays = day.arrays
        ads = np.flatnonzero((schedule.moderator >= 0) & (schedule.done <= arrays.horizon) & revealed)
        who, market = schedule.moderator[ads], arrays.market[ads]
        np.add.at(self.seen, (who, market), 1.0)
        np.add.at(self.wrong, (who, market), (slip[ads] < arrays.error[who, market]).astype(np.float64))
        np.add.at(self.judged, classes[ads], 1.0)
        np.add.at(self.harmful, classes[ads], is_harmful[ads].astype(np.float64))


@dataclass(frozen=True)
class LearningDay:
    """One day. regret: A2 with estimated rates minus A2 with the true ones.   accuracy_error: mean absolute error of
    the estimated accuracies, over eligible (moderator, market) pairs.   risk_error: likewise over the day's ads.
    """

    day: int
    a2: float
    a2_known: float
    accuracy_error: float
    risk_error: float

    @property
    def regret(self) -> float:
        return self.a2 - self.a2_known


def learn_over_days(
    workbook: Workbook,
    config: DayConfig,
    *,
    allocator: str = "priced_pull",
    n_days: int = 20,
    revealed_share: float = 0.2,
    explores: bool = True,
    seed: int = 1,
    prior: Prior | None = None,
) -> tuple[LearningDay, ...]:
    """One `LearningDay` after the other, for one roster; the first starts from the prior alone.

    revealed_share: of finished ads, in [0, 1].   explores: posterior sampling; False plans with posterior means.
    """
    if n_days < 1 or not 0 <= revealed_share <= 1:
        raise DayConfigError("learning needs at least one day, and a revealed share in [0, 1]")
    beliefs: Beliefs | None = None
    found = []
    for number in range(n_days):
        day = draw_day(workbook, config, seed=seed + number, roster_seed=seed)
        if beliefs is None:
            shape = day.arrays.error.shape
            beliefs = Beliefs(np.zeros(shape), np.zeros(shape), prior or Prior())
        classes = risk_classes(day)
        rng = stream(seed, "review", "posterior", number) if explores else None
        known = _allocate(day, allocator)
        schedule = _allocate(_believed(day, beliefs, classes, rng), allocator)
        audit_schedule(day, schedule)
        may = np.zeros(day.arrays.error.shape, dtype=bool)
        may[day.arrays.members, np.repeat(np.arange(len(day.market_names)), np.diff(day.arrays.first))] = True
        found.append(
            LearningDay(
                day=number,
                a2=losses(day, schedule).a2,
                a2_known=losses(day, known).a2,
                accuracy_error=float(np.mean(np.abs(beliefs.error(None) - day.arrays.error)[may])),
                risk_error=float(np.mean(np.abs(beliefs.risk(None)[classes] - day.risk))),
            )
        )
        beliefs.learn(day, schedule, classes, revealed_share, seed + number)
    return tuple(found)


def risk_classes(day: Day) -> IntArray:
    """int64[A] in [0, N_RISK_CLASSES): the class of each ad by its advertiser's punishments."""
    punish = day.workbook.ads.punish_num[day.ad_row]
    return np.where(np.isnan(punish), 0, np.minimum(np.nan_to_num(punish), 4) + 1).astype(np.int64)


def _believed(day: Day, beliefs: Beliefs, classes: IntArray, rng: np.random.Generator | None) -> Day:
    """The day as it looks to someone with these beliefs."""
    revenue = day.workbook.ads.revenue[day.ad_row]
    error, risk = beliefs.error(rng), beliefs.risk(rng)[classes]
    value = estimators.value(revenue, risk)
    stake = estimators.stake(revenue, risk, day.config.punishment)
    return replace(day, arrays=day.arrays._replace(error=error, value=value, stake=stake), risk=risk)


def _allocate(day: Day, allocator: str) -> Schedule:
    policy = find_allocator(allocator)
    policy.prepare(day)
    return policy.allocate(day)
