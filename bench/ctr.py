"""Factorised CTR models on KuaiRand: AUC, GAUC, xAUC, log loss, throughput, cross-domain lift.

    python bench/ctr.py                    the full log: train to 3 May, stop on 4 May, test 5 to 8 May, 37 fields
    python bench/ctr.py --cross-domain     tabs {0, 6}: own history against own history + the partner's feed

Both run on the data that the package ships. `--seeds` repeats; figures are printed as JSON lines, so that they can be
kept with machine and date. Anchors measured elsewhere on the same protocol (learning §3): CatBoost AUC .7388 log loss
.5914; DeepFM (deepctr-torch) .7348, .5949, 29k training rows/s, 130k prediction rows/s.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pyarrow as pa

from adyton.kernel.chance import stream
from adyton.learning.ctr import recipe
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.features import with_counters
from adyton.learning.ctr.training import RowSplit, TrainedModel, train
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import Metric, evaluate, paired_user_bootstrap
from adyton.learning.schema import TableSchema

NOT_IN_PROTOCOL = {
    "follow_user_num", "fans_user_num", "friend_user_num", "register_days",
    "server_height", "server_width", "upload_dt", "visible_status",
}  # fmt: skip
PROTOCOL_FIELDS = tuple(c.name for c in kuairand.FULL_SCHEMA.features() if c.name not in NOT_IN_PROTOCOL)
PROTOCOL_CONFIG = TrainConfig(
    features=PROTOCOL_FIELDS, hidden=(64,), head_dim=16, min_count=2, max_epochs=1, checks_per_epoch=1
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cross-domain", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--members", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for seed in range(1, options.seeds + 1):
        if options.cross_domain:
            cross_domain(seed, options.members or 3)
        else:
            protocol(seed, options.members or PROTOCOL_CONFIG.members, options.threads)


def protocol(seed: int, members: int, threads: int) -> None:
    table = kuairand.full_log()
    config = TrainConfig(**{**PROTOCOL_CONFIG.__dict__, "members": members, "threads": threads})
    model, seconds, test = _train(table, kuairand.FULL_SCHEMA, config, seed)
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
                "train_rows_per_s": rows_seen / seconds,
                "predict_rows_per_s": test.num_rows / predict_seconds,
            }
        ),
        flush=True,
    )


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
