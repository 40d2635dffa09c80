"""A user's own synthesizer class, from `adyton synth fit` to the report, and what the contract refuses."""

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
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError, SynthesizerFailedError

OWN = '''
import io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.synth.contract import PrivacyStatement


class Shuffled:
    """Each column drawn by itself from the real values: shapes, no pairs, no guarantee."""

    def fit(self, table, schema, request):
        self.table = table.select(list(schema.names))

    def sample(self, n_rows, rng):
        n = self.table.num_rows
        return pa.table({c: self.table[c].take(pa.array(rng.integers(0, n, n_rows))) for c in self.table.column_names})

    def describe(self):
        return PrivacyStatement(None, "none", "values of single columns are passed on as they are")

    def to_bytes(self):
        buffer = io.BytesIO()
        pq.write_table(self.table, buffer)
        return buffer.getvalue()

    def load(self, data):
        self.table = pq.read_table(io.BytesIO(data))


class Boasting(Shuffled):
    def describe(self):
        return PrivacyStatement(PrivacyLoss.of(2, "1e-6"), "user", "trust me")


class Short(Shuffled):
    def sample(self, n_rows, rng):
        return super().sample(n_rows - 1, rng)


class Talkative(Shuffled):
    def fit(self, table, schema, request):
        raise ValueError(f"cannot use {table[0][0]}")


class Half:
    def fit(self, table, schema, request): ...
'''
SCHEMA = {
    "columns": [
        {"name": "user", "role": "user_id", "kind": "category"},
        {"name": "clicked", "role": "label", "kind": "binary"},
        {"name": "age", "role": "user", "kind": "category"},
    ]
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_synthesizers.py").write_text(OWN)
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    for seed, name in enumerate(("train", "holdout")):
        rng = np.random.default_rng(seed)
        age = rng.integers(0, 4, 600)
        pq.write_table(
            pa.table(
                {
                    "user": [f"{name}{u}" for u in rng.integers(0, 200, 600).tolist()],
                    "clicked": (rng.random(600) < 0.2 + 0.15 * age).astype(np.int8),
                    "age": [f"age{a}" for a in age.tolist()],
                }
            ),
            tmp_path / f"{name}.parquet",
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def fitted(folder: Path, name: str, *more: str) -> Result:
    arguments = ["fit", str(folder / "train.parquet"), "--schema", str(folder / "schema.json")]
    return CliRunner().invoke(
        synth, [*arguments, "--synthesizer", f"own_synthesizers:{name}", "-o", str(folder / "model"), *more]
    )


def sampled(folder: Path, name: str) -> Result:
    return CliRunner().invoke(
        synth, ["sample", str(folder / "model"), "-n", "500", "--synthesizer", name, "-o", str(folder / "made.parquet")]
    )


def reported(folder: Path, *more: str) -> Result:
    parts = [f"--{name}={folder / name}.parquet" for name in ("train", "holdout")]
    return CliRunner().invoke(
        synth,
        ["report", f"--synthetic={folder / 'made.parquet'}", *parts, f"--schema={folder / 'schema.json'}", *more],
    )


def test_a_class_without_guarantee_works_and_is_labelled_at_every_step(folder: Path) -> None:
    fit = fitted(folder, "Shuffled", "--json")
    sample = sampled(folder, "own_synthesizers:Shuffled")
    page = folder / "page.html"
    report = reported(folder, "--json", f"--page={page}")

    assert fit.exit_code == sample.exit_code == report.exit_code == 0, (fit, sample, report)
    assert json.loads(fit.stdout)["epsilon"] is None
    assert "no privacy guarantee" in fit.stderr
    assert "NONE" in sample.stderr
    assert pq.read_table(folder / "made.parquet").num_rows == 500
    guarantee = json.loads(report.stdout)["privacy"]["guarantee"]
    assert guarantee["synthesizer"] == "own_synthesizers:Shuffled"
    assert guarantee["warning"] == "no privacy guarantee"
    assert "NONE: own_synthesizers:Shuffled states no privacy guarantee" in page.read_text()
    assert "NONE: own_synthesizers:Shuffled" in reported(folder).stdout


def test_a_claim_that_is_not_ours_is_labelled_as_unchecked_and_ours_is_not(folder: Path) -> None:
    fitted(folder, "Boasting", "--epsilon", "3")
    sampled(folder, "own_synthesizers:Boasting")
    claimed = reported(folder).stdout
    CliRunner().invoke(
        synth,
        ["fit", str(folder / "train.parquet"), "--schema", str(folder / "schema.json"), "--epsilon", "3",
         "-o", str(folder / "model")],
    )  # fmt: skip
    sampled(folder, "label-tree")
    ours = reported(folder).stdout
    pq.write_table(pq.read_table(folder / "made.parquet").replace_schema_metadata(None), folder / "made.parquet")

    assert "epsilon 2, delta 1e-06, unit user, by own_synthesizers:Boasting; WARNING" in claimed
    assert "unchecked" in claimed
    assert "epsilon 3, delta 1e-06, unit user, by label-tree\n" in ours
    assert "NOT STATED" in reported(folder).stdout


def test_an_asked_loss_that_is_not_kept_is_refused(folder: Path) -> None:
    without, larger = fitted(folder, "Shuffled", "--epsilon", "3"), fitted(folder, "Boasting", "--epsilon", "1")

    assert isinstance(without.exception, PrivacySpendError)
    assert isinstance(larger.exception, PrivacySpendError)
    assert not (folder / "model").exists()


def test_our_own_needs_a_loss(folder: Path) -> None:
    result = CliRunner().invoke(
        synth,
        ["fit", str(folder / "train.parquet"), "--schema", str(folder / "schema.json"), "-o", str(folder / "model")],
    )

    assert isinstance(result.exception, BadInputError)


def test_a_file_alone_starts_no_code(folder: Path) -> None:
    fitted(folder, "Shuffled")

    for name in ("label-tree", "own_synthesizers:Short"):
        refused = sampled(folder, name)
        assert isinstance(refused.exception, SynthesisInputError)
        assert "Shuffled" in str(refused.exception)


@pytest.mark.parametrize("name", ["Nobody", "Half", "np"])
def test_what_is_no_synthesizer_is_refused(folder: Path, name: str) -> None:
    assert isinstance(fitted(folder, name).exception, SynthesisInputError)


def test_a_class_that_breaks_the_contract_fails_without_showing_rows(folder: Path) -> None:
    fitted(folder, "Short")
    short, talkative = sampled(folder, "own_synthesizers:Short"), fitted(folder, "Talkative")

    assert isinstance(short.exception, SynthesizerFailedError)
    assert "499 rows" in str(short.exception)
    assert isinstance(talkative.exception, SynthesizerFailedError)
    assert "train" not in str(talkative.exception).replace("own_synthesizers", "")
