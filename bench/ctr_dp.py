"""The price of user-level differential privacy of a click model, on KuaiRand.

    python bench/ctr_dp.py [--seeds N] [--epsilons 1,3,8]

The full log, train to 3 May, test 5 to 8 May, the 36 categorical fields of `bench/ctr.py`'s protocol without the user
id (a model that knows single users cannot hide them). Beside it, on the same rows and fields: the factorised model
without privacy. delta 1e-6, unit user. Noise comes from the operating system, so runs differ; `--seeds` repeats. The
settings' defaults were chosen on 4 May of this very data, which is public. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pyarrow as pa

from adyton.kernel.chance import OsRandom
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.private_trainer import train_private
from adyton.learning.ctr.training import RowSplit, TrainedModel, train
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import evaluate
from adyton.learning.schema import Kind, Role

LEFT_OUT = {"upload_dt", "visible_status"}
NUMBERS = {"video_duration", "duration_ms"}
FEATURES = tuple(
    c.name
    for c in kuairand.FULL_SCHEMA.features()
    if c.role is not Role.USER_ID and c.name not in LEFT_OUT and (c.kind is not Kind.NUMBER or c.name in NUMBERS)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epsilons", default="1,3,8")
    options = parser.parse_args()
    table, schema = kuairand.full_log(), kuairand.FULL_SCHEMA
    date = np.asarray(table["date"])
    split = RowSplit(np.flatnonzero(date <= kuairand.LAST_TRAIN_DATE), np.flatnonzero(date == kuairand.VALIDATION_DATE))
    test = table.take(pa.array(np.flatnonzero(date > kuairand.VALIDATION_DATE)))
    for seed in range(1, options.seeds + 1):
        started = time.process_time()
        config = TrainConfig(features=FEATURES, min_count=2, max_epochs=2, checks_per_epoch=1)
        model = train(table, schema, split=split, config=config, seed=seed)
        tell("none", seed, model, test, time.process_time() - started)
        for epsilon in options.epsilons.split(","):
            started = time.process_time()
            loss = PrivacyLoss.of(epsilon, "1e-6")
            model = train_private(
                table, schema, rows=split.train, loss=loss, source=OsRandom(), features=FEATURES, seed=seed
            )
            tell(epsilon, seed, model, test, time.process_time() - started)


def tell(epsilon: str, seed: int, model: TrainedModel, test: pa.Table, cpu_seconds: float) -> None:
    users = test["user_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    measured = evaluate(test["is_click"].cast(pa.int64()).to_numpy(), model.predict(test), users)
    values = sum(field.size for field in model.encoder.fields)
    record = {"epsilon": epsilon, "seed": seed, "fields": len(FEATURES), "values_known": values}
    print(json.dumps({**record, **measured.as_json(), "cpu_seconds": cpu_seconds}), flush=True)


if __name__ == "__main__":
    main()
