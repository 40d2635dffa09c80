"""A fitted synthesizer as bytes: arrays in NumPy's npz, everything else as JSON beside them. No pickles.

The bytes hold released tables only, so they may go wherever the model may go under its (epsilon, delta).
"""

from __future__ import annotations

import base64
import io
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.errors import DAMAGED_ARCHIVE
from adyton.learning.schema import TableSchema
from adyton.learning.synth.codes import CategoryCode, ColumnCode, ListCode, NumberCode, TimestampCode
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.label_tree import Clique, LabelTree
from adyton.learning.synth.synthesizer import SynthesizerModel

FORMAT = "adyton-synthesizer-1"
_HEADER = "header"


def to_bytes(model: SynthesizerModel) -> bytes:
    """The model as one npz file."""
    arrays: dict[str, Any] = {"rows_per_user": model.rows_per_user}
    for part, (star, groups) in enumerate(zip(model.tree.stars, model.tree.coarse, strict=True)):
        arrays[f"star{part}"], arrays[f"coarse{part}"] = star, groups
    for number, clique in enumerate(model.tree.cliques):
        arrays[f"joint{number}"] = clique.joint
    header = {
        "format": FORMAT,
        "schema": model.schema.as_json(),
        "unit": model.unit,
        "spent": model.spent.as_json(),
        "noise_is_secure": model.noise_is_secure,
        "max_rows_per_user": model.max_rows_per_user,
        "root": model.tree.root,
        "links": [[*clique.parents, clique.child] for clique in model.tree.cliques],
        "parts": len(model.tree.stars),
        "codes": [
            {"column": column.name, **_code_json(code, f"code{i}", arrays)}
            for i, (column, code) in enumerate(model.codes)
        ],
        "mechanisms": [[purpose, str(rho)] for purpose, rho in model.mechanisms],
    }
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> SynthesizerModel:
    """The model that `to_bytes` wrote.   Raises SynthesisInputError for anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(arrays[_HEADER].tobytes())
        if header["format"] != FORMAT:
            raise SynthesisInputError("the synthesizer was written by another version")
        return _model(header, arrays)
    except (*DAMAGED_ARCHIVE, pa.ArrowException) as error:
        raise SynthesisInputError("this file is not a synthesizer", hint="make one with `adyton synth fit`") from error


def _model(header: dict[str, Any], arrays: dict[str, Any]) -> SynthesizerModel:
    schema = TableSchema.from_json(header["schema"])
    cliques = tuple(
        Clique(tuple(parents), child, arrays[f"joint{number}"])
        for number, (*parents, child) in enumerate(header["links"])
    )
    parts = range(header["parts"])
    tree = LabelTree(
        tuple(arrays[f"star{p}"] for p in parts), tuple(arrays[f"coarse{p}"] for p in parts), header["root"], cliques
    )
    codes = tuple(
        (schema.column(entry["column"]), _code(entry, f"code{i}", arrays)) for i, entry in enumerate(header["codes"])
    )
    return SynthesizerModel(
        schema=schema,
        unit=header["unit"],
        spent=PrivacyLoss.of(header["spent"]["epsilon"], header["spent"]["delta"]),
        noise_is_secure=header["noise_is_secure"],
        max_rows_per_user=header["max_rows_per_user"],
        tree=tree,
        codes=codes,
        rows_per_user=arrays["rows_per_user"],
        mechanisms=tuple((purpose, Fraction(rho)) for purpose, rho in header["mechanisms"]),
    )


def _code_json(code: ColumnCode, name: str, arrays: dict[str, Any]) -> dict[str, Any]:
    match code:
        case CategoryCode(values, arrow_type):
            return {"kind": "category", "type": type_text(arrow_type), "values": list(values)}
        case ListCode(values, arrow_type):
            return {"kind": "list", "type": type_text(arrow_type), "values": list(values)}
        case TimestampCode(days, arrow_type, has_null):
            arrays[f"{name}.days"] = days
            return {"kind": "timestamp", "type": type_text(arrow_type), "has_null": has_null}
        case NumberCode(lows, highs, weights, bin_of_cell, has_null, arrow_type):
            for part, array in (("lows", lows), ("highs", highs), ("weights", weights), ("bins", bin_of_cell)):
                arrays[f"{name}.{part}"] = array
            return {"kind": "number", "type": type_text(arrow_type), "has_null": has_null}
    raise AssertionError("every coding can be stored")


def _code(entry: dict[str, Any], name: str, arrays: dict[str, Any]) -> ColumnCode:
    arrow_type = type_from_text(entry["type"])
    match entry["kind"]:
        case "category":
            return CategoryCode(tuple(entry["values"]), arrow_type)
        case "list":
            return ListCode(tuple(entry["values"]), arrow_type)
        case "timestamp":
            return TimestampCode(arrays[f"{name}.days"], arrow_type, bool(entry.get("has_null")))
        case "number":
            lows, highs, weights, bins = (arrays[f"{name}.{part}"] for part in ("lows", "highs", "weights", "bins"))
            return NumberCode(lows, highs, weights, bins, bool(entry["has_null"]), arrow_type)
    raise SynthesisInputError("the synthesizer was written by another version")


def type_text(arrow_type: pa.DataType) -> str:
    return base64.b64encode(pa.schema([("x", arrow_type)]).serialize().to_pybytes()).decode()


def type_from_text(text: str) -> pa.DataType:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))).field("x").type
