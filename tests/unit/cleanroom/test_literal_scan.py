"""User ids are found wherever they hide in an output, and not where chance alone would put them."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from adyton.cleanroom.join import PartyTable
from adyton.cleanroom.literal_scan import LiteralScan, texts_of
from adyton.kernel.ids import DatasetId
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema((Column("user", Role.USER_ID, Kind.CATEGORY),))
PERSON, NUMBER, EMAIL = "person-000234", "4915112345678", "ada@mail.example"


def scan(*columns: pa.Array) -> LiteralScan:
    return LiteralScan([PartyTable(DatasetId("t"), "t", pa.table({"user": c}), SCHEMA) for c in columns])


PEOPLE = scan(
    pa.array([f"person-{i:06d}" for i in range(1_000)] + [EMAIL]).dictionary_encode(),
    pa.array([int(NUMBER) + 7919 * i for i in range(1_000)], pa.int64()),
)


def found(content: bytes, where: LiteralScan = PEOPLE) -> int:
    return where.found_in({"output": texts_of(content)})["output"]


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def onnx_model(**texts: str) -> bytes:
    """A model whose metadata, documentation or tensor says something."""
    weight = helper.make_tensor("w", TensorProto.STRING, [1], [texts.get("tensor", "w").encode()])
    graph = helper.make_graph([], texts.get("graph", "tower"), [], [], initializer=[weight])
    model = helper.make_model(graph, doc_string=texts.get("doc", ""))
    helper.set_model_props(model, {"note": texts.get("note", "")})
    return bytes(onnx.ModelProto.SerializeToString(model))


HIDDEN = {
    "a JSON value": json.dumps({"top": [PERSON]}).encode(),
    "a JSON key": json.dumps({PERSON: 1}).encode(),
    "inside a longer text": json.dumps([f"best user: {PERSON}, by far"]).encode(),
    "in another case": json.dumps([f" {PERSON.upper()} "]).encode(),
    "glued to other text": json.dumps([f"x{EMAIL}y"]).encode(),
    "a JSON number": json.dumps({"mean": int(NUMBER)}).encode(),
    "a float that is whole": json.dumps({"mean": float(NUMBER)}).encode(),
    "a number written as text": json.dumps([f"id={NUMBER}"]).encode(),
    "a text column": parquet(pa.table({"c": ["a", PERSON]})),
    "a coded column": parquet(pa.table({"c": pa.array([PERSON, "b"]).dictionary_encode()})),
    "a list in a column": parquet(pa.table({"c": [["a"], [PERSON]]})),
    "a number column": parquet(pa.table({"c": [1, int(NUMBER)]})),
    "a float column": parquet(pa.table({"c": [0.5, float("nan"), float(NUMBER)]})),
    "a binary column": parquet(pa.table({"c": pa.array([PERSON.encode()], pa.binary())})),
    "a column's name": parquet(pa.table({PERSON: [1]})),
    "Parquet metadata": parquet(pa.table({"c": [1]}).replace_schema_metadata({"note": PERSON})),
    "a file's name": zipped(**{f"{PERSON}.bin": b"x"}),
    "a ZIP member": zipped(a=b"\x00\x01" + EMAIL.encode() + b"\xff"),
    "a ZIP in a ZIP": zipped(a=zipped(b=parquet(pa.table({"c": [PERSON]})))),
    "wide characters": b"\x01\x02" + PERSON.encode("utf-16-le") + b"\x00\x01",
    "ONNX metadata": onnx_model(note=f"made for {PERSON}"),
    "ONNX documentation": onnx_model(doc=PERSON),
    "an ONNX name": onnx_model(graph=PERSON),
    "an ONNX text tensor": onnx_model(tensor=EMAIL),
}


@pytest.mark.parametrize("where", HIDDEN)
def test_an_id_is_found(where: str) -> None:
    assert found(HIDDEN[where]) == 1


def test_an_output_without_ids_has_none() -> None:
    harmless = {
        "texts": ["person-x00234", "person-00234", "sports", "a@b.example"],
        "numbers": [1234567, 0.25, -3, 1e300, True, None],
    }
    assert found(json.dumps(harmless).encode()) == 0
    assert found(onnx_model()) == 0
    assert found(zipped(table=parquet(pa.table({"c": ["a"], "d": [3.5]})))) == 0
    assert found(b"") == found(b"\x00" * 100) == 0


def test_random_weights_are_no_ids() -> None:
    weights = np.random.default_rng(5).standard_normal(200_000).astype(np.float32).tobytes()
    hexadecimal = scan(pa.array([f"{i * 2654435761 % 2**32:08x}" for i in range(20_000)]))

    assert found(weights) == 0
    assert found(weights, hexadecimal) == 0


def test_numbers_that_meet_dense_ids_by_chance_say_nothing() -> None:
    """Ids are the numbers to a million, so a noised count of 123456 is one: only a text of its own would tell."""
    dense = scan(pa.array(range(1_000_000), pa.int64()))

    assert found(json.dumps({"count": 123456}).encode(), dense) == 0
    assert found(json.dumps({"user": "123456"}).encode(), dense) == 1


def test_each_output_is_told_apart_and_ids_are_counted() -> None:
    outputs = {"model": texts_of(b'["person-000001", "person-000002"]'), "table": texts_of(b'["x"]')}

    assert PEOPLE.found_in(outputs) == {"model": 2, "table": 0}
    assert PEOPLE.found_in({}) == {}
