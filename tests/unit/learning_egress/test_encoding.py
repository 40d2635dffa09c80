"""What a device needs to fill a payload is all in the encoding's JSON."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
import pyarrow as pa

from adyton.learning.egress.curve import Method, Selection, curve, encoding_of
from adyton.learning.egress.features import EgressData, egress_data
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("age", Role.USER, Kind.CATEGORY),
        Column("follows", Role.USER, Kind.NUMBER),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
    )
)


def _data() -> tuple[pa.Table, EgressData]:
    rng = np.random.default_rng(0)
    n = 3000
    age, follows = rng.integers(0, 6, n), rng.normal(0, 1, n)
    clicked = (rng.random(n) < 1 / (1 + np.exp(-(age - 2.5) * np.sign(follows)))).astype(np.int8)
    ages = [None if a == 5 else f"a{a}" for a in age]
    numbers = [None if i % 50 == 0 else float(x) for i, x in enumerate(follows)]
    table = pa.table({"clicked": clicked, "age": ages, "follows": numbers, "slot": rng.integers(0, 3, n)})
    return table, egress_data(table, SCHEMA, np.arange(n) >= 2000)


def _payload(encoding: Any, record: dict[str, Any]) -> list[int]:
    """As a script on a device: plain Python, from JSON alone."""
    codes = []
    for feature in encoding["features"]:
        value = record[feature["name"]]
        if "values" in feature:
            text = None if value is None else str(value)
            codes.append(feature["values"].index(text) if text in feature["values"] else 0)
        else:
            codes.append(0 if value is None else 1 + bisect_right(feature["edges"], value))
    if "code" not in encoding:
        return codes
    code = encoding["code"]
    trees, numbers = code["propensity"], [code["propensity"]["base"]]
    for node in trees["roots"]:
        while trees["feature"][node] >= 0:
            goes_left = codes[trees["feature"][node]] <= trees["threshold"][node]
            node = trees["left" if goes_left else "right"][node]
        numbers[0] += trees["value"][node]
    vector = [sum(code["v"][first + c][d] for first, c in zip(code["first"], codes, strict=True)) for d in range(4)]
    numbers += [sum(x * row[d] for x, row in zip(vector, code["directions"], strict=True)) for d in range(4)]
    return [bisect_left(sent["edges"], numbers[sent["number"]]) for sent in code["edges"]]


def test_a_script_fills_the_payload_of_chosen_features() -> None:
    table, data = _data()
    selection = Selection(7, (("follows", 4), ("age", 3)))
    encoding = json.loads(json.dumps(encoding_of(selection, data)))
    expected = np.column_stack([f.codes for f in data.chosen(["follows", "age"])])

    assert [_payload(encoding, record) for record in table.slice(1900, 200).to_pylist()] == expected[1900:2100].tolist()


def test_a_script_fills_the_payload_of_a_learned_code() -> None:
    table, data = _data()
    selection = curve(data, [4], method=Method.CODE, trainer=FactorizationTrainer(epochs=3)).point(4).selection
    encoding = json.loads(json.dumps(encoding_of(selection, data), allow_nan=False))
    expected = np.column_stack([feature.codes for feature in selection.coded])

    assert selection.code is not None
    assert [_payload(encoding, record) for record in table.slice(2000, 300).to_pylist()] == expected[2000:2300].tolist()
