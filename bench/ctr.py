"""Factorised CTR models on KuaiRand: AUC, GAUC, xAUC, log loss, throughput, cross-domain lift.

    python bench/ctr.py                    the full log: train to 3 May, stop on 4 May, test 5 to 8 May, 37 fields
    python bench/ctr.py --references       the same rows and fields: unfactorised twin, logistic regression, LightGBM
    python bench/ctr.py --duplicates       what copied rows do to own history (docs/explanation)
    python bench/ctr.py --cross-domain     tabs {0, 6}: own history against own history + the partner's feed

All run on the data that the package ships. `--seeds` repeats; figures are printed as JSON lines, so that they can be
kept with machine and date. Anchors measured elsewhere on the same protocol (learning §3): CatBoost AUC .7388 log loss
.5914; DeepFM (deepctr-torch) .7348, .5949, 29k training rows/s, 130k prediction rows/s.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import ctr_references as references
import numpy as np
import pyarrow as pa

from adyton.kernel.chance import stream
from adyton.learning.ctr import recipe
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.features import with_counters
from adyton.learning.ctr.training import RowSplit, TrainedModel, train
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import Evaluation, Metric, evaluate, paired_user_bootstrap
from adyton.learning.schema import TableSchema

NOT_IN_PROTOCOL = {
    "follow_user_num", "fans_user_num", "friend_user_num", "register_days",
    "server_height", "server_width", "upload_dt", "visible_status",
}  # fmt: skip
PROTOCOL_FIELDS = tuple(c.name for c in kuairand.FULL_SCHEMA.features() if c.name not in NOT_IN_PROTOCOL)
PROTOCOL_CONFIG = TrainConfig(features=PROTOCOL_FIELDS, min_count=2, max_epochs=1, checks_per_epoch=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cross-domain", action="store_true")
    parser.add_argument("--references", action="store_true")
    parser.add_argument("--duplicates", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--members", type=int, default=None)
    options = parser.parse_args()
    if options.duplicates:
        for found in references.duplicates():
            print(json.dumps(found), flush=True)
        return
    for seed in range(1, options.seeds + 1):
        if options.cross_domain:
            cross_domain(seed, options.members or 3)
        else:
            factorised = protocol(seed, options.members or PROTOCOL_CONFIG.members)
            if options.references:
                compare(seed, options.members or PROTOCOL_CONFIG.members, factorised)


def protocol(seed: int, members: int) -> Evaluation:
    table = kuairand.full_log()
    config = replace(PROTOCOL_CONFIG, members=members)
    _train(table.slice(0, 200_000), kuairand.FULL_SCHEMA, replace(config, features=("tab", "hour"), members=1), seed)
    cpu = time.process_time()
    model, seconds, test = _train(table, kuairand.FULL_SCHEMA, config, seed)
    cpu = time.process_time() - cpu
    started = time.perf_counter()
    predicted = model.predict(test)
    predict_seconds = time.perf_counter() - started
    rows_seen = sum(max(c.rows_seen for c in model.checks if c.member == m) for m in range(members))
    measured = evaluate(*_labels_and(test, predicted))
    print(
        json.dumps(
            {
                "model": "factorised",
                "fields": len(PROTOCOL_FIELDS),
                "members": members,
                "seed": seed,
                **measured.as_json(),
                "train_seconds": seconds,
                "train_cpu_seconds": cpu,
                "train_rows_per_s": rows_seen / seconds,
                "predict_rows_per_s": test.num_rows / predict_seconds,
            }
        ),
        flush=True,
    )
    return measured


def compare(seed: int, members: int, factorised: Evaluation) -> None:
    """The price of factorising, and two references through kept libraries."""
    table, config = kuairand.full_log(), replace(PROTOCOL_CONFIG, members=members)
    dates = np.asarray(table["date"])
    split = RowSplit.of_dates(dates, last_train=kuairand.LAST_TRAIN_DATE, last_validation=kuairand.VALIDATION_DATE)
    rows = np.flatnonzero(dates > kuairand.VALIDATION_DATE)
    test = table.take(pa.array(rows))
    twin, seconds = references.timed(lambda: references.twin(table, kuairand.FULL_SCHEMA, split, config, seed))
    measured = evaluate(*_labels_and(test, twin.predict(test)))
    gap = {f"gap_{name}": getattr(measured, name) - getattr(factorised, name) for name in ("auc", "xauc", "logloss")}
    print(
        json.dumps({"model": "twin", "seed": seed, **measured.as_json(), **gap, "train_seconds": seconds}), flush=True
    )
    codes, sizes = references.codes_of(table, kuairand.FULL_SCHEMA, split, config)
    labels = table["is_click"].to_numpy()
    for name, fit in (
        ("logistic regression", lambda: references.logistic_regression(codes, sizes, labels, split.train)),
        ("lightgbm", lambda: references.lightgbm(codes, labels, split, seed=seed)),
    ):
        predict, seconds = references.timed(fit)
        measured = evaluate(*_labels_and(test, predict(codes[rows])))
        print(json.dumps({"model": name, "seed": seed, **measured.as_json(), "train_seconds": seconds}), flush=True)


def cross_domain(seed: int, members: int) -> None:
    ads, feed = kuairand.advertiser_table(), kuairand.publisher_table()
    table = with_counters(with_counters(ads, ads, recipe.OWN_COUNTERS), feed, recipe.FEED_COUNTERS)
    predictions = {}
    for name, features in (("own", recipe.OWN_FEATURES), ("partner", recipe.PARTNER_FEATURES)):
        config = recipe.cross_domain_config(features, members=members)
        model, seconds, test = _train(table, recipe.JOINED_SCHEMA, config, seed)
        predictions[name] = model.predict(test)
        measured = evaluate(*_labels_and(test, predictions[name]))
        print(json.dumps({"model": name, "seed": seed, **measured.as_json(), "train_seconds": seconds}), flush=True)
    labels, _, users = _labels_and(test, predictions["own"])
    for metric in Metric:
        lift = paired_user_bootstrap(
            labels, users, predictions["own"], predictions["partner"], rng=stream(seed, "bootstrap"), metric=metric
        )
        print(json.dumps({"lift": metric.value, "seed": seed, **lift.as_json()}), flush=True)


def _train(
    table: pa.Table, schema: TableSchema, config: TrainConfig, seed: int
) -> tuple[TrainedModel, float, pa.Table]:
    dates = np.asarray(table["date"])
    split = RowSplit.of_dates(dates, last_train=kuairand.LAST_TRAIN_DATE, last_validation=kuairand.VALIDATION_DATE)
    started = time.perf_counter()
    model = train(table, schema, split=split, config=config, seed=seed)
    seconds = time.perf_counter() - started
    return model, seconds, table.take(pa.array(np.flatnonzero(dates > kuairand.VALIDATION_DATE)))


def _labels_and(test: pa.Table, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users = test["user_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return test["is_click"].to_numpy(), predicted, users


if __name__ == "__main__":
    main()
