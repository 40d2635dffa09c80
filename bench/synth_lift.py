"""Share of the advertiser's cross-domain lift that is left when the publisher's columns are synthetic (KuaiRand).

    python bench/synth_lift.py [--seeds 5] [--epsilon 3] [--json]

The advertiser's rows (tabs 0 and 6) with counters over its own past and over the user's past in the publisher's feed,
point in time. Train 25 April to 4 May, test 5 to 8 May. What is released is a user-level differentially private table
of the joined training rows: the label, the advertiser's own score (out of fold, six bins) and the publisher's counters
in public bins. The score is the advertiser's own: it counts as a function that was fixed beforehand.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pyarrow as pa

from adyton.kernel.chance import OsRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.ctr.features import point_in_time
from adyton.learning.ctr.recipe import FEED_COUNTERS, OWN_COUNTERS, STATIC_FEATURES
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.domains import Values
from adyton.learning.synth.lift import SCORE_BINS, lift_kept, own_scores
from adyton.learning.synth.synthesizer import fit

EDGES = {
    "feed_user_impressions": (1, 3, 6, 12),
    "feed_user_click_rate": (0.36, 0.46, 0.54, 0.62),
    "feed_user_long_view_rate": (0.22, 0.32, 0.4, 0.5),
    "feed_user_play_ms": (3_000, 8_000, 16_000, 35_000),
    "feed_user_gap_hours": (1, 6, 24, 72),
}
"""Round numbers; users that the publisher has not seen have a code of their own."""
OWN_SCORE = "own_score"


def joined() -> tuple[pa.Table, TableSchema]:
    advertiser, publisher = kuairand.advertiser_table(), kuairand.publisher_table()
    rows = advertiser.select(["user_id", "item_id", "time_ms"])
    table = advertiser
    for name, values in point_in_time(rows, advertiser, OWN_COUNTERS, time="time_ms").items():
        table = table.append_column(name, values)
    for name, values in point_in_time(rows, publisher, FEED_COUNTERS, time="time_ms").items():
        if name in EDGES:
            numbers = np.asarray(values.to_numpy(zero_copy_only=False), float)
            absent = len(EDGES[name]) + 1
            table = table.append_column(
                name, pa.array(np.where(np.isnan(numbers), absent, np.digitize(numbers, EDGES[name])))
            )
    schema = kuairand.ADVERTISER_SCHEMA.select(["user_id", "is_click", *STATIC_FEATURES])
    counters = [counter.as_column() for counter in OWN_COUNTERS]
    return table, schema.extend(*counters, *(Column(name, Role.USER, Kind.CATEGORY) for name in EDGES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", default="3")
    parser.add_argument("--max-rows-per-user", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table, schema = joined()
    is_train = np.array(table["date"].to_pylist()) <= kuairand.VALIDATION_DATE
    train, test = table.filter(pa.array(is_train)), table.filter(pa.array(~is_train))
    own = [c.name for c in schema.features() if c.role is not Role.USER_ID and c.name not in EDGES]
    scores = own_scores(train, schema, own)
    bins = np.digitize(scores, np.quantile(scores, np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))
    narrow_schema = TableSchema(
        (
            schema.user_id,
            schema.label,
            Column(OWN_SCORE, Role.CONTEXT, Kind.CATEGORY),
            *(schema.column(name) for name in EDGES),
        )
    )
    train = train.append_column(OWN_SCORE, pa.array(bins))
    domains = {OWN_SCORE: Values(tuple(range(SCORE_BINS)))}
    domains |= {name: Values(tuple(range(len(edges) + 2))) for name, edges in EDGES.items()}
    results = []
    for seed in range(options.seeds):
        model = fit(
            train,
            narrow_schema,
            loss=PrivacyLoss.of(options.epsilon, "1e-6"),
            max_rows_per_user=options.max_rows_per_user,
            domains=domains,
            source=OsRandom(),
        )
        made = model.sample(200_000, stream(seed, "sample"))
        kept = lift_kept(train, made, test, schema, list(EDGES), score=OWN_SCORE, seed=0)
        results.append(kept.as_json())
        if not options.json:
            print(
                f"own {kept.own_auc:.4f},"
                f" real {kept.real.value:+.4f} [{kept.real.low:+.4f}, {kept.real.high:+.4f}],"
                f" synthetic {kept.synthetic.value:+.4f} [{kept.synthetic.low:+.4f}, {kept.synthetic.high:+.4f}],"
                f" share {kept.share.value:.2f} [{kept.share.low:.2f}, {kept.share.high:.2f}]",
                flush=True,
            )
    shares = [result["share_kept"]["value"] for result in results]
    spread = float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0
    summary = {"share_mean": float(np.mean(shares)), "share_sd": spread}
    print(json.dumps({**summary, "fits": results}) if options.json else f"share kept: {summary}")


if __name__ == "__main__":
    main()
