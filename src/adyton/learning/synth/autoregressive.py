"""TabularARGN as a synthesizer: the likest rows of all that we tried, and NO privacy guarantee.

A network draws each column given the ones before it. It comes from mostlyai-engine (Apache-2.0), an extra
(`pip install adyton[autoregressive]`). The engine replaces rare categories, which is no guarantee either: nothing
bounds what its weights hold about a person.   Source: Tiwald et al. 2025, "TabularARGN", arXiv 2501.12012.

Every row is drawn by itself; user ids are made up as the other synthesizer does. A list keeps its first elements.
"""

from __future__ import annotations

import io
import json
import os
import random
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adyton.kernel.errors import UnavailableError
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.codes import LIST_ELEMENTS, combined, milliseconds
from adyton.learning.synth.contract import FitRequest, PrivacyStatement
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError
from adyton.learning.synth.estimate import Floats
from adyton.learning.synth.made_up_users import dealt_users
from adyton.learning.synth.store import type_from_text, type_text

NAME = "autoregressive"
REASON = "TabularARGN of mostlyai-engine: nothing bounds what it remembers of a person"
_FORMAT = "adyton-autoregressive-1"
_HEADER = "adyton.json"
_MODEL_FILES = (
    "ModelStore/model-data/model-configs.json",
    "ModelStore/model-data/model-weights.pt",
    "ModelStore/tgt-stats/stats.json",
    "OriginalData/tgt-meta/encoding-types.json",
    "OriginalData/tgt-meta/keys.json",
)
"""All that sampling needs. The engine's folder also holds the training rows, which must not get into a file."""
_RARE = "_RARE_"
_MOST_ROWS_PER_USER = 64
_SEED_VARIABLE = "MOSTLYAI_ENGINE_SEED"
_ENCODINGS = {Kind.NUMBER: "TABULAR_NUMERIC_AUTO", Kind.TIMESTAMP: "TABULAR_DATETIME"}


