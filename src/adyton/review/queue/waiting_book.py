"""The ads that wait, kept in memory by market, so that a claim costs about the same however many wait.

A `WaitingBook` is a mirror: `waiting_reader` brings it up to date from the event log within each claim, and the claim
locks and checks the ad it gives out in the database, so a mirror that is behind costs a second look and never a wrong
answer. Nothing here does I/O. Time is a column: an ad in somebody's hands waits from the moment its lock ends.

The costs of the alternatives (`next_ad.alternatives`) are kept with each ad and found again when the ad changes, when
somebody's record changes, and every `refresh_minutes`, as the simulated `priced_pull` does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from adyton.kernel.ids import AdId
from adyton.review import estimators
from adyton.review.queue.clocks import MINUTE_MS, DeskRules
from adyton.review.queue.next_ad import (
    Alternatives,
    Asker,
    Bar,
    Judges,
    PullTerms,
    WaitingAds,
    alternatives,
    best_first,
    gains,
    minutes_of,
)
from adyton.review.queue.records import MILLION, Person, PersonId
from adyton.review.tables import FloatArray, IntArray

NEVER_MS = 2**62
_UNKNOWN = -2
"""In `best_is`: the alternatives have not been looked at."""
_FLOATS = ("revenue", "punish_num", "work", "value", "stake", "best", "second")
_INTEGERS = ("severity", "queued_at_ms", "due_at_ms", "free_from_ms", "ends_at_ms", "round", "is_appeal", "best_is")


@dataclass(frozen=True)
class WaitingAd:
    """What the book keeps of an ad that waits, or will wait when a lock ends; names as in `AdFile`.

    revenue, work: in units.   free_from_ms: 0, or when the lock on it ends.   ends_at_ms: `NEVER_MS`, or the ad's own
    end.   judged, skipped: the newest round in which each person gave an opinion or skipped it.
    """

    ad_id: AdId
    market: str
    revenue: float
    punish_num: int
    work: float
    severity: int
    queued_at_ms: int
    due_at_ms: int
    free_from_ms: int
    ends_at_ms: int
    round: int
    is_appeal: bool
    judged: Mapping[PersonId, int]
    skipped: Mapping[PersonId, int]


@dataclass(frozen=True)
class Judge:
    """A moderator or lead who may claim, with the present estimate of the probability of a right verdict."""

    person: Person
    accuracy: float


@dataclass(frozen=True)
class Look:
    """ad_ids: of ads for this person, best first.   barred: how many others wait in the markets, and why."""

    ad_ids: tuple[AdId, ...]
    barred: Mapping[Bar, int]


class _Shelf:
    """The ads of one market in columns; taking one out moves the last one into its place.

    value, stake, best, second and best_is are filled in when they are first wanted.
    """

    def __init__(self) -> None:
        self.ids: list[AdId] = []
        self.position: dict[AdId, int] = {}
        self._room = 64
        self._floats = {name: np.zeros(self._room, dtype=np.float64) for name in _FLOATS}
        self._integers = {name: np.zeros(self._room, dtype=np.int64) for name in _INTEGERS}

    def floats(self, name: str) -> FloatArray:
        return self._floats[name][: len(self.ids)]

    def integers(self, name: str) -> IntArray:
        return self._integers[name][: len(self.ids)]

    def put(self, ad: WaitingAd) -> None:
        at = len(self.ids)
        if at == self._room:
            self._grow()
        self.ids.append(ad.ad_id)
        self.position[ad.ad_id] = at
        for name in ("revenue", "punish_num", "work"):
            self._floats[name][at] = getattr(ad, name)
        for name in _INTEGERS[:-1]:
            self._integers[name][at] = getattr(ad, name)
        self._integers["best_is"][at] = _UNKNOWN

    def _grow(self) -> None:
        self._floats = {name: np.concatenate([column, column]) for name, column in self._floats.items()}
        self._integers = {name: np.concatenate([column, column]) for name, column in self._integers.items()}
        self._room *= 2

    def drop(self, ad_id: AdId) -> None:
        at = self.position.pop(ad_id)
        last = self.ids.pop()
        if last != ad_id:
            self.ids[at] = last
            self.position[last] = at
            for column in (*self._floats.values(), *self._integers.values()):
                column[at] = column[len(self.ids)]

    def ads(self) -> WaitingAds:
        return WaitingAds(self.floats("value"), self.floats("stake"), self.floats("work"))

    def weigh(self, judges: Judges, punishment: float) -> None:
        """Fills in what is not known of each ad yet."""
        unknown = np.flatnonzero(self.integers("best_is") == _UNKNOWN)
        if not len(unknown):
            return
        revenue = self._floats["revenue"][unknown]
        risk = estimators.risk(self._floats["punish_num"][unknown])
        ads = WaitingAds(
            value=estimators.value(revenue, risk),
            stake=estimators.stake(revenue, risk, punishment),
            work=self._floats["work"][unknown],
        )
        found = alternatives(ads, judges)
        self._floats["value"][unknown], self._floats["stake"][unknown] = ads.value, ads.stake
        self._floats["best"][unknown], self._floats["second"][unknown] = found.best, found.second
        self._integers["best_is"][unknown] = found.best_is

    def forget_alternatives(self) -> None:
        self.integers("best_is")[:] = _UNKNOWN


@dataclass(eq=False)
class WaitingBook:
    """Use it under `lock`. sequence, entry_hash: the newest event that it has seen; −2 when it has seen none."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sequence: int = -2
    entry_hash: str = ""
    judges_at_ms: int = -NEVER_MS
    _shelves: dict[str, _Shelf] = field(default_factory=dict)
    _market_of: dict[AdId, str] = field(default_factory=dict)
    _judged: dict[PersonId, dict[AdId, int]] = field(default_factory=dict)
    _skipped: dict[PersonId, dict[AdId, int]] = field(default_factory=dict)
    _touched_by: dict[AdId, frozenset[PersonId]] = field(default_factory=dict)
    _judges: dict[PersonId, Judge] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._market_of)

    def forget_ads(self) -> None:
        """Makes the book empty, as one that has seen no event."""
        self.sequence = -2
        for one in (self._shelves, self._market_of, self._judged, self._skipped, self._touched_by):
            one.clear()

    def put(self, ad: WaitingAd) -> None:
        """Adds an ad, or replaces what is known of it."""
        self.drop(ad.ad_id)
        self._market_of[ad.ad_id] = ad.market
        self._shelves.setdefault(ad.market, _Shelf()).put(ad)
        for kept, given in ((self._judged, ad.judged), (self._skipped, ad.skipped)):
            for person_id, number in given.items():
                kept.setdefault(person_id, {})[ad.ad_id] = number
        if ad.judged or ad.skipped:
            self._touched_by[ad.ad_id] = frozenset({*ad.judged, *ad.skipped})

    def drop(self, ad_id: AdId) -> None:
        """Takes an ad out, if it is there."""
        market = self._market_of.pop(ad_id, None)
        if market is None:
            return
        self._shelves[market].drop(ad_id)
        for person_id in self._touched_by.pop(ad_id, ()):
            for kept in (self._judged, self._skipped):
                kept.get(person_id, {}).pop(ad_id, None)

    def set_judges(self, judges: Iterable[Judge], now_ms: int) -> None:
        """Replaces what is known of everybody who may claim; all alternatives are looked at again."""
        self._judges = {one.person.person_id: one for one in judges}
        self.judges_at_ms = now_ms
        for shelf in self._shelves.values():
            shelf.forget_alternatives()

    def look(self, person: Person, rules: DeskRules, now_ms: int, *, exposure_left: int, most: int) -> Look:
        """The best ads for `person` now, at most `most`, and how many others wait in the person's markets."""
        barred: Counter[Bar] = Counter()
        shelves: list[_Shelf] = []
        rows: list[IntArray] = []
        columns: list[tuple[FloatArray, FloatArray, IntArray, IntArray]] = []
        for market in dict.fromkeys(person.markets):
            shelf = self._shelves.get(market)
            if shelf is None or not shelf.ids:
                continue
            here = _open_rows(shelf, self._judged, self._skipped, person, now_ms, exposure_left, barred)
            if len(here):
                gain, minutes = self._gains(shelf, market, person, rules)
                shelves.append(shelf)
                rows.append(here)
                due = shelf.integers("due_at_ms")[here]
                columns.append((gain[here], minutes[here], shelf.integers("queued_at_ms")[here], due))
        if not rows:
            return Look((), dict(barred))
        gain, minutes, queued, due = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        ranking = best_first(gain, minutes, queued, due, now_ms, most)
        row = np.concatenate(rows)[ranking]
        ends = np.cumsum([len(here) for here in rows])
        of_shelf = np.searchsorted(ends, ranking, side="right")
        return Look(tuple(shelves[k].ids[at] for k, at in zip(of_shelf, row, strict=True)), dict(barred))

    def _gains(self, shelf: _Shelf, market: str, person: Person, rules: DeskRules) -> tuple[FloatArray, FloatArray]:
        """Gain per minute and minutes of every ad of the shelf with `person`."""
        eligible = [one for one in self._judges.values() if market in one.person.markets]
        shelf.weigh(_judges(eligible, rules), rules.punishment)
        known = self._judges.get(person.person_id)
        position = next((k for k, one in enumerate(eligible) if one.person.person_id == person.person_id), -1)
        asker = Asker(
            error=1 - (person.accuracy_ppm / MILLION if known is None else known.accuracy),
            pace=person.pace_milli / 1000,
            price=rules.caution * person.price_micros / MILLION,
            position=position,
        )
        terms = PullTerms(rules.patience_minutes, rules.horizon_minutes, rules.unserved_value, rules.hold)
        ads = shelf.ads()
        found = Alternatives(shelf.floats("best"), shelf.floats("second"), shelf.integers("best_is"))
        return gains(ads, found, asker, terms), minutes_of(asker, ads.work)

    def are_judges_old(self, rules: DeskRules, now_ms: int) -> bool:
        """Whether the records of those who judge are to be read again."""
        return now_ms - self.judges_at_ms >= rules.refresh_minutes * MINUTE_MS


