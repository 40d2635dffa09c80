"""The store's state depends on what was said, not on the order in which it arrived; files lose nothing."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.retrieval.errors import RecordError
from adyton.auction.retrieval.files import read_records, write_snapshot
from adyton.auction.retrieval.key_values import KeyValues
from adyton.auction.retrieval.records import Mutation, StoreRecord, UdfRecord, ValueType, string_record

KEYS = ["k1", "k2"]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@st.composite
def records(draw: st.DrawFn, elements: st.SearchStrategy[str] = st.sampled_from(["a", "b", "c"])) -> StoreRecord:  # noqa: B008
    kind = draw(st.sampled_from(list(ValueType)))
    value: object
    if kind is ValueType.STRING:
        value = draw(texts)
    elif kind is ValueType.STRING_SET:
        value = draw(st.frozensets(elements, max_size=3))
    else:
        bits = 32 if kind is ValueType.UINT32_SET else 64
        value = draw(st.frozensets(st.sampled_from([0, 1, 2**bits - 1]), max_size=3))
    return StoreRecord(
        draw(st.sampled_from(KEYS)),
        draw(st.integers(-(2**63), 2**63 - 1)),
        draw(st.sampled_from(list(Mutation))),
        kind,
        value,  # type: ignore[arg-type]
    )


def state(store: KeyValues) -> object:
    return [
        (
            store.get(key),
            store.string_set(key),
            store.uint_set(ValueType.UINT32_SET, key).tolist(),
            store.uint_set(ValueType.UINT64_SET, key).tolist(),
        )
        for key in KEYS
    ]


def naive_state(applied: list[StoreRecord]) -> object:
    """Per key or element: the record with the newest time decides."""

    def newest(kind: ValueType, key: str) -> dict[object, StoreRecord]:
        found: dict[object, StoreRecord] = {}
        for record in sorted(applied, key=lambda r: r.logical_commit_time):
            if record.value_type is kind and record.key == key:
                for what in [None] if kind is ValueType.STRING else record.value:
                    found[what] = record
        return found

    def members(kind: ValueType, key: str) -> list[object]:
        return [what for what, record in newest(kind, key).items() if record.mutation is Mutation.UPDATE]

    rows = []
    for key in KEYS:
        text = newest(ValueType.STRING, key).get(None)
        rows.append(
            (
                text.value if text is not None and text.mutation is Mutation.UPDATE else None,
                frozenset(members(ValueType.STRING_SET, key)),
                sorted(members(ValueType.UINT32_SET, key)),  # type: ignore[type-var]
                sorted(members(ValueType.UINT64_SET, key)),  # type: ignore[type-var]
            )
        )
    return rows


@settings(max_examples=50)
@given(st.lists(records(), max_size=12, unique_by=lambda r: r.logical_commit_time), st.randoms(use_true_random=False))
def test_the_newest_commit_time_wins_in_any_order(applied: list[StoreRecord], shuffler: object) -> None:
    shuffled = list(applied)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    store = KeyValues()
    for record in shuffled:
        before = state(store)
        changed = store.apply(record)

        assert changed == (state(store) != before)

    assert state(store) == naive_state(applied)


@settings(max_examples=25, deadline=None)
@given(st.lists(records(), max_size=8))
def test_csv_files_give_back_what_was_written(written: list[StoreRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "DELTA_0000000000000001.csv"
        write_snapshot(path, written)

        assert list(read_records(path)) == written


@settings(max_examples=25, deadline=None)
@given(st.lists(records(elements=texts), max_size=8))
def test_parquet_files_give_back_what_was_written(written: list[StoreRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "SNAPSHOT_0000000000000001.parquet"
        write_snapshot(path, written)

        assert list(read_records(path)) == written


@settings(max_examples=15, deadline=None)
@given(st.lists(st.builds(UdfRecord, texts, texts, st.integers(0, 2**40), st.integers(0, 99)), min_size=1, max_size=3))
def test_script_versions_round_trip_through_both_formats(written: list[UdfRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("DELTA_0000000000000001.csv", "DELTA_0000000000000002.parquet"):
            path = Path(folder) / name
            write_snapshot(path, written)

            assert list(read_records(path)) == written


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["csv", "parquet"]), st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=3)), max_size=4)
)
def test_a_spoiled_file_gives_records_or_the_documented_error(suffix: str, edits: list[tuple[int, bytes]]) -> None:
    """Edits write over bytes, or cut the file off where they are empty."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"DELTA_0000000000000001.{suffix}"
        members = StoreRecord("s", 1, Mutation.UPDATE, ValueType.STRING_SET, frozenset({"element"}))
        write_snapshot(path, [string_record("key", "value", 1), members])
        data = bytearray(path.read_bytes())
        for place, new in edits:
            at = place % len(data) if data else 0
            data[at : at + len(new) if new else len(data)] = new
        path.write_bytes(data)
        with contextlib.suppress(RecordError):
            assert all(isinstance(record, StoreRecord) for record in read_records(path))


@pytest.mark.parametrize(
    ("column", "value"),
    [("value", b"\xff"), ("key", b"\xff"), ("key", None), ("elements", [b"\xff"]), ("key", [1])],
)
def test_columns_of_parquet_that_are_no_text_are_refused(tmp_path: Path, column: str, value: object) -> None:
    row = {"key": "k", "logical_commit_time": 1, "mutation_type": "UPDATE", "value": "v", "value_type": "string"}
    if column == "elements":
        row |= {"value_type": "string_set", "value": None}
    for kind in (None, pa.string()) if isinstance(value, bytes) else (None,):
        array = pa.array([value])
        if kind is not None:  # bytes that the file calls text
            array = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(value))
        columns = {name: pa.array([given]) for name, given in row.items()}
        path = tmp_path / "DELTA_0000000000000001.parquet"
        pq.write_table(pa.table({**columns, column: array}), path)
        with pytest.raises(RecordError, match=path.name):
            list(read_records(path))


def test_bytes_of_parquet_that_are_text_are_text(tmp_path: Path) -> None:
    path = tmp_path / "DELTA_0000000000000001.parquet"
    row = {"key": b"k", "logical_commit_time": 1, "mutation_type": "UPDATE", "value": b"v", "value_type": "string"}
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert list(read_records(path)) == [string_record("k", "v", 1)]
