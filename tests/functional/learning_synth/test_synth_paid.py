"""Synthetic tables are paid from the ledger, and two tables keep their users together, as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cli.synth import synth
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import Account, OverBudgetError, PrivacyLoss

SCHEMA = {
    "columns": [
        {"name": "user", "role": "user_id", "kind": "category"},
        {"name": "clicked", "role": "label", "kind": "binary"},
        {"name": "slot", "role": "context", "kind": "category"},
    ]
}
ACCOUNT, BUDGET = Account("owner", "users"), PrivacyLoss.of(3, "1e-5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("first", 1), ("second", 2)):
        rng = np.random.default_rng(seed)
        user = rng.integers(0, 900, 3000)
        clicked = rng.random(3000) < np.where(user % 2, 0.7, 0.2)
        columns = {"user": [f"person{u}" for u in user.tolist()], "clicked": clicked.astype(np.int8)}
        pq.write_table(pa.table({**columns, "slot": rng.integers(0, 3, 3000)}), tmp_path / f"{name}.parquet")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def _fit(folder: Path, *more: str) -> Result:
    arguments = ["fit", str(folder / "first.parquet"), "--schema", str(folder / "schema.json"), "-o", str(folder / "m")]
    return CliRunner().invoke(synth, [*arguments, *_ledger(folder), *more])


def _ledger(folder: Path) -> list[str]:
    return ["--ledger", str(folder / "ledger.sqlite"), "--counter", str(folder / "counter")]


def _spent(folder: Path) -> PrivacyLoss:
    store = LedgerStore(folder / "ledger.sqlite", FileCounter(folder / "counter"))
    return store.ledger({ACCOUNT: BUDGET}).spent(ACCOUNT)


def test_a_fit_pays_exactly_its_loss_and_the_one_past_the_budget_is_refused_unwritten(folder: Path) -> None:
    paid = _fit(folder, "--epsilon", "2")
    assert paid.exit_code == 0, paid.output
    assert "epsilon left: 1" in paid.stderr
    assert _spent(folder) == PrivacyLoss.of(2, "1e-6")

    (folder / "m").unlink()
    refused = _fit(folder, "--epsilon", "2")
    assert isinstance(refused.exception, OverBudgetError)
    assert not (folder / "m").exists()
    assert _spent(folder) == PrivacyLoss.of(2, "1e-6")


def test_a_fit_that_fails_before_any_noise_is_not_paid_and_one_that_fails_after_is(folder: Path) -> None:
    domains = folder / "domains.json"
    domains.write_text(json.dumps({"nowhere": {"values": [1]}}))
    assert isinstance(_fit(folder, "--epsilon", "1", "--domains", str(domains)).exception, BadInputError)
    assert _spent(folder) == PrivacyLoss.of(0)

    # Refused only when the column's turn comes, after noise for the one before it.
    schema = json.loads((folder / "schema.json").read_text())
    schema["columns"].append({"name": "at", "role": "time", "kind": "timestamp"})
    (folder / "schema.json").write_text(json.dumps(schema))
    table = pq.read_table(folder / "first.parquet")
    days = pa.array(np.arange(table.num_rows) * 86_400_000)
    pq.write_table(table.append_column("at", days), folder / "first.parquet")
    assert isinstance(_fit(folder, "--epsilon", "1").exception, BadInputError)
    assert _spent(folder) == PrivacyLoss.of(1, "1e-6")


def test_nothing_is_paid_for_what_could_not_be_written(folder: Path) -> None:
    nowhere = str(folder / "nowhere" / "m")
    assert isinstance(_fit(folder, "--epsilon", "1", "-o", nowhere).exception, BadInputError)

    files = [str(folder / name) for name in ("first.parquet", "second.parquet")]
    schema = str(folder / "schema.json")
    pair = ["pair", *files, "--schema", schema, "--second-schema", schema, "--epsilon", "1", "-n", "9"]
    made = str(folder / "made")
    for second, expected in ((nowhere, 1), (made, 2)):
        where = ["--second-rows", "9", "-o", made, "--second-output", second]
        assert CliRunner().invoke(synth, [*pair, *where, *_ledger(folder)]).exit_code == expected
    assert not (folder / "made").exists()
    assert not (folder / "ledger.sqlite").exists()


def test_a_domain_of_the_wrong_type_is_refused_before_anything_is_paid(folder: Path) -> None:
    domains = folder / "domains.json"
    for wrong in ({"values": ["a"]}, {"span": [0, 9]}):
        domains.write_text(json.dumps({"slot": wrong}))
        assert isinstance(_fit(folder, "--epsilon", "1", "--domains", str(domains)).exception, BadInputError)
    assert _spent(folder) == PrivacyLoss.of(0)


def test_a_ledger_pays_for_guarantees_only(folder: Path) -> None:
    for more in ([], ["--epsilon", "1", "--insecure-fixed-noise", "1"]):
        assert _fit(folder, *more).exit_code == 2
    half = CliRunner().invoke(
        synth,
        ["fit", str(folder / "first.parquet"), "--schema", str(folder / "schema.json"), "-o", "m", "--ledger", "l"],
    )
    assert half.exit_code == 2


def test_a_pair_of_tables_shares_users_and_costs_its_loss_once(folder: Path) -> None:
    tables = [str(folder / "first.parquet"), str(folder / "second.parquet")]
    schema = str(folder / "schema.json")
    outputs = [folder / "a.parquet", folder / "b.parquet"]
    arguments = ["pair", *tables, "--schema", schema, "--second-schema", schema, "--epsilon", "3", "-n", "2500"]
    arguments += ["--second-rows", "2400", "-o", str(outputs[0]), "--second-output", str(outputs[1])]
    made = CliRunner().invoke(synth, [*arguments, *_ledger(folder)])
    assert made.exit_code == 0, made.output
    first, second = (pq.read_table(path) for path in outputs)

    assert (first.num_rows, second.num_rows) == (2500, 2400)
    assert len(set(first["user"].to_pylist()) & set(second["user"].to_pylist())) > 300
    assert not {u for u in first["user"].to_pylist() if u.startswith("person")}
    words = json.loads(first.schema.metadata[b"adyton.synthetic"])
    assert (words["epsilon"], words["delta"], words["unit"]) == ("3", "1/1000000", "user")
    assert words["covers"] == "both tables of a pair together"
    assert _spent(folder) == PrivacyLoss.of(3, "1e-6")
