"""A workbook of ads, and of moderators, into the live queue: the headings of spec/review §1.2 and some of our own.

The simulator's reader (`review.workbook`) reads the file, so that missing values and bad rows mean the same in both.
Columns that a live ad needs and the simulator does not are taken by name where the file has them: `buyer`, `title`,
`text`, `render_url`, `countries` (separated by commas), `value_per_click` (in units of the currency), `currency`,
`severity`. Everything is read and checked before the first ad is loaded, and loading goes in batches, so that nobody is
locked out for long; the same file again changes nothing, so an import that was cut off is simply run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adyton.kernel.errors import BadInputError, RefusedError
from adyton.kernel.ids import BuyerId
from adyton.review import estimators
from adyton.review.queue.desk import Desk
from adyton.review.queue.errors import QueueInputError
from adyton.review.queue.intake import CLICKS_PER_NEW_AD
from adyton.review.queue.people import find_person, list_people, put_person
from adyton.review.queue.permissions import Action, Role, require
from adyton.review.queue.records import MILLION, Person, PersonId, Submission
from adyton.review.queue.submission import submit_in
from adyton.review.tables import AdTable, ModeratorTable, RowFault
from adyton.review.workbook import read_workbook

_BATCH = 200


@dataclass(frozen=True)
class Defaults:
    """What holds where the file has no such column. render_url: with `{ad_id}` in it."""

    buyer: str | None = None
    render_url: str | None = None
    currency: str = "USD"


@dataclass(frozen=True)
class Intake:
    """Rows as the queue takes them, each with its spreadsheet row, and the rows that it cannot take."""

    submissions: tuple[tuple[int, Submission], ...]
    people: tuple[tuple[int, Person], ...]
    faults: tuple[RowFault, ...]


@dataclass(frozen=True)
class Loaded:
    """n_new, n_known: ads that came in, and ads that were there with the same content.   faults: of all kinds."""

    n_new: int
    n_known: int
    n_people: int
    faults: tuple[RowFault, ...]


def read_intake(file: Path, defaults: Defaults, *, with_moderators: bool = False) -> Intake:
    """What the file holds.

    Raises WorkbookError for a file that cannot be read, QueueInputError when neither the file nor `defaults` say whose
    ads these are and where they lead.
    """
    workbook = read_workbook(file)
    faults = list(workbook.faults)
    cells = _cells(workbook.ads)
    for name, given in (("buyer", defaults.buyer), ("render_url", defaults.render_url)):
        if name not in cells and given is None:
            raise QueueInputError(
                f"the file has no column {name}", where=str(file), hint=f"add it, or say --{_dash(name)}"
            )
    submissions = tuple(
        _usable(workbook.ad_rows, "ads", "ad_id", faults, lambda k: _submission(workbook.ads, cells, k, defaults))
    )
    people: tuple[tuple[int, Person], ...] = ()
    if with_moderators:
        table = workbook.moderators
        rows = workbook.moderator_rows
        people = tuple(_usable(rows, "moderators", "moderator", faults, lambda k: _person(table, k)))
    return Intake(submissions, people, tuple(faults))


def _dash(name: str) -> str:
    return name.replace("_", "-")


def _usable(
    rows: Sequence[int], sheet: str, column: str, faults: list[RowFault], make: Callable[[int], Any]
) -> Iterator[tuple[int, Any]]:
    for k, row in enumerate(rows):
        try:
            yield row, make(k)
        except BadInputError as error:
            faults.append(RowFault(sheet, row, error.where or column, error.what))


def _cells(ads: AdTable) -> Mapping[str, Sequence[object]]:
    """The columns that the simulator does not know, by heading in lower case."""
    return {heading.strip().casefold().replace(" ", "_"): list(column) for heading, column in ads.properties.items()}


def _submission(ads: AdTable, cells: Mapping[str, Sequence[object]], k: int, defaults: Defaults) -> Submission:
    def word(name: str, otherwise: str) -> str:
        cell = cells[name][k] if name in cells else None
        text = "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell).strip()
        return text or otherwise

    ad_id, market, revenue = str(ads.ad_id[k]), str(ads.country[k]), float(ads.revenue[k])
    countries = tuple(name.strip() for name in word("countries", market).split(",") if name.strip())
    worth = _number(word("value_per_click", ""), "value_per_click", otherwise=revenue / CLICKS_PER_NEW_AD)
    return Submission(
        buyer=BuyerId(word("buyer", defaults.buyer or "")),
        creative_id=ad_id,
        title=word("title", f"Ad {ad_id}"),
        text=word("text", ""),
        render_url=word("render_url", (defaults.render_url or "").replace("{ad_id}", ad_id)),
        market=market,
        countries=countries,
        product_line=str(ads.product_line[k]) or "unknown",
        value_per_click_micros=_scaled(worth, MILLION, "value_per_click"),
        currency=word("currency", defaults.currency),
        revenue_micros=_scaled(revenue, MILLION, "avg_ad_revenue"),
        # Nothing recorded is not the same as never punished: the desk then counts its own rejections.
        punish_num=None if math.isnan(ads.punish_num[k]) else int(ads.punish_num[k]),
        work_milli=max(1, _scaled(float(ads.baseline_st[k]), 1000, "baseline_st")),
        severity=round(_number(word("severity", ""), "severity", otherwise=0)),
    )


def _number(text: str, column: str, *, otherwise: float) -> float:
    try:
        number = float(text) if text else otherwise
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise QueueInputError("not a number", where=column)
    return number


def _scaled(number: float, factor: int, column: str) -> int:
    """The number in the desk's own whole units. Raises QueueInputError where that is beyond any float."""
    scaled = number * factor
    if not math.isfinite(scaled):
        raise QueueInputError("too large", where=column)
    return round(scaled)


