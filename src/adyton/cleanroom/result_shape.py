"""HAVING, ORDER BY and LIMIT of a query, applied to the noised rows: they see nothing else, and so cost nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from adyton.cleanroom.aggregate_sql import CheckedQuery
from adyton.cleanroom.engine import open_engine

_PLACE = "adyton_place"
ENGINE_MB = 64


def shaped(rows: Sequence[Mapping[str, Any]], query: CheckedQuery) -> tuple[tuple[Any, ...], ...]:
    """The rows that HAVING keeps, in the asked order, at most LIMIT of them; values in the order of the result columns.

    Missing values come last. Rows that ORDER BY does not tell apart stay in the order they had.
    """
    kept = list(rows)
    if query.having is not None and kept:
        columns = {name: pa.array([row[name] for row in kept]) for name in query.order}
        with open_engine(ENGINE_MB, threads=1) as engine:
            table = engine.register("result", pa.table({**columns, _PLACE: pa.array(range(len(kept)))}))
            places = set(engine.run(table.filter(query.having.build(table)).select(_PLACE))[_PLACE].to_pylist())
        kept = [row for place, row in enumerate(kept) if place in places]
    for name, descends in reversed(query.ordering):
        known = sorted((r for r in kept if r[name] is not None), key=lambda row: row[name], reverse=descends)
        kept = [*known, *(row for row in kept if row[name] is None)]
    return tuple(tuple(row[name] for name in query.order) for row in kept[: query.limit])
