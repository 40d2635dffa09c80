"""Ads and moderators as columns, one row per ad or moderator.

Axes: A ads, M moderators. Columns that the model uses are typed arrays; every other heading of the source is kept in
`properties` (heading to object array), so that an estimator can use a new column without any change to the reader.
A missing number is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from adyton.review.errors import WorkbookError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ObjectArray = npt.NDArray[np.object_]


def _no_properties() -> Mapping[str, ObjectArray]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class AdTable:
    """Ads that wait for review.

    revenue: average revenue of the ad, in the workbook's revenue unit, >= 0.   baseline_st: baseline screening time,
    > 0, in the source's unit (1 is an average task).   punish_num: punishments of the advertiser, NaN when none is
    recorded.   start_hour: hour of day of `start_time`, 0-23, NaN when unknown.
    """

    ad_id: ObjectArray
    country: ObjectArray
    revenue: FloatArray
    baseline_st: FloatArray
    punish_num: FloatArray
    start_hour: FloatArray
    product_line: ObjectArray
    properties: Mapping[str, ObjectArray] = field(default_factory=_no_properties)

    def __post_init__(self) -> None:
        _check_lengths(len(self.ad_id), self.properties, self.country, self.revenue, self.baseline_st, self.punish_num)

    def __len__(self) -> int:
        return len(self.ad_id)


@dataclass(frozen=True, eq=False)
class ModeratorTable:
    """Moderators.

    markets: the countries that each one reviews.   productivity: a quarter of the shift, in minutes.
    handling_time: the source's unit (2500 is a minute of an average task).   accuracy, utilisation: in [0, 1].
    """

    moderator_id: ObjectArray
    markets: tuple[tuple[str, ...], ...]
    productivity: FloatArray
    utilisation: FloatArray
    handling_time: FloatArray
    accuracy: FloatArray
    properties: Mapping[str, ObjectArray] = field(default_factory=_no_properties)

    def __post_init__(self) -> None:
        _check_lengths(
            len(self.moderator_id), self.properties, self.productivity, self.handling_time, self.accuracy, self.markets
        )

    def __len__(self) -> int:
        return len(self.moderator_id)

    def usable(self) -> IntArray:
        """Rows of the moderators that can be simulated: accuracy and handling time are known and a market is named."""
        has_market = np.array([len(markets) > 0 for markets in self.markets], dtype=bool)
        return np.flatnonzero(~np.isnan(self.accuracy) & ~np.isnan(self.handling_time) & has_market)


@dataclass(frozen=True)
class RowFault:
    """A row that was left out. `row` counts as a spreadsheet does: the first row of the sheet is 1."""

    sheet: str
    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.sheet} row {self.row}, {self.column}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Workbook:
    """Ads, moderators and the rows that could not be used.

    ad_rows, moderator_rows: where the rows of the tables stand in their sheets, empty for tables that no file holds.
    """

    ads: AdTable
    moderators: ModeratorTable
    faults: tuple[RowFault, ...] = ()
    ad_rows: tuple[int, ...] = ()
    moderator_rows: tuple[int, ...] = ()

    @property
    def n_left_out(self) -> int:
        """Rows that could not be used; one row may have several faults."""
        return len({(fault.sheet, fault.row) for fault in self.faults})


def _check_lengths(n_rows: int, properties: Mapping[str, ObjectArray], *columns: object) -> None:
    for column in (*columns, *properties.values()):
        if len(column) != n_rows:  # type: ignore[arg-type]
            raise WorkbookError(f"a column has {len(column)} rows, expected {n_rows}")  # type: ignore[arg-type]
