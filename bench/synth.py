"""Synthetic data on KuaiRand: quality, utility and time of our synthesizer under the protocol of the learning spec, §4.

    python bench/synth.py [--seeds 5] [--structures star tree junction-tree] [--json]
    python bench/synth.py --peers FOLDER [--peer-limit 600]
    python bench/synth.py --large [ROWS]

40,000 training rows x 16 columns, 40,000 synthetic rows, models tested on 20,000 real later rows. Row level fits on
those 40,000 rows; user level fits on all rows up to 4 May with at most m rows per user. "public" states every value
list, "found" finds domains under the same budget. Every figure is a mean over fits with fresh noise, with its standard
deviation. LightGBM is used where it is installed, as in the spec; scikit-learn's trees otherwise.

--peers fits others beside ours, on the same 40,000 rows and scored by the same code; FOLDER holds their environments
(`bench/synth_peer.py` says which). A peer that takes longer than the limit is stopped and reported so.

--large generates the ads table of the DIGIX challenge (7,675,517 x 35 unless ROWS says otherwise) and runs
`adyton synth fit` and `adyton synth sample` on it as a user would, at both units, as many synthetic rows as real ones:
wall and CPU seconds and peak memory of each process (never below the bench's own, about 0.3 GB).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton.kernel.chance import OsRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.datasets.digix import ADS_SCHEMA
from adyton.learning.datasets.digix_generated import Size, write_ads
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import auc
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.compared import compared
from adyton.learning.synth.domains import PublicDomain, Values
from adyton.learning.synth.fidelity import fidelity
from adyton.learning.synth.structure import Structure
from adyton.learning.synth.synthesizer import fit
from adyton.learning.synth.utility import train_and_test

USER = (
    "user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
    "register_days_range", "onehot_feat1", "onehot_feat2", "onehot_feat4", "onehot_feat7",
)  # fmt: skip
DURATION_EDGES = (0, 5, 8, 11, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 400, 1200)
SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("is_click", Role.LABEL, Kind.BINARY),
        Column("tab", Role.CONTEXT, Kind.CATEGORY),
        Column("hour", Role.CONTEXT, Kind.CATEGORY),
        *(Column(name, Role.USER, Kind.CATEGORY) for name in USER),
        Column("upload_type", Role.AD, Kind.CATEGORY),
        Column("music_type", Role.AD, Kind.CATEGORY),
        Column("first_tag", Role.AD, Kind.CATEGORY),
        Column("duration", Role.AD, Kind.CATEGORY),
    )
)
RUNS = (("user", "3", 4), ("user", "1", 3), ("user", "8", 4), ("row", "3", 1), ("row", "1", 1))
ENVIRONMENTS = {
    "gaussian-copula": "sdv", "mst": "smartnoise", "aim": "smartnoise", "tabularargn": "mostlyai", "ctgan": "sdv",
}  # fmt: skip
NULL = "none"
CHALLENGE_ROWS = 7_675_517


def rows() -> pa.Table:
    """The full log with the first tag of each item and the duration in 15 public bins."""
    log = kuairand.full_log()
    seconds = pc.divide(log["duration_ms"].cast(pa.float64()), 1000.0).to_numpy()
    tags = [None if tag is None else str(tag).split(",")[0] for tag in log["tag"].to_pylist()]
    log = log.append_column("first_tag", pa.array(tags))
    return log.append_column("duration", pa.array(np.digitize(seconds, DURATION_EDGES[1:-1])))


def public_domains(table: pa.Table) -> dict[str, PublicDomain]:
    """Value lists as an owner would publish them; here read off the whole log."""
    return {
        column.name: Values(tuple(sorted(table[column.name].unique().to_pylist(), key=lambda v: (v is None, v))))
        for column in SCHEMA.columns
        if column.role not in (Role.USER_ID, Role.LABEL)
    }


def test_auc(train: pa.Table, test: pa.Table) -> dict[str, float]:
    """AUC of logistic regression and of trees (LightGBM if installed)."""
    scored = {name: scores.auc for name, scores in train_and_test(train, test, SCHEMA).items()}
    try:
        import lightgbm
    except ImportError:
        return scored
    columns = [c for c in compared([train, test], SCHEMA) if c.role is not Role.LABEL]
    x, z = (np.column_stack([c.binned()[0][side] for c in columns]) for side in (0, 1))
    trees = lightgbm.LGBMClassifier(
        n_estimators=80, learning_rate=0.07, num_leaves=15, min_child_samples=100, cat_smooth=50, cat_l2=20,
        n_jobs=1, verbose=-1,
    )  # fmt: skip
    trees.fit(x, train["is_click"].to_numpy(), categorical_feature=list(range(x.shape[1])))
    return {"logistic": scored["logistic"], "lightgbm": auc(test["is_click"].to_numpy(), trees.predict_proba(z)[:, 1])}


def peer_run(name: str, folder: Path, train: pa.Table, limit_s: float, seed: int) -> tuple[pa.Table | None, float]:
    """(synthetic table, None if it did not finish or failed; seconds of the fit or the limit)."""
    environment = folder / ENVIRONMENTS[name] / "bin" / "python"
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "train.parquet", Path(scratch) / "made.parquet"
        names = [column.name for column in SCHEMA.columns if column.role is not Role.USER_ID]
        pq.write_table(pa.table({n: train[n].cast(pa.string()).fill_null(NULL) for n in names}), source)
        command = [str(environment), str(Path(__file__).with_name("synth_peer.py")), name, source, target, str(seed)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            return None, limit_s
        if done.returncode:
            print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            return None, 0.0
        fit_s = json.loads(done.stdout.strip().splitlines()[-1])["fit_s"]
        return with_types(pq.read_table(target), train.select(names)), fit_s


def with_types(made: pa.Table, like: pa.Table) -> pa.Table:
    """Text back to the types of `like`; what a peer made up (rare tokens) is null."""
    columns = {}
    for name in like.column_names:
        known = set(like[name].cast(pa.string()).to_pylist())
        texts = [value if value in known else None for value in made[name].to_pylist()]
        columns[name] = pa.array(texts).cast(like[name].type)
    return pa.table(columns)


def scored(made: pa.Table, train: pa.Table, test: pa.Table, best_real: float) -> dict[str, float]:
    schema = SCHEMA.select([c.name for c in SCHEMA.columns if c.role is not Role.USER_ID])
    scores = fidelity(train, made, schema)
    aucs = test_auc(made, test)
    ratio = max(aucs.values()) / best_real
    linked = scores.linked_quality
    return {
        "quality": scores.quality,
        "linked_quality": linked,
        "shapes": scores.shapes,
        "pairs": scores.pairs,
        **aucs,
        "ratio": ratio,
    }


def measured_command(*arguments: str | Path) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak resident GB of one `adyton synth` command."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "adyton", "synth", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"adyton synth {arguments[0]} failed"
    cpu_s = used.ru_utime + used.ru_stime
    return {"wall_s": time.perf_counter() - started, "cpu_s": cpu_s, "peak_gb": used.ru_maxrss / 2**20}


def large(n_rows: int) -> list[dict[str, object]]:
    """Fit and sample of a generated table of the challenge's shape."""
    with tempfile.TemporaryDirectory(prefix="adyton-synth-large-") as scratch:
        ads, schema = Path(scratch) / "ads.parquet", Path(scratch) / "schema.json"
        schema.write_text(json.dumps(ADS_SCHEMA.as_json()))
        started = time.perf_counter()
        write_ads(ads, Size(n_rows), seed=1)
        results: list[dict[str, object]] = [{"run": "generate", "wall_s": time.perf_counter() - started}]
        for unit in ("user", "row"):
            model, made = Path(scratch) / f"{unit}.synth", Path(scratch) / f"{unit}.parquet"
            fitting = measured_command("fit", ads, "--schema", schema, "--epsilon", "3", "--unit", unit, "-o", model)
            results.append({"run": f"{unit} eps 3, found: fit", **fitting})
            sampling = measured_command("sample", model, "--rows", str(n_rows), "-o", made)
            results.append({"run": f"{unit} eps 3, found: sample", **sampling})
            assert pq.read_metadata(made).num_rows == n_rows
            made.unlink()
    return results


