"""The experiment on live traffic: what win reports carried, joined with what was clicked.

Offline, the experiment draws the platform's noise itself; here it is in the payloads already, test rows included. Ids
of requests join reports with clicks and are used for nothing else.

`B` reports, `F` features of the payload.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, Ints, UserFeature, egress_data
from adyton.learning.schema import Column, Kind, Role, TableSchema


@dataclass(frozen=True)
class WinReports:
    """Decoded reports, in any order.

    requests: id of each, B.   received_at_ms: int64[B].   codes: int64[B, F], each in 0 .. 2^bits - 1.   bits: F.
    free: B rows of what the server knows anyway, such as the ad that was shown; text.
    """

    requests: Sequence[str]
    received_at_ms: Ints
    codes: Ints
    bits: Sequence[int]
    free: pa.Table


def live_data(reports: WinReports, clicked: Collection[str], *, test_share: float) -> EgressData:
    """Impressions of the experiment in time order, the latest `test_share` of them as test rows.

    clicked: ids of requests that were clicked; all others count as not clicked. Of two reports with one id the first
    counts. Features are called by their place in the payload: feature0, feature1, ...
    Raises EgressInputError without reports, or without clicks and non-clicks on either side of the split.
    """
    if not reports.requests:
        raise EgressInputError("there is no report whose payload fits the schema")
    order = np.argsort(reports.received_at_ms, kind="stable")
    first: dict[str, int] = {}
    for row in order.tolist():
        first.setdefault(reports.requests[row], row)
    rows = np.fromiter(first.values(), np.int64, len(first))
    is_test = np.arange(rows.size) >= round(rows.size * (1 - test_share))
    labels = np.array([request in clicked for request in first], np.int64)
    features = tuple(
        UserFeature(f"feature{place}", bits, reports.codes[rows, place]) for place, bits in enumerate(reports.bits)
    )
    free, sizes = _free(reports.free.take(pa.array(rows)), labels, is_test)
    return EgressData(features, free, sizes, labels, is_test)


def _free(table: pa.Table, labels: Ints, is_test: np.ndarray) -> tuple[Ints, tuple[int, ...]]:
    if not table.num_columns:
        return np.zeros((labels.size, 0), np.int64), ()
    columns = tuple(Column(f"free:{name}", Role.CONTEXT, Kind.CATEGORY) for name in table.column_names)
    nobody, label = Column("nobody", Role.USER, Kind.CATEGORY), Column("clicked", Role.LABEL, Kind.BINARY)
    renamed = table.rename_columns([column.name for column in columns])
    whole = renamed.append_column("nobody", pa.array(["0"] * labels.size)).append_column("clicked", pa.array(labels))
    coded = egress_data(whole, TableSchema((*columns, nobody, label)), is_test)
    return coded.free, coded.free_sizes
