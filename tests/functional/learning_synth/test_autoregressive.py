"""The autoregressive synthesizer: really trained where its engine is installed, and never with a claim of privacy."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from adyton.kernel.chance import InsecureFixedRandom, stream
from adyton.kernel.errors import UnavailableError
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.autoregressive import AutoregressiveSynthesizer
from adyton.learning.synth.contract import FitRequest
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError
from adyton.learning.synth.plugins import AUTOREGRESSIVE, fit_named, load_named, stated_guarantee, statement_as_json

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("mostlyai") is None,
    reason="mostlyai-engine is absent: the autoregressive synthesizer is NOT TESTED here",
)
SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
        Column("price", Role.AD, Kind.NUMBER),
        Column("at", Role.TIME, Kind.TIMESTAMP),
        Column("tags", Role.SEQUENCE, Kind.LIST),
    )
)


def _request(loss: PrivacyLoss | None = None) -> FitRequest:
    return FitRequest(loss, "user", 4, InsecureFixedRandom(1), minutes=0.1)


def _table(n: int = 1200) -> pa.Table:
    rng = np.random.default_rng(0)
    slot = rng.integers(0, 3, n)
    return pa.table(
        {
            "user": [f"person-{u}" for u in rng.integers(0, 300, n).tolist()],
            "clicked": pa.array((rng.random(n) < 0.1 + 0.4 * (slot == 2)).astype(np.int8)),
            "city": pa.array(rng.integers(0, 4, n), mask=rng.random(n) < 0.1),
            "slot": pa.array([f"slot{s}" for s in slot.tolist()]).dictionary_encode(),
            "price": rng.normal(10, 2, n),
            "at": pa.array(1_650_000_000_000 + rng.integers(0, 3 * 86_400_000, n)),
            "tags": pa.array([["news", "sport", "cars"][: int(k)] for k in rng.integers(0, 4, n)]),
        }
    )


@pytest.mark.slow
@needs_engine
def test_it_trains_and_samples_the_schemas_own_types_and_says_that_nothing_is_guaranteed() -> None:
    table = _table()
    fitted = fit_named(AUTOREGRESSIVE, table, SCHEMA, _request())
    data = fitted.to_bytes()
    again = load_named(AUTOREGRESSIVE, data)
    made = again.sample(600, stream(0, "a"))

    assert made.equals(again.sample(600, stream(0, "a")))
    assert made.column_names == list(SCHEMA.names)
    for name in ("clicked", "city", "price", "at", "tags"):
        assert made.schema.field(name).type == table.schema.field(name).type
    assert set(made["slot"].to_pylist()) <= {"slot0", "slot1", "slot2", None}
    assert set(made["clicked"].to_pylist()) == {0, 1}
    assert 0 < made["city"].null_count < 300
    assert not set(made["user"].to_pylist()) & set(table["user"].to_pylist())
    words = statement_as_json(AUTOREGRESSIVE, again.statement)
    assert words["warning"] == "no privacy guarantee"
    assert stated_guarantee(words).startswith("NONE")
    assert b"person-1" not in b"".join(_members(data))


def _members(data: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(data[data.index(b"PK") :])) as file:
        return [file.read(name) for name in file.namelist()]


def test_a_privacy_loss_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(PrivacySpendError, match="no guarantee"):
        fit_named(AUTOREGRESSIVE, _table(), SCHEMA, _request(PrivacyLoss.of(3, "1e-6")))


def test_without_the_engine_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mostlyai", None)
    with pytest.raises(UnavailableError) as refused:
        fit_named(AUTOREGRESSIVE, _table(), SCHEMA, _request())
    assert "adyton[autoregressive]" in str(refused.value.hint)


@pytest.mark.parametrize("data", [b"", b"PK nothing", b"x" * 100])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(SynthesisInputError):
        AutoregressiveSynthesizer().load(data)


def test_a_file_without_the_model_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("adyton.json", json.dumps({"format": "adyton-autoregressive-1"}))
    with pytest.raises(SynthesisInputError):
        AutoregressiveSynthesizer().load(buffer.getvalue())