def summed_up(run: str, measured: list[dict[str, float]]) -> dict[str, object]:
    """Mean and standard deviation of every figure."""
    spread = {
        f"{key}_sd": float(np.std([m[key] for m in measured], ddof=1)) for key in measured[0] if len(measured) > 1
    }
    return {"run": run, **{key: float(np.mean([m[key] for m in measured])) for key in measured[0]}, **spread}


def show(result: dict[str, object]) -> None:
    figures = [
        f"{key} {value:.4f}" + (f"±{result[key + '_sd']:.4f}" if key + "_sd" in result else "")
        for key, value in result.items()
        if isinstance(value, float) and not key.endswith("_sd")
    ]
    print(f"{result['run']:<42} {' '.join(figures)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="fits of each kind")
    parser.add_argument("--structures", nargs="+", type=Structure, choices=list(Structure), default=[Structure.TREE])
    parser.add_argument("--domains", nargs="+", choices=("public", "found"), default=("public", "found"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="environments of the peers")
    parser.add_argument("--peer", action="append", choices=sorted(ENVIRONMENTS), help="only these peers")
    parser.add_argument("--peer-limit", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument(
        "--large", type=int, nargs="?", const=CHALLENGE_ROWS, metavar="ROWS", help="only time and memory"
    )
    options = parser.parse_args()
    if options.large is not None:
        results = large(options.large)
        if options.json:
            print(json.dumps(results, indent=2))
        else:
            for result in results:
                show(result)
        return
    table, rng = rows(), stream(0, "bench synth")
    dates = np.array(table["date"].to_pylist())
    early, late = np.flatnonzero(dates <= kuairand.VALIDATION_DATE), np.flatnonzero(dates > kuairand.VALIDATION_DATE)
    early = rng.permutation(early)
    train, fresh = (table.take(pa.array(part)) for part in (early[:40_000], early[40_000:80_000]))
    everything = table.take(pa.array(early))
    test = table.take(pa.array(rng.permutation(late)[:20_000]))
    best_real = max(test_auc(train, test).values())
    results = [
        summed_up("real rows", [{**scored(train, train, test, best_real)}]),
        summed_up("fresh real rows (ceiling)", [scored(fresh, train, test, best_real)]),
    ]
    if not options.json:
        for result in results:
            show(result)
    public = public_domains(table)
    for (unit, epsilon, max_rows), domains in product(RUNS, options.domains):
        for structure in options.structures:
            measured: list[dict[str, float]] = []
            for seed in range(options.seeds):
                started = time.perf_counter()
                model = fit(
                    everything if unit == "user" else train,
                    SCHEMA,
                    loss=PrivacyLoss.of(epsilon, "1e-6"),
                    unit=unit,
                    max_rows_per_user=max_rows,
                    domains=public if domains == "public" else {},
                    structure=structure,
                    source=OsRandom(),
                )
                fitted = time.perf_counter()
                made = model.sample(40_000, stream(seed, "sample"))
                measured.append({**scored(made, train, test, best_real), "fit_s": fitted - started})
            results.append(summed_up(f"{unit} eps {epsilon}, m {max_rows}, {domains}, {structure}", measured))
            if not options.json:
                show(results[-1])
    for name in () if options.peers is None else options.peer or ENVIRONMENTS:
        made, fit_s = peer_run(name, options.peers, train, options.peer_limit, 0)
        if made is None:
            results.append({"run": name, "did_not_finish_in_s": fit_s})
        else:
            results.append(summed_up(name, [{**scored(made, train, test, best_real), "fit_s": fit_s}]))
        if not options.json:
            show(results[-1])
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
