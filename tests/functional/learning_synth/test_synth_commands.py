"""`adyton synth fit | sample | report` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from adyton.cli.synth import synth
from adyton.kernel.errors import BadInputError
from adyton.learning.synth import store

SCHEMA = {
    "columns": [
        {"name": "user", "role": "user_id", "kind": "category"},
        {"name": "clicked", "role": "label", "kind": "binary"},
        {"name": "age", "role": "user", "kind": "category"},
        {"name": "price", "role": "ad", "kind": "number"},
        {"name": "tags", "role": "sequence", "kind": "list"},
    ]
}


def _rows(name: str, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = 3000
    age = rng.integers(0, 4, n)
    return pa.table(
        {
            "user": [f"{name}{u}" for u in rng.integers(0, 700, n).tolist()],
            "clicked": pa.array((rng.random(n) < 0.2 + 0.15 * age).astype(np.int8)),
            "age": [f"age{a}" for a in age.tolist()],
            "price": np.exp(rng.normal(0, 1, n)),
            "tags": pa.array([["a", "b"][: int(k)] for k in rng.integers(0, 3, n)]),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("train", 1), ("holdout", 2), ("test", 3)):
        pq.write_table(_rows(name, seed), tmp_path / f"{name}.parquet")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def _fit(folder: Path, *more: str) -> Result:
    arguments = ["fit", str(folder / "train.parquet"), "--schema", str(folder / "schema.json"), "--epsilon", "3"]
    return CliRunner().invoke(synth, [*arguments, "-o", str(folder / "model"), *more])


def test_fit_sample_and_report_from_end_to_end(folder: Path) -> None:
    fitted = _fit(folder, "--json")
    made = folder / "made.parquet"
    sampled = CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "2500", "-o", str(made)])
    files = {name: str(folder / f"{name}.parquet") for name in ("train", "holdout", "test")}
    arguments = ["report", "--synthetic", str(made), "--schema", str(folder / "schema.json"), "--json"]
    reported = CliRunner().invoke(
        synth,
        [*arguments, *(part for name, file in files.items() for part in (f"--{name}", file)),
         "--page", str(folder / "page.html")],
    )  # fmt: skip

    assert fitted.exit_code == sampled.exit_code == reported.exit_code == 0, reported.output
    assert json.loads(fitted.stdout)["epsilon"] == "3"
    table = pq.read_table(made)
    assert table.num_rows == 2500
    assert json.loads(table.schema.metadata[b"adyton.synthetic"])["unit"] == "user"
    report = json.loads(reported.stdout)
    assert report["privacy"]["user_ids_shared"] == 0
    assert 0.7 < report["fidelity"]["synthetic"]["quality"] < report["fidelity"]["ceiling"]["quality"] <= 1
    assert report["utility"]["auc_ratio"] > 0.8
    assert "membership AUC" in (folder / "page.html").read_text()


def test_the_same_seed_samples_the_same_table_and_csv_goes_to_stdout(folder: Path) -> None:
    _fit(folder)
    first, second, other = (
        CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "20", "--seed", seed]).stdout
        for seed in ("1", "1", "2")
    )

    assert first == second != other
    assert first.splitlines()[0] == '"user","clicked","age","price","tags"'
    assert len(first.splitlines()) == 21


def test_fixed_noise_warns_on_stderr_and_marks_the_table(folder: Path) -> None:
    fitted = _fit(folder, "--insecure-fixed-noise", "7")
    CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "9", "-o", str(folder / "made.parquet")])

    assert "protects nobody" in fitted.stderr
    metadata = pq.read_table(folder / "made.parquet").schema.metadata
    assert "no guarantee" in json.loads(metadata[b"adyton.synthetic"])["warning"]


def test_public_domains_are_read_from_json(folder: Path) -> None:
    (folder / "domains.json").write_text(json.dumps({"age": {"values": ["age0", "age1", "age2", "age3", "ageless"]}}))

    assert _fit(folder, "--domains", str(folder / "domains.json")).exit_code == 0


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("schema.json", "{}"),
        ("schema.json", "not json"),
        ("train.parquet", "not parquet"),
        ("domains.json", '{"age": {"range": 3}}'),
        ("domains.json", '{"price": {"edges": ["low", "high"]}}'),
        ("domains.json", '{"price": {"edges": [0, Infinity]}}'),
        ("domains.json", '{"age": {"values": [["age0"]]}}'),
        ("domains.json", '{"age": {"values": [0, 1]}}'),
    ],
)
def test_unusable_files_give_one_clear_error(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    more = ["--domains", str(folder / "domains.json")] if file == "domains.json" else []

    assert isinstance(_fit(folder, *more).exception, BadInputError)


@pytest.mark.parametrize("labels", [{1: 1, 0: -1}, {1: 2, 0: 1}, {1: 1, 0: None}])
def test_labels_that_are_not_0_and_1_are_refused_and_not_counted_as_one_of_them(
    folder: Path, labels: dict[int, int | None]
) -> None:
    table = pq.read_table(folder / "train.parquet")
    coded = pa.array([labels[label] for label in table["clicked"].to_pylist()], pa.int8())
    pq.write_table(table.set_column(1, "clicked", coded), folder / "train.parquet")

    result = _fit(folder)

    assert isinstance(result.exception, BadInputError)
    assert str(result.exception).startswith("clicked: ")
    assert not (folder / "model").exists()


def test_numbers_beyond_what_a_float_holds_exactly_are_fitted(folder: Path) -> None:
    table = pq.read_table(folder / "train.parquet")
    large = pa.array([2**62 + row for row in range(table.num_rows)])
    pq.write_table(table.set_column(3, "price", large), folder / "train.parquet")

    assert _fit(folder).exit_code == 0


def test_lists_of_lists_are_refused(folder: Path) -> None:
    table = pq.read_table(folder / "train.parquet")
    pq.write_table(table.set_column(4, "tags", pa.array([[["a"]]] * table.num_rows)), folder / "train.parquet")

    assert isinstance(_fit(folder).exception, BadInputError)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--minutes", "3"], "--minutes"),
        (["--unit", "row", "--max-rows-per-user", "4"], "--max-rows-per-user"),
        (["--synthesizer", "autoregressive", "--structure", "tree"], "--structure"),
        (["--synthesizer", "some.module:Class", "--structure", "star"], "--structure"),
        (["--synthesizer", "autoregressive", "--unit", "user"], "--unit"),
    ],
)
def test_options_that_a_synthesizer_would_ignore_are_refused(folder: Path, options: list[str], named: str) -> None:
    result = _fit(folder, *options)

    assert result.exit_code == 2
    assert f"Error: {named} " in result.stderr
    assert not (folder / "model").exists()


@pytest.mark.parametrize("options", [["--structure", "tree"], ["--match-on", "age"]])
def test_options_of_attacks_and_lifts_that_are_not_asked_for_are_refused(folder: Path, options: list[str]) -> None:
    _fit(folder)
    CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "100", "-o", str(folder / "made.parquet")])

    result = _reported(folder, *options)

    assert result.exit_code == 2
    assert options[0] in result.stderr


def test_a_table_on_stdout_says_on_stderr_what_is_guaranteed(folder: Path) -> None:
    _fit(folder, "--insecure-fixed-noise", "7")

    assert "fixed noise: no guarantee" in CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "9"]).stderr


def test_a_model_file_with_any_byte_changed_is_read_or_refused(folder: Path) -> None:
    _fit(folder, "--insecure-fixed-noise", "1")
    data = (folder / "model").read_bytes()
    for place in [*range(60), *range(60, len(data), 97)]:
        (folder / "model").write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        result = CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "1"])
        assert result.exit_code == 0 or isinstance(result.exception, BadInputError), place


def test_something_else_is_not_a_model(folder: Path) -> None:
    for file in ("train.parquet", "schema.json"):
        result = CliRunner().invoke(synth, ["sample", str(folder / file), "-n", "1"])
        assert isinstance(result.exception, BadInputError)


def test_an_inexact_epsilon_is_refused(folder: Path) -> None:
    assert isinstance(_fit(folder, "--epsilon", "much").exception, BadInputError)


def _reported(folder: Path, *more: str) -> Result:
    made = folder / "made.parquet"
    if not made.exists():
        _fit(folder)
        CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "2500", "-o", str(made)])
    arguments = ["report", "--synthetic", str(made), "--schema", str(folder / "schema.json")]
    for name in ("train", "holdout", "test"):
        arguments += [f"--{name}", str(folder / f"{name}.parquet")]
    return CliRunner().invoke(synth, [*arguments, *more])


def test_the_page_draws_its_figures_and_holds_nothing_that_is_loaded(folder: Path) -> None:
    page = folder / "page.html"
    reported = _reported(folder, "--page", str(page), "--shadow-models", "4", "--json")
    found = json.loads(reported.stdout)["privacy"]["shadow_membership"]
    written = page.read_text()

    assert found["shadow_models"] == 4
    assert found["auc"]["low"] < found["auc"]["value"] < found["auc"]["high"]
    assert written.count("<svg") == 3
    assert "<script" not in written
    assert 'src="' not in written
    for words in ("epsilon 3, delta 1e-06, unit user", "zCDP", "GAUC, trees", "log loss", "shadow models", "fresh"):
        assert words in written


@pytest.mark.slow
def test_the_lift_of_a_partners_columns_is_reported(folder: Path) -> None:
    reported = _reported(folder, "--partner-columns", "age", "--json")
    lift = json.loads(reported.stdout)["lift"]

    assert lift["lift_real"]["low"] > 0
    assert lift["share_kept"]["value"] > 0.5


def test_a_lift_without_later_rows_and_shadows_of_an_unknown_origin_are_refused(folder: Path) -> None:
    made = folder / "train.parquet"
    arguments = ["report", "--schema", str(folder / "schema.json"), "--synthetic", str(made), "--train", str(made)]
    arguments += ["--holdout", str(folder / "holdout.parquet")]
    for more, words in (
        (["--partner-columns", "age"], "later real rows"),
        (["--shadow-models", "4"], "how it was made"),
    ):
        refused = CliRunner().invoke(synth, [*arguments, *more])
        assert isinstance(refused.exception, BadInputError)
        assert words in str(refused.exception)


def test_the_audit_prints_a_bound_below_the_claim() -> None:
    """Confidence as high as can be asked: a sound fit is refuted once in 10^7 runs at most."""
    found = CliRunner().invoke(synth, ["audit", "--epsilon", "1", "--confidence", "0.9999999", "--json"])
    result = json.loads(found.stdout)

    assert found.exit_code == 0
    assert 0 <= result["epsilon_low"] <= 1
    assert (result["canaries"], result["refutes_the_claim"]) == (1000, False)


@pytest.mark.parametrize("structure", ["star", "tree", "junction-tree"])
def test_every_structure_is_fitted_sampled_and_attacked_by_refits(folder: Path, structure: str) -> None:
    fitted = _fit(folder, "--structure", structure, "--json")
    made = str(folder / "made.parquet")
    sampled = CliRunner().invoke(synth, ["sample", str(folder / "model"), "-n", "2500", "-o", made])
    reported = _reported(folder, "--structure", structure, "--shadow-models", "4", "--json")

    assert fitted.exit_code == sampled.exit_code == reported.exit_code == 0, reported.output
    assert json.loads(fitted.stdout)["epsilon"] == "3"
    assert json.loads(reported.stdout)["fidelity"]["synthetic"]["quality"] > 0.7
    cliques = store.from_bytes((folder / "model").read_bytes()).tree.cliques
    assert bool(cliques) == (structure != "star")


def test_cliques_are_audited_too() -> None:
    """Real noise: at this confidence a sound fit is refuted once in 10^7 runs at most."""
    arguments = ["audit", "--epsilon", "1", "--structure", "junction-tree", "--confidence", "0.9999999", "--json"]
    found = CliRunner().invoke(synth, arguments)

    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["refutes_the_claim"] is False
