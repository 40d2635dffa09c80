"""`adyton ctr` from a file to an exported model, and its refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

from adyton.cli.ctr import ctr
from adyton.kernel.errors import BadInputError
from adyton.learning.ctr import store
from adyton.learning.errors import FeatureError, ModelError
from adyton.learning.metrics import Metric

DAY_MS = 86_400_000
SCHEMA = {
    "columns": [
        {"name": "user", "role": "user_id", "kind": "category"},
        {"name": "item", "role": "item_id", "kind": "category"},
        {"name": "at", "role": "time", "kind": "timestamp"},
        {"name": "age", "role": "user", "kind": "number"},
        {"name": "hour", "role": "context", "kind": "category"},
        {"name": "stay", "role": "outcome", "kind": "number"},
        {"name": "label", "role": "label", "kind": "binary"},
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    n = 1_500
    age, item = rng.integers(18, 80, n), rng.integers(0, 5, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-(age - 50) / 10 - item + 2))).astype(np.int8)
    pq.write_table(
        pa.table(
            {
                "user": [f"u{v}" for v in rng.integers(0, 50, n)],
                "item": item,
                "at": np.sort(rng.integers(0, 10 * DAY_MS, n)),
                "age": age,
                "hour": rng.integers(0, 3, n),
                "stay": label * 3.0,
                "label": label,
            }
        ),
        tmp_path / "t.parquet",
    )
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(ctr, [str(a) for a in arguments])


def trained(folder: Path, name: str = "m.npz", *more: str) -> Result:
    return run(
        "train", folder / "t.parquet", "--schema", folder / "s.json", "--validation-from", "1970-01-07",
        "--test-from", "1970-01-08T08:00+08:00", "--epochs", "2", "-o", folder / name, "--json", *more,
    )  # fmt: skip


def test_train_evaluate_and_export_work_from_files(folder: Path) -> None:
    report = json.loads(trained(folder).stdout)
    trained(folder, "worse.npz", "--feature", "hour")
    table = ("t.parquet", "--schema", folder / "s.json", "--test-from", "1970-01-08")
    evaluated = run(
        "evaluate", folder / "m.npz", folder / table[0], *table[1:], "--against", folder / "worse.npz", "--draws", "30",
        "--figures", folder / "figures", "--json",
    )  # fmt: skip
    exported = run(
        "export", folder / "m.npz", folder / "t.parquet", "--schema", folder / "s.json", "-o", folder / "out",
        "--test-from", "1970-01-08T08:00+08:00",
    )  # fmt: skip
    measured = json.loads(evaluated.stdout)
    manifest = json.loads((folder / "out/manifest.json").read_text())
    session = onnxruntime.InferenceSession((folder / "out/user_tower.onnx").read_bytes())

    assert report["fields"] == ["age", "item", "hour"]
    assert measured["auc"] > 0.75
    assert measured["difference"]["auc"]["low"] > 0
    assert sum(b["rows"] for b in measured["reliability"]) == measured["rows"]
    assert all(b["low"] <= b["click_rate"] <= b["high"] for b in measured["reliability"])
    assert f"m.npz, ECE {measured['ece']:.4f}" in (folder / "figures/reliability.svg").read_text()
    assert exported.exit_code == 0
    assert session.run(["bias"], {"user_fields": np.zeros((3, manifest["user_input_width"]), np.int64)})[0].shape == (
        3,
    )
    assert set(pq.read_table(folder / "out/ads.parquet")["id"].to_pylist()) == {*"01234", "unknown"}
    assert not list(folder.glob("*.partial"))
    card = (folder / "out/model_card.md").read_text()
    assert "No user id among its fields." in card
    assert "| auc |" in card
    assert manifest["training"]["data_sha256"] == [hashlib.sha256((folder / "t.parquet").read_bytes()).hexdigest()]
    assert manifest["metrics"]["auc"] == pytest.approx(measured["auc"], abs=0.05)
    fields = np.random.default_rng(0).integers(0, 5, (7, manifest["user_input_width"]))
    onnx_outputs = session.run(["to_ad", "to_context", "bias"], {"user_fields": fields})
    script_outputs = torch.jit.load(folder / "out/user_tower.pt")(torch.from_numpy(fields))
    for onnx_output, script_output in zip(onnx_outputs, script_outputs, strict=True):
        assert np.allclose(onnx_output, script_output.numpy(), atol=1e-6)


def test_cross_domain_reports_both_parties_as_table_and_as_json(folder: Path) -> None:
    table, schema = folder / "t.parquet", folder / "s.json"
    arguments = (
        "cross-domain", "--advertiser", table, "--advertiser-schema", schema, "--publisher", table,
        "--publisher-schema", schema, "--validation-from", "1970-01-06", "--test-from", "1970-01-08", "--members", "1",
        "--draws", "20",
    )  # fmt: skip
    gains = json.loads(run(*arguments, "--json").stdout)["gains"]
    text = run(*arguments).stdout

    assert [(gain["party"], gain["partner"]) for gain in gains] == [
        ("advertiser", "publisher"),
        ("publisher", "advertiser"),
    ]
    for gain in gains:
        change = gain["difference"]["auc"]
        assert change["value"] == pytest.approx(gain["joined"]["auc"] - gain["own"]["auc"])
        assert f"{change['value']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]" in text
    assert "publisher, with advertiser's data" in text


def test_compare_prints_the_price_of_factorising(folder: Path) -> None:
    trained(folder)
    arguments = (
        "compare", folder / "m.npz", folder / "t.parquet", "--schema", folder / "s.json", "--validation-from",
        "1970-01-07", "--test-from", "1970-01-08T08:00+08:00", "--draws", "20", "--only", "twin", "--only",
        "logistic regression",
    )  # fmt: skip
    report = json.loads(run(*arguments, "--json").stdout)
    text = run(*arguments).stdout
    twin, linear = report["references"]

    assert (twin["model"], linear["model"]) == ("twin", "logistic regression")
    assert min(twin["auc"], linear["auc"]) > 0.7
    change = twin["factorised_minus_this"]["auc"]
    assert change["value"] == pytest.approx(report["factorised"]["auc"] - twin["auc"])
    assert "price of factorising (factorised - twin):" in text
    assert f"auc      {change['value']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]" in text


def test_the_ensemble_is_one_model_with_longer_vectors(folder: Path) -> None:
    table = ("t.parquet", "--schema", folder / "s.json")
    run(
        "train", folder / table[0], *table[1:], "--validation-from", "1970-01-07", "--test-from", "1970-01-08",
        "--recipe", "ensemble", "--members", "2", "--min-count", "2", "-o", folder / "e.npz",
    )  # fmt: skip
    exported = run("export", folder / "e.npz", folder / table[0], *table[1:], "-o", folder / "out")
    manifest = json.loads((folder / "out/manifest.json").read_text())
    in_batches = run(
        "train", folder / table[0], *table[1:], "--validation-from", "1970-01-07", "--test-from", "1970-01-08",
        "--recipe", "ensemble", "--trainer", "batches", "-o", folder / "b.npz",
    )  # fmt: skip

    assert exported.exit_code == 0
    assert manifest["training"]["members"] == 4, "two members, each with a level and a taste"
    assert manifest["vector_dim"] == 4 * (16 + 16)
    assert isinstance(in_batches.exception, ModelError)


def test_distilled_networks_are_exported_and_go_on(folder: Path) -> None:
    table = ("t.parquet", "--schema", folder / "s.json")
    train = ("train", folder / table[0], *table[1:], "--validation-from", "1970-01-07", "--test-from", "1970-01-08")
    run(*train, "--recipe", "distilled", "--members", "2", "--min-count", "2", "-o", folder / "d.npz")
    exported = run("export", folder / "d.npz", folder / table[0], *table[1:], "-o", folder / "out")
    manifest = json.loads((folder / "out/manifest.json").read_text())
    goes_on = run(*train, "--start", folder / "d.npz", "-o", folder / "n.npz")

    assert exported.exit_code == goes_on.exit_code == 0
    assert manifest["training"]["members"] == 3
    assert manifest["vector_dim"] == 3 * (16 + 16)


def test_a_live_level_is_trained_measured_as_live_and_exported(folder: Path) -> None:
    report = json.loads(trained(folder, "m.npz", "--live-level").stdout)
    table = (folder / "t.parquet", "--schema", folder / "s.json")
    measured = ("evaluate", folder / "m.npz", *table, "--test-from", "1970-01-08", "--json")
    live, standing = (json.loads(run(*measured, *more).stdout) for more in (("--live",), ()))
    run("export", folder / "m.npz", *table, "-o", folder / "out", "--test-from", "1970-01-08")
    manifest = json.loads((folder / "out/manifest.json").read_text())
    trained(folder, "without.npz")
    refused = run("evaluate", folder / "without.npz", *table, "--live")

    assert manifest["live_level"] == {"prior_precision": report["live_precision"]}
    assert "follow each user's outcomes while it is live" in (folder / "out/model_card.md").read_text()
    assert live["gauc"] == standing["gauc"]
    assert live["auc"] != standing["auc"]
    assert isinstance(refused.exception, ModelError)
    assert "no live level" in str(refused.exception)


def test_training_goes_on_from_a_stored_model(folder: Path) -> None:
    trained(folder)
    (folder / "day.parquet").write_bytes((folder / "t.parquet").read_bytes())
    goes_on = run(
        "train", folder / "day.parquet", "--schema", folder / "s.json", "--validation-from", "1970-01-09",
        "--test-from", "1970-01-10", "--start", folder / "m.npz", "--epochs", "1", "-o", folder / "next.npz", "--json",
    )  # fmt: skip
    first, second = store.load(folder / "m.npz"), store.load(folder / "next.npz")

    assert json.loads(goes_on.stdout)["fields"] == ["age", "item", "hour"]
    assert second.encoder == first.encoder
    assert second.data_sha256 == first.data_sha256, "the same bytes are named once"
    assert not np.allclose(*(m.members[0].user.embeddings.detach().numpy() for m in (first, second)))


def test_the_same_seed_writes_the_same_model(folder: Path) -> None:
    trained(folder, "a.npz", "--seed", "5")
    trained(folder, "b.npz", "--seed", "5")
    trained(folder, "c.npz", "--seed", "6")
    a, b, c = (dict(np.load(folder / f"{name}.npz")) for name in "abc")

    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not all(np.array_equal(a[key], c[key]) for key in a)


def test_outcomes_missing_schemas_times_and_other_files_are_refused(folder: Path) -> None:
    table = folder / "t.parquet"
    not_a_model = run("evaluate", table, table, "--schema", folder / "s.json")
    no_schema = run("train", table, "--validation-from", "1970-01-07", "--test-from", "1970-01-08", "-o", folder / "m")
    no_time = run(
        "train", table, "--schema", folder / "s.json", "--validation-from", "noon", "--test-from", "1",
        "-o", folder / "m",
    )  # fmt: skip
    (folder / "out").mkdir()
    trained(folder)
    in_the_way = run("export", folder / "m.npz", table, "--schema", folder / "s.json", "-o", folder / "out")

    assert isinstance(trained(folder, "m2.npz", "--feature", "stay").exception, FeatureError)
    assert isinstance(not_a_model.exception, ModelError)
    assert isinstance(no_schema.exception, BadInputError)
    assert isinstance(no_time.exception, BadInputError)
    assert isinstance(in_the_way.exception, BadInputError)


def test_options_that_would_do_nothing_are_refused(folder: Path) -> None:
    trained(folder)
    shipped = run("evaluate", folder / "m.npz", "kuairand-advertiser", "--schema", folder / "s.json")
    challenge = run("evaluate", folder / "m.npz", "kuairand-advertiser", "--kind", "digix-ads")
    ignored = (
        ["--start", str(folder / "m.npz"), "--members", "2"],
        ["--start", str(folder / "m.npz"), "--feature", "age"],
        ["--dp-delta", "1e-7"],
        ["--budget-epsilon", "1"],
    )

    assert shipped.exit_code == challenge.exit_code == 2
    for options in ignored:
        refused = trained(folder, "n.npz", *options)
        assert refused.exit_code == 2, options
        assert f"Error: {options[-2]} " in refused.stderr
    assert not (folder / "n.npz").exists()


def test_a_model_that_could_not_be_written_is_not_trained(folder: Path) -> None:
    assert isinstance(trained(folder, "nowhere/m.npz").exception, BadInputError)


def test_ads_without_an_id_are_not_exported(folder: Path) -> None:
    trained(folder)
    table = pq.read_table(folder / "t.parquet")
    nameless = pa.array([None if item == 3 else item for item in table["item"].to_pylist()])
    pq.write_table(table.set_column(1, "item", nameless), folder / "t.parquet")
    exported = run("export", folder / "m.npz", folder / "t.parquet", "--schema", folder / "s.json", "-o", folder / "e")

    assert exported.exit_code == 0, exported.output
    assert set(pq.read_table(folder / "e/ads.parquet")["id"].to_pylist()) == {"0", "1", "2", "4", "unknown"}


def test_training_says_what_factorising_costs(folder: Path) -> None:
    report = json.loads(trained(folder, "m.npz").stdout)
    data = (folder / "t.parquet", "--schema", folder / "s.json")
    days = ("--validation-from", "1970-01-07", "--test-from", "1970-01-08")
    told = run("train", *data, *days, "-o", folder / "n.npz")
    without = run("train", *data, *days, "--no-twin", "--json", "-o", folder / "n.npz")
    refused = run("train", *data, *days, "--start", folder / "m.npz", "--twin", "-o", folder / "n.npz")

    assert set(report["factorised_minus_twin"]) == {metric.value for metric in Metric}
    for change in report["factorised_minus_twin"].values():
        assert change["low"] <= change["value"] <= change["high"]
    assert "against an unfactorised twin" in told.stdout
    assert json.loads(without.stdout)["factorised_minus_twin"] is None
    assert refused.exit_code == 2
    assert "would not know the earlier rows" in refused.output
