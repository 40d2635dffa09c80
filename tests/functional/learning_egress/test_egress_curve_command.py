"""`adyton egress curve` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from adyton.cli.egress_curve import curve

SCHEMA = {
    "columns": [
        {"name": "clicked", "role": "label", "kind": "binary"},
        {"name": "age", "role": "user", "kind": "category"},
        {"name": "luck", "role": "user", "kind": "category"},
        {"name": "slot", "role": "context", "kind": "category"},
    ]
}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    n = 4000
    age, slot = rng.integers(0, 8, n), rng.integers(0, 3, n)
    clicked = (rng.random(n) < 1 / (1 + np.exp(-0.6 * (age - 3.5)))).astype(np.int8)
    table = pa.table({"clicked": clicked, "age": age, "luck": rng.integers(0, 8, n), "slot": slot})
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return ["--table", str(tmp_path / "rows.parquet"), "--schema", str(tmp_path / "schema.json")]


def test_a_table_of_sizes_goes_to_stdout_and_progress_to_stderr(files: list[str]) -> None:
    result = CliRunner().invoke(curve, [*files, "--sizes", "3,6"])

    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["bits", "0", "3", "6", "6"]
    assert result.stdout.splitlines()[2].split()[-1] == "age"
    assert "training at 3 bits" in result.stderr


def test_json_figure_and_schema_are_written(files: list[str], tmp_path: Path) -> None:
    figure, schema, encoding = tmp_path / "curve.svg", tmp_path / "egress.json", tmp_path / "encoding.json"
    arguments = ["--sizes", "3,6", "--method", "code", "--json", "--figure", str(figure)]
    result = CliRunner().invoke(
        curve, [*files, *arguments, "--schema-for", "3", "--schema-out", str(schema), "--encoding-out", str(encoding)]
    )

    assert result.exit_code == 0, result.output
    assert [point["bits"] for point in json.loads(result.stdout)["points"]] == [3, 6]
    assert "<svg" in figure.read_text()
    written = json.loads(schema.read_text())
    assert 1 <= sum(feature["size"] for feature in written["features"]) <= 3
    assert [feature["name"] for feature in json.loads(encoding.read_text())["features"]] == ["age", "luck"]
    assert {feature["name"] for feature in written["features"]} == {"unsigned-integer-feature"}


@pytest.mark.parametrize(
    "wrong", [["--sizes", "0"], ["--sizes", "five"], ["--schema-for", "5"], ["--test-share", "2"], ["--table", "x"]]
)
def test_a_wrong_command_line_is_refused_with_usage(wrong: list[str]) -> None:
    assert CliRunner().invoke(curve, wrong).exit_code == 2
