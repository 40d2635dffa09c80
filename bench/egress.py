"""Egress payload sizes on KuaiRand: how much of what user fields add to the AUC a learned code keeps.

    python bench/egress.py [--seeds N] [--sizes 5,10,15,20]

Protocol of learning §3, egress-size ablation: the full log, train to 4 May (choices on its last fifth; LightGBM stops
on 4 May), test 5 to 8 May, the user fields of the two parties together (25 fields, 89 bits; the 26th of the anchor has
one value and is not shipped), item and context fields free, 1 % of training payloads replaced. Downstream models: our
factorization machine, and LightGBM with native categories for raw fields and codes as ordered numbers. `lift_share` is
(AUC - AUC at 0 bits) / (AUC at all bits - AUC at 0 bits) of the *same* downstream model; it may pass 1, since the
downstream models do not find by themselves what the code tells them.

`unseen_users`: AUC on test rows of users without a training row, where nothing can be remembered.
Anchors (LightGBM, drop-one greedy): share .03 / .09 / .28 / .31 at 5 / 10 / 15 / 20 bits. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import time

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from adyton.kernel.chance import stream
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.egress.curve import PAYLOAD_NOISE_SHARE, Method, curve
from adyton.learning.egress.features import EgressData, UserFeature, egress_data
from adyton.learning.metrics import auc, logloss
from adyton.learning.schema import Kind, Role

NOT_IN_PROTOCOL = {"follow_user_num", "server_height", "server_width", "upload_dt", "visible_status"}
SETTINGS = {"objective": "binary", "learning_rate": 0.1, "num_leaves": 31, "num_threads": 1, "verbose": -1}


class LightGbm:
    """LightGBM on free fields and noised payloads."""

    def __init__(self, data: EgressData, is_stop: npt.NDArray[np.bool_], seed: int) -> None:
        self.data, self.is_stop, self.seed = data, is_stop, seed

    def predict(self, sent: tuple[UserFeature, ...], *, ordered: bool) -> npt.NDArray[np.float64]:
        """Of the test rows."""
        data = EgressData(sent, self.data.free, self.data.free_sizes, self.data.labels, self.data.is_test)
        noised = data.noised(PAYLOAD_NOISE_SHARE, stream(self.seed, "payload noise"))
        x = np.column_stack([noised.free, *(feature.codes for feature in noised.user_features)])
        categorical = list(range(noised.free.shape[1] if ordered else x.shape[1]))
        fits = ~data.is_test & ~self.is_stop
        rows = lgb.Dataset(x[fits], data.labels[fits], categorical_feature=categorical)
        stop = rows.create_valid(x[self.is_stop], data.labels[self.is_stop])
        settings = {**SETTINGS, "seed": self.seed}
        model = lgb.train(settings, rows, 500, valid_sets=[stop], callbacks=[lgb.early_stopping(20, verbose=False)])
        return np.asarray(model.predict(x[data.is_test], num_threads=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sizes", default="5,10,15,20")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    data, is_stop, is_unseen = protocol()
    for seed in range(1, options.seeds + 1):
        measure(data, is_stop, is_unseen, sizes, seed)


def protocol() -> tuple[EgressData, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Impressions, which of them LightGBM stops on, and which are of users that training rows lack."""
    table = kuairand.full_log()
    date = np.asarray(table["date"])
    is_test = date > kuairand.VALIDATION_DATE
    schema = kuairand.FULL_SCHEMA.select([n for n in kuairand.FULL_SCHEMA.names if n not in NOT_IN_PROTOCOL])
    user_fields = [c.name for c in schema.with_role(Role.USER) if c.kind is Kind.CATEGORY]
    user = np.asarray(table["user_id"].combine_chunks().dictionary_encode().indices)
    is_unseen = is_test & ~np.isin(user, user[~is_test])
    return egress_data(table, schema, is_test, user_features=user_fields), date == kuairand.VALIDATION_DATE, is_unseen


def measure(
    data: EgressData,
    is_stop: npt.NDArray[np.bool_],
    is_unseen: npt.NDArray[np.bool_],
    sizes: list[int],
    seed: int,
) -> None:
    started = time.process_time()
    own = curve(data, sizes, method=Method.CODE, seed=seed)
    spent = time.process_time() - started
    labels, unseen = data.labels[data.is_test], is_unseen[data.is_test]
    boosted = LightGbm(data, is_stop, seed)
    empty = boosted.predict((), ordered=True)
    full = boosted.predict(data.user_features, ordered=False)
    lift = auc(labels, full) - auc(labels, empty)
    head = {"seed": seed, "user_bits": data.bits, "test_rows": labels.size, "unseen_rows": int(unseen.sum())}
    for name, scores, predicted in (("0 bits", own.empty, empty), ("all bits", own.baseline, full)):
        print(
            json.dumps(
                {
                    **head,
                    "payload": name,
                    "own": {"auc": scores.auc, "logloss": scores.logloss},
                    "lightgbm": {"auc": auc(labels, predicted), "logloss": logloss(labels, predicted)},
                    "lightgbm_unseen_users": auc(labels[unseen], predicted[unseen]),
                }
            ),
            flush=True,
        )
    known: dict[tuple[tuple[str, int], ...], npt.NDArray[np.float64]] = {}
    for point in own.points:
        key = point.selection.features
        if key not in known:
            known[key] = boosted.predict(point.selection.coded, ordered=True)
        predicted = known[key]
        print(
            json.dumps(
                {
                    **head,
                    "payload": f"{point.bits} bits",
                    "used": [bits for _, bits in key],
                    "own": {"auc": point.auc, "logloss": point.logloss, "lift_share": point.lift_share},
                    "lightgbm": {
                        "auc": auc(labels, predicted),
                        "logloss": logloss(labels, predicted),
                        "lift_share": (auc(labels, predicted) - auc(labels, empty)) / lift,
                    },
                    "lightgbm_unseen_users": auc(labels[unseen], predicted[unseen]),
                    "revenue_share": point.revenue_share,
                    "curve_cpu_seconds": spent,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