def _person(moderators: ModeratorTable, k: int) -> Person:
    """The moderator of a row; what the row does not say stays at the desk's usual value."""
    markets = moderators.markets[k]
    if not markets:
        raise QueueInputError("no market", where="market")
    person = Person(PersonId(str(moderators.moderator_id[k])), Role.MODERATOR, markets=markets)
    accuracy, minutes = moderators.accuracy[k], 4 * moderators.productivity[k]
    pace = estimators.pace(moderators.handling_time[k : k + 1])[0]
    return replace(
        person,
        accuracy_ppm=person.accuracy_ppm if math.isnan(accuracy) else round(accuracy * MILLION),
        pace_milli=person.pace_milli if math.isnan(pace) else max(1, _scaled(float(pace), 1000, "handling time")),
        minutes_per_day=person.minutes_per_day if math.isnan(minutes) else max(1, round(min(1440, minutes))),
    )


def load(desk: Desk, person_id: str, intake: Intake, *, on_progress: Callable[[int], None] | None = None) -> Loaded:
    """What came of the intake, in the name of this lead. People who are known already stay as they are.

    Raises UnknownRecordError, NotPermittedError.
    """
    tell = on_progress or (lambda _: None)
    with desk.reading() as tx:
        actor = find_person(tx, person_id)
    require(actor.role, Action.IMPORT)
    faults, n_new, n_known, n_people = list(intake.faults), 0, 0, 0
    for begin in range(0, len(intake.submissions), _BATCH):
        batch = intake.submissions[begin : begin + _BATCH]
        with desk.writing() as tx:
            for row, submission in batch:
                try:
                    _, is_new = submit_in(tx, actor, submission)
                except (BadInputError, RefusedError) as error:
                    faults.append(RowFault("ads", row, error.where or "ad_id", error.what))
                else:
                    n_new, n_known = n_new + is_new, n_known + (not is_new)
        tell(begin + len(batch))
    known = {person.person_id for person in list_people(desk, actor)}
    for done, (_, person) in enumerate(intake.people, start=1):
        if person.person_id not in known:
            put_person(desk, actor, person)
            n_people += 1
        tell(len(intake.submissions) + done)
    return Loaded(n_new, n_known, n_people, tuple(faults))
