"""Synthetic data on KuaiRand: quality, utility and time of our synthesizer under the protocol of the learning spec, §4.

    python bench/synth.py [--quick] [--json]

40,000 training rows x 16 columns, 40,000 synthetic rows, models tested on 20,000 real later rows. Row level fits on
those 40,000 rows; user level fits on all rows up to 4 May with at most m rows per user. "public" states every value
list, "found" finds domains under the same budget. LightGBM is used where it is installed, as in the spec;
scikit-learn's trees otherwise. Peers' figures are in the spec; they are not run here.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adyton.kernel.chance import OsRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import auc
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.compared import compared
from adyton.learning.synth.domains import PublicDomain, Values
from adyton.learning.synth.fidelity import fidelity
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run of each instead of three")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table, rng = rows(), stream(0, "bench synth")
    dates = np.array(table["date"].to_pylist())
    early, late = np.flatnonzero(dates <= kuairand.VALIDATION_DATE), np.flatnonzero(dates > kuairand.VALIDATION_DATE)
    early = rng.permutation(early)
    train, fresh = (table.take(pa.array(part)) for part in (early[:40_000], early[40_000:80_000]))
    everything = table.take(pa.array(early))
    test = table.take(pa.array(rng.permutation(late)[:20_000]))
    ceiling, real = fidelity(train, fresh, SCHEMA), test_auc(train, test)
    results: list[dict[str, object]] = [{"run": "real rows", "quality": ceiling.quality, **real, "ratio": 1.0}]
    public = public_domains(table)
    for unit, epsilon, max_rows in (
        ("user", "3", 4),
        ("user", "1", 3),
        ("user", "8", 4),
        ("row", "3", 1),
        ("row", "1", 1),
    ):
        for domains in ("public", "found"):
            measured: list[dict[str, float]] = []
            for seed in range(1 if options.quick else 3):
                started = time.perf_counter()
                model = fit(
                    everything if unit == "user" else train,
                    SCHEMA,
                    loss=PrivacyLoss.of(epsilon, "1e-6"),
                    unit=unit,
                    max_rows_per_user=max_rows,
                    domains=public if domains == "public" else {},
                    source=OsRandom(),
                )
                fitted = time.perf_counter()
                made = model.sample(40_000, stream(seed, "sample"))
                scores, aucs = fidelity(train, made, SCHEMA), test_auc(made, test)
                measured.append(
                    {"quality": scores.quality, "shapes": scores.shapes, "pairs": scores.pairs, **aucs,
                     "ratio": max(aucs.values()) / max(real.values()), "fit_s": fitted - started}
                )  # fmt: skip
            mean = {key: float(np.mean([m[key] for m in measured])) for key in measured[0]}
            results.append({"run": f"{unit} eps {epsilon}, m {max_rows}, {domains}", **mean})
            if not options.json:
                print(results[-1]["run"], " ".join(f"{k} {v:.4f}" for k, v in mean.items()), flush=True)
    print(json.dumps(results, indent=2) if options.json else f"real: {results[0]}")


if __name__ == "__main__":
    main()
