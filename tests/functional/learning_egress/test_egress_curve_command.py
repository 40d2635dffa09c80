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
from adyton.kernel.errors import BadInputError

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


@pytest.mark.parametrize(
    "unused", [["--schema", "s.json"], ["--free", "campaign"], ["--payload-parameter", "e"], ["--figure", "curve.xyz"]]
)
def test_what_would_do_nothing_is_refused_before_anything_is_measured(unused: list[str]) -> None:
    result = CliRunner().invoke(curve, ["--sizes", "3", *unused])

    assert result.exit_code == 2
    assert "choosing payloads" not in result.stderr


def test_a_file_that_could_not_be_written_ends_the_run_before_it_starts(files: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(curve, [*files, "--sizes", "3", "--figure", str(tmp_path / "nowhere" / "curve.svg")])

    assert isinstance(result.exception, BadInputError)
    assert result.output == ""


def test_rows_are_put_in_the_order_of_their_time(files: list[str], tmp_path: Path) -> None:
    table = pq.read_table(files[1])
    timed = table.append_column("at", pa.array(np.arange(table.num_rows)))
    columns = [*SCHEMA["columns"], {"name": "at", "role": "time", "kind": "timestamp"}]
    (tmp_path / "schema.json").write_text(json.dumps({"columns": columns}))
    found = []
    for rows in (timed, timed.take(np.random.default_rng(1).permutation(table.num_rows))):
        pq.write_table(rows, files[1])
        found.append(CliRunner().invoke(curve, [*files, "--sizes", "3"]).stdout)

    assert found[0] == found[1] != ""


@pytest.mark.parametrize("label", [None, 2, -1])
def test_labels_that_are_not_0_and_1_are_named_by_row(files: list[str], label: int | None) -> None:
    table = pq.read_table(files[1])
    labels = table["clicked"].to_pylist()
    labels[6] = label
    pq.write_table(table.set_column(0, "clicked", pa.array(labels, pa.int8())), files[1])

    result = CliRunner().invoke(curve, [*files, "--sizes", "3"])

    assert isinstance(result.exception, BadInputError)
    assert str(result.exception) == "rows.parquet, row 7, column clicked: this is not 0 or 1"


def test_a_measured_table_is_printed_even_if_no_feature_fits_the_size(files: list[str], tmp_path: Path) -> None:
    schema = tmp_path / "egress.json"

    result = CliRunner().invoke(curve, [*files, "--sizes", "1", "--schema-for", "1", "--schema-out", str(schema)])

    assert isinstance(result.exception, BadInputError)
    assert result.stdout.splitlines()[2].split()[:2] == ["1", "0"]
    assert not schema.exists()