class AutoregressiveSynthesizer:
    """`Synthesizer` by mostlyai-engine; refuses a privacy loss.   Raises UnavailableError where it is not installed."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._schema: TableSchema | None = None
        self._types: dict[str, pa.DataType] = {}
        self._rows_per_user: Floats = np.zeros(0)

    def fit(self, table: pa.Table, schema: TableSchema, request: FitRequest) -> None:
        if request.loss is not None:
            raise PrivacySpendError(
                "this synthesizer gives no guarantee, and a privacy loss was asked for",
                where=NAME,
                hint="leave out --epsilon to use it without one",
            )
        engine = _engine()
        self._schema = schema
        columns = _made_columns(schema)
        self._types = {column.name: _plain(table[column.name].type) for column in columns}
        if schema.with_role(Role.USER_ID):
            rows = np.unique(combined(table[schema.user_id.name]).dictionary_encode().indices, return_counts=True)[1]
            self._rows_per_user = np.bincount(np.minimum(rows, _MOST_ROWS_PER_USER))[1:].astype(float)
        frame = pa.table({name: array for column in columns for name, array in _flat(column, table[column.name])})
        encodings = {
            name: _ENCODINGS.get(column.kind, "TABULAR_CATEGORICAL") for column in columns for name in _names(column)
        }
        with tempfile.TemporaryDirectory(prefix="adyton-synth-") as folder, _seeded(engine, _seed(request)):
            engine.split(
                tgt_data=frame.to_pandas(), workspace_dir=folder, model_type="TABULAR", tgt_encoding_types=encodings
            )
            engine.analyze(workspace_dir=folder)
            engine.encode(workspace_dir=folder)
            engine.train(workspace_dir=folder, max_training_time=request.minutes)
            self._files = {name: (Path(folder) / name).read_bytes() for name in _MODEL_FILES}

    def sample(self, n_rows: int, rng: np.random.Generator) -> pa.Table:
        schema, engine = self._fitted, _engine()
        with tempfile.TemporaryDirectory(prefix="adyton-synth-") as folder:
            for name, data in self._files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            with _seeded(engine, int(rng.integers(2**31))):
                engine.generate(workspace_dir=folder, sample_size=n_rows)
            made = _read_parts(Path(folder) / "SyntheticData")
        arrays = {column.name: _decoded(column, made, self._types[column.name]) for column in _made_columns(schema)}
        if schema.with_role(Role.USER_ID):
            alike = [
                np.asarray(combined(arrays[c.name]).cast(pa.string()).dictionary_encode("encode").indices, np.int64)
                for c in schema.with_role(Role.USER)
                if c.kind is not Kind.LIST
            ]
            users = dealt_users(alike, n_rows, self._rows_per_user, rng)
            arrays[schema.user_id.name] = pa.array([f"s{user}" for user in users.tolist()])
        return pa.table({name: arrays[name] for name in schema.names if name in arrays})

    def describe(self) -> PrivacyStatement:
        return PrivacyStatement(None, "none", REASON)

    def to_bytes(self) -> bytes:
        header = {
            "format": _FORMAT,
            "schema": self._fitted.as_json(),
            "types": {name: type_text(arrow_type) for name, arrow_type in self._types.items()},
            "rows_per_user": self._rows_per_user.tolist(),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(_HEADER, json.dumps(header))
            for name, data in self._files.items():
                file.writestr(name, data)
        return buffer.getvalue()

    def load(self, data: bytes) -> None:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                header = json.loads(file.read(_HEADER))
                if header["format"] != _FORMAT:
                    raise SynthesisInputError("the synthesizer was written by another version")
                self._files = {name: file.read(name) for name in _MODEL_FILES}
            self._schema = TableSchema.from_json(header["schema"])
            self._types = {name: type_from_text(text) for name, text in header["types"].items()}
            self._rows_per_user = np.asarray(header["rows_per_user"], float)
        except (ValueError, KeyError, TypeError, zipfile.BadZipFile, pa.ArrowException) as error:
            raise SynthesisInputError(
                "this file is not a synthesizer", hint="make one with `adyton synth fit`"
            ) from error

    @property
    def _fitted(self) -> TableSchema:
        if self._schema is None or not self._files:
            raise SynthesisInputError("nothing was fitted yet")
        return self._schema


def _engine() -> ModuleType:
    try:
        from mostlyai import engine
    except ImportError as error:
        raise UnavailableError(
            "the autoregressive synthesizer needs mostlyai-engine",
            hint="pip install adyton[autoregressive]; where torch is a CPU build, also: pip uninstall torchvision",
        ) from error
    module: ModuleType = engine
    return module


@contextmanager
def _seeded(engine: ModuleType, seed: int) -> Iterator[None]:
    """Within: the engine at work. It draws from process-wide generators, which are put back as they were."""
    import torch

    before, python_state, numpy_state = os.environ.get(_SEED_VARIABLE), random.getstate(), np.random.get_state()
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, about the engine's own code
        engine.set_random_state(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            if before is None:
                os.environ.pop(_SEED_VARIABLE, None)
            else:
                os.environ[_SEED_VARIABLE] = before


def _seed(request: FitRequest) -> int:
    return int.from_bytes(request.source.token(4), "big") >> 1


def _made_columns(schema: TableSchema) -> list[Column]:
    return [column for column in schema.columns if column.role not in (Role.IGNORED, Role.USER_ID)]


def _names(column: Column) -> list[str]:
    if column.kind is not Kind.LIST:
        return [column.name]
    return [f"{column.name} element {position}" for position in range(LIST_ELEMENTS)]


def _flat(column: Column, data: pa.ChunkedArray) -> Iterator[tuple[str, pa.Array]]:
    """Columns as the engine takes them: text, floats, moments."""
    array = combined(data)
    match column.kind:
        case Kind.NUMBER:
            yield column.name, array.cast(pa.float64())
        case Kind.TIMESTAMP:
            yield column.name, pa.array(milliseconds(data), pa.timestamp("ms"))
        case Kind.LIST:
            length = pc.fill_null(pc.list_value_length(array), 0)
            for position, name in enumerate(_names(column)):
                long_enough = pc.if_else(pc.greater(length, position), array, None)
                yield name, pc.list_element(long_enough, position).cast(pa.string())
        case _:
            yield column.name, array.cast(pa.string())


def _decoded(column: Column, made: pa.Table, arrow_type: pa.DataType) -> pa.Array:
    if column.kind is Kind.LIST:
        cells = zip(*(_known(made[name]).to_pylist() for name in _names(column)), strict=True)
        lists = [[element for element in cell if element is not None] for cell in cells]
        return pa.array(lists, pa.list_(pa.string())).cast(arrow_type)
    array = combined(made[column.name])
    if column.kind is Kind.NUMBER:
        numbers = array.cast(pa.float64())
        whole = pc.round(numbers) if pa.types.is_integer(arrow_type) else numbers
        return whole.cast(arrow_type, safe=False)
    if column.kind is Kind.TIMESTAMP:
        moments = array.cast(pa.timestamp("ms"), safe=False)
        return (moments.cast(pa.int64()) if pa.types.is_integer(arrow_type) else moments).cast(arrow_type)
    return _known(made[column.name]).cast(arrow_type)


def _known(column: pa.ChunkedArray) -> pa.Array:
    """Text, with the engine's mark of a rare value as null."""
    text = combined(column).cast(pa.string())
    return pc.if_else(pc.equal(text, _RARE), None, text)


def _read_parts(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(folder)


def _plain(arrow_type: pa.DataType) -> pa.DataType:
    return arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type
