"""Factorised CTR models on KuaiRand: AUC, GAUC, xAUC, log loss, throughput, cross-domain lift.

    python bench/ctr.py                    the full log: train to 3 May, stop on 4 May, test 5 to 8 May, 37 fields;
                                           the price of factorising (a twin of one side) is printed with it
    python bench/ctr.py --references       and on the same rows and fields logistic regression and LightGBM
    python bench/ctr.py --peers PYTHON     and deepctr-torch's DeepFM, by the Python of its environment (ctr_peer.py)
    python bench/ctr.py --distilled        three networks that learned from the ensemble, in its place
    python bench/ctr.py --single           one narrow network instead of the ensemble: for throughput beside a peer
    python bench/ctr.py --counters         with point-in-time counters: a standing snapshot of users' outcomes, the same
                                           with a live level of each user, or the newest outcomes
    python bench/ctr.py --cross-domain     tabs {0, 6}: own history against own history + the partner's feed
    python bench/ctr.py --duplicates       what copied rows do to own history (docs/explanation)

All run on the data that the package ships. `--seeds` repeats, `--members` changes the number of averaged networks;
figures are printed as JSON lines, so that they can be kept with machine and date. `predict_rows_per_s` is of the first
prediction, `..._again` of the median of five more. Anchors measured elsewhere on the same protocol (learning §3):
CatBoost AUC .7388 log loss .5914; DeepFM (deepctr-torch) .7348, .5949, 29k training rows/s, 130k prediction rows/s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ctr_duplicates
import numpy as np
import pyarrow as pa

from adyton.kernel.chance import stream
from adyton.learning.ctr import recipe
from adyton.learning.ctr.calibration import probabilities
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.features import with_counters
from adyton.learning.ctr.history import with_history, with_target_statistics
from adyton.learning.ctr.live_level import live_logits, with_live_level
from adyton.learning.ctr.references import codes_of, compare
from adyton.learning.ctr.training import RowSplit, TrainedModel, train
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import Metric, evaluate, paired_user_bootstrap
from adyton.learning.schema import Role, TableSchema

NOT_IN_PROTOCOL = {
    "follow_user_num", "fans_user_num", "friend_user_num", "register_days",
    "server_height", "server_width", "upload_dt", "visible_status",
}  # fmt: skip
PROTOCOL_FIELDS = tuple(c.name for c in kuairand.FULL_SCHEMA.features() if c.name not in NOT_IN_PROTOCOL)
CHINA_MIDNIGHT_MS = 16 * 3_600_000
VALIDATION_FROM_MS = 1_651_593_600_000  # 4 May 2022 in China
TEST_FROM_MS = VALIDATION_FROM_MS + 86_400_000
COUNTED_OUTCOMES = ("long_view", "is_like", "play_time_ms")
STATISTICS = ("user seen in training", "user rate in training")
PROTOCOL_CONFIG = replace(
    recipe.ENSEMBLE,
    features=(*PROTOCOL_FIELDS, *STATISTICS),
    min_count=2,
    # Two of three members know the user by id, the third by the statistics of the id.
    leave_out=(STATISTICS, STATISTICS, ("user_id",)),
)
SINGLE_CONFIG = TrainConfig(features=PROTOCOL_FIELDS, min_count=2, max_epochs=1, checks_per_epoch=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cross-domain", action="store_true")
    parser.add_argument("--counters", action="store_true")
    parser.add_argument("--references", action="store_true")
    parser.add_argument("--peers", type=Path, metavar="PYTHON")
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--distilled", action="store_true")
    parser.add_argument("--duplicates", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--members", type=int, default=None)
    options = parser.parse_args()
    if options.duplicates:
        for found in ctr_duplicates.duplicates():
            print(json.dumps(found), flush=True)
        return
    for seed in range(1, options.seeds + 1):
        if options.cross_domain:
            cross_domain(seed, options.members or 3)
        elif options.counters:
            counters(seed, options.members or 3)
        else:
            config = SINGLE_CONFIG if options.single else PROTOCOL_CONFIG
            if options.distilled:
                of = recipe.DISTILLED
                config = replace(config, members=of.members, distil_passes=of.distil_passes, students=of.students)
            model = protocol(seed, replace(config, members=options.members or config.members))
            compared(seed, model, ["twin", *(("logistic regression", "lightgbm") if options.references else ())])
            if options.peers:
                peer(seed, model, options.peers)


def protocol(seed: int, config: TrainConfig) -> TrainedModel:
    table, schema, _, _ = _full_log()
    # Compiling the kernels is neither training nor predicting; this does both.
    small = replace(config, features=("tab", "hour"), members=1, leave_out=())
    _train(table.slice(0, 200_000), schema, small, seed)
    cpu = time.process_time()
    model, seconds, test = _train(table, schema, config, seed)
    cpu = time.process_time() - cpu
    started = time.perf_counter()
    predicted = model.predict(test)
    predict_seconds = time.perf_counter() - started
    # Distilling learns from as many crossed rows as rows.
    passes = config.members * (1 + config.taste_epochs) + 2 * config.distil_passes * config.students
    _print(
        {
            "model": "distilled" if config.distil_passes else "factorised",
            "fields": len(PROTOCOL_FIELDS),
            "members": config.members,
            "networks": config.networks,
            "seed": seed,
        },
        evaluate(*_labels_and(test, predicted)).as_json(),
        {
            "train_seconds": seconds,
            "train_cpu_seconds": cpu,
            "train_rows_per_s": model.training_rows / seconds,
            "train_rows_per_s_of_each_pass": model.training_rows * passes / seconds,
            "predict_rows_per_s": test.num_rows / predict_seconds,
            "predict_rows_per_s_again": test.num_rows / _median_seconds(lambda: model.predict(test)),
        },
    )
    return model


def compared(seed: int, model: TrainedModel, names: list[str]) -> None:
    """The price of factorising (the twin), and other kinds of model through kept libraries."""
    table, _, split, test = _full_log()
    for name in names:
        started = time.perf_counter()
        for reference in compare(model, table, split=split, test=test, names=[name], draws=200):
            _print({"seed": seed}, reference.as_json(), {"seconds": time.perf_counter() - started})


def peer(seed: int, model: TrainedModel, python: Path) -> None:
    """DeepFM by deepctr-torch, on the codes that our fields make of the same rows, one after the other in one run."""
    table, _, split, test = _full_log()
    codes, sizes = codes_of(model.encoder, table)
    with tempfile.TemporaryDirectory() as scratch:
        rows, predicted = Path(scratch) / "rows.npz", Path(scratch) / "predicted.npy"
        labels = table["is_click"].to_numpy()
        np.savez(rows, codes=codes, sizes=sizes, labels=labels, train=split.train, test=test, seed=seed)
        command = [str(python), str(Path(__file__).with_name("ctr_peer.py")), str(rows), str(predicted)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took = json.loads(done.stdout.strip().splitlines()[-1])
        measured = evaluate(*_labels_and(table.take(pa.array(test)), np.load(predicted)))
    speed = {
        "train_rows_per_s": len(split.train) / took["train_seconds"],
        "predict_rows_per_s": len(test) / took["predict_seconds"],
    }
    _print({"model": "deepctr-torch DeepFM", "seed": seed}, measured.as_json(), took, speed)


def counters(seed: int, members: int) -> None:
    """The protocol's fields with history: outcomes that stand still in the test, alone and with a live level of each
    user, or newest outcomes of users.

    Without tastes: a second pass with newest outcomes learns to undo them.
    """
    table = kuairand.full_log()
    tab = table["tab"].to_numpy().astype(int)
    few = {c.name: Role.IGNORED for c in kuairand.OUTCOME_COLUMNS if c.name not in COUNTED_OUTCOMES}
    full_schema = kuairand.FULL_SCHEMA.with_roles(few)
    groups = {"tab 1": tab == 1, "tabs 0, 6": np.isin(tab, (0, 6)), "other tabs": ~np.isin(tab, (0, 1, 6))}
    for name, newest in (("snapshot", False), ("newest", True)):
        counted, schema = with_history(
            table, full_schema, live_from_ms=TEST_FROM_MS, midnight_ms=CHINA_MIDNIGHT_MS, newest=newest,
            groups=groups,
        )  # fmt: skip
        added = tuple(column for column in schema.names if column not in kuairand.FULL_SCHEMA)
        features = (*PROTOCOL_FIELDS, *added)
        config = replace(PROTOCOL_CONFIG, members=members, features=features, leave_out=(), taste_epochs=0)
        model, seconds, test = _train(counted, schema, config, seed)
        shape = {"fields": len(config.features or ()), "members": members, "seed": seed}
        measured = evaluate(*_labels_and(test, model.predict(test)))
        _print({"model": f"counters, {name}"} | shape, measured.as_json(), {"train_seconds": seconds})
        if newest:
            continue
        started = time.perf_counter()
        live = with_live_level(model, counted, _split(counted).validation)
        fit_seconds, started = time.perf_counter() - started, time.perf_counter()
        measured = evaluate(*_labels_and(test, probabilities(live_logits(live, test))))
        _print(
            {"model": f"counters, {name}, live level"} | shape,
            measured.as_json(),
            {
                "prior_precision": live.live_precision,
                "fit_seconds": fit_seconds,
                "predict_rows_per_s": test.num_rows / (time.perf_counter() - started),
            },
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
        _print({"model": name, "seed": seed}, measured.as_json(), {"train_seconds": seconds})
    labels, _, users = _labels_and(test, predictions["own"])
    for metric in Metric:
        lift = paired_user_bootstrap(
            labels, users, predictions["own"], predictions["partner"], rng=stream(seed, "bootstrap"), metric=metric
        )
        _print({"lift": metric.value, "seed": seed}, lift.as_json())


def _full_log() -> tuple[pa.Table, TableSchema, RowSplit, np.ndarray]:
    """The table and schema with target statistics of training rows, the split, and the rows of the test."""
    table, schema = with_target_statistics(kuairand.full_log(), kuairand.FULL_SCHEMA, fit_until_ms=VALIDATION_FROM_MS)
    return table, schema, _split(table), np.flatnonzero(np.asarray(table["date"]) > kuairand.VALIDATION_DATE)


def _split(table: pa.Table) -> RowSplit:
    dates = np.asarray(table["date"])
    return RowSplit.of_dates(dates, last_train=kuairand.LAST_TRAIN_DATE, last_validation=kuairand.VALIDATION_DATE)


def _train(
    table: pa.Table, schema: TableSchema, config: TrainConfig, seed: int
) -> tuple[TrainedModel, float, pa.Table]:
    started = time.perf_counter()
    model = train(table, schema, split=_split(table), config=config, seed=seed)
    seconds = time.perf_counter() - started
    return model, seconds, table.take(pa.array(np.flatnonzero(np.asarray(table["date"]) > kuairand.VALIDATION_DATE)))


def _median_seconds(run: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _labels_and(test: pa.Table, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users = test["user_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return test["is_click"].to_numpy(), predicted, users


def _print(*parts: dict[str, object]) -> None:
    print(json.dumps({key: value for part in parts for key, value in part.items()}), flush=True)


if __name__ == "__main__":
    main()