def _open_rows(
    shelf: _Shelf,
    judged: Mapping[PersonId, Mapping[AdId, int]],
    skipped: Mapping[PersonId, Mapping[AdId, int]],
    person: Person,
    now_ms: int,
    exposure_left: int,
    barred: Counter[Bar],
) -> IntArray:
    """Rows of the ads that wait and are not barred from `person`; the others are counted in `barred`."""
    is_open = (shelf.integers("free_from_ms") <= now_ms) & (shelf.integers("ends_at_ms") > now_ms)
    rounds, is_appeal = shelf.integers("round"), shelf.integers("is_appeal")
    # In the order of `next_ad.bar`: each ad counts for its first reason.
    for reason, kept in ((Bar.JUDGED, judged), (Bar.SKIPPED, skipped)):
        for ad_id, number in kept.get(person.person_id, {}).items():
            at = shelf.position.get(ad_id, -1)
            is_barred = rounds[at] == number or (reason is Bar.JUDGED and is_appeal[at])
            if at >= 0 and is_open[at] and is_barred:
                is_open[at] = False
                barred[reason] += 1
    is_too_hard = is_open & (shelf.integers("severity") > max(0, exposure_left))
    n_too_hard = int(np.count_nonzero(is_too_hard))
    if n_too_hard:
        barred[Bar.EXPOSURE] += n_too_hard
    return np.flatnonzero(is_open & ~is_too_hard)


def _judges(judges: list[Judge], rules: DeskRules) -> Judges:
    return Judges(
        error=np.array([1 - one.accuracy for one in judges], dtype=np.float64),
        pace=np.array([one.person.pace_milli / 1000 for one in judges], dtype=np.float64),
        price=np.array([rules.caution * one.person.price_micros / MILLION for one in judges], dtype=np.float64),
    )
