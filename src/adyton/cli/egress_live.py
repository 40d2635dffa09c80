"""Win reports as a collector left them, read for `adyton egress curve --wins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.kernel.errors import BadInputError
from adyton.protocol.egress_schema import EgressSchema, Feature, Kind, Value
from adyton.protocol.egress_wire import decode_payload, from_base64

if TYPE_CHECKING:
    import pyarrow as pa

    from adyton.learning.egress.features import EgressData

_RECEIVED_AT, _REQUEST = "received_at_ms", "request"


def read_live(
    folder: Path, schema: EgressSchema, *, payload: str, free: tuple[str, ...], test_share: float
) -> EgressData:
    """`win-*.parquet` and `click-*.parquet` of a collector's folder as data of the experiment.

    payload: the reports' parameter that holds the wire value.   free: parameters that the server knows anyway.
    Says on stderr how many reports were left out: their payload does not fit `schema`, or nothing joins them to clicks.
    Raises BadInputError for a folder, a file or a schema that does not fit.
    """
    import numpy as np
    import pyarrow as pa

    from adyton.learning.egress.live import WinReports, live_data

    slots = [slot for feature in schema.features for slot in _slots(feature)]
    wins = _read(folder, "win", (_RECEIVED_AT, _REQUEST, payload, *free))
    if wins is None:
        raise BadInputError("the folder holds no win reports", where=str(folder), hint="win-*.parquet of a collector")
    clicks = _read(folder, "click", (_REQUEST,))
    clicked = set() if clicks is None else set(clicks[_REQUEST].to_pylist())
    kept, codes = [], []
    for row, (request, text) in enumerate(zip(wins[_REQUEST].to_pylist(), wins[payload].to_pylist(), strict=True)):
        if request is None:
            continue
        try:
            values = decode_payload(schema, from_base64(text or "")).values
        except BadInputError:
            continue
        kept.append(row)
        codes.append([c for f, value in zip(schema.features, values, strict=True) for c in _codes(f, value)])
    if len(kept) < wins.num_rows:
        click.echo(
            f"adyton egress: {wins.num_rows - len(kept)} reports without a payload of this schema or a request",
            err=True,
        )
    wins = wins.take(pa.array(kept, pa.int64()))
    reports = WinReports(
        requests=[str(request) for request in wins[_REQUEST].to_pylist()],
        received_at_ms=wins[_RECEIVED_AT].to_numpy(),
        codes=np.array(codes, np.int64).reshape(-1, len(slots)),
        bits=slots,
        free=wins.select(list(free)),
    )
    return live_data(reports, clicked, test_share=test_share)


def _read(folder: Path, kind: str, columns: tuple[str, ...]) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob(f"{kind}-*.parquet"))
    try:
        return (
            pa.concat_tables([pq.read_table(path, columns=list(columns)).select(columns) for path in paths])
            if paths
            else None
        )
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise BadInputError(f"{kind} reports need the parameters {', '.join(columns)}", where=str(folder)) from error


def _slots(feature: Feature) -> Iterator[int]:
    """Bits of each whole number that a feature becomes: elements of a bucket or histogram one by one."""
    if feature.nullable or feature.nullable_elements:
        raise BadInputError("a live curve reads schemas without nullable features")
    if feature.kind is Kind.BUCKET:
        yield from [1] * feature.size
    elif feature.kind is Kind.HISTOGRAM:
        for part in feature.parts:
            yield from _slots(part)
    else:
        yield feature.size


def _codes(feature: Feature, value: Value) -> Iterator[int]:
    if isinstance(value, tuple):
        parts = feature.parts or (Feature(Kind.BOOLEAN),) * len(value)
        for part, element in zip(parts, value, strict=True):
            yield from _codes(part, element)
    else:
        yield int(value or 0) - feature.low
