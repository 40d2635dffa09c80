"""What copied rows do to own history, for `bench/ctr.py --duplicates` (docs/explanation/duplicates-in-kuairand.md)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adyton.learning.ctr import recipe
from adyton.learning.ctr.data import RowSplit
from adyton.learning.ctr.features import with_counters
from adyton.learning.ctr.fields import fit_fields
from adyton.learning.ctr.references import codes_of, lightgbm
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import auc


def duplicates() -> list[dict[str, object]]:
    """Own history on the advertiser's table: counters over earlier rows or times, with and without copied rows."""
    table = kuairand.advertiser_table()
    frame = table.select(["user_id", "item_id", "time_ms"]).to_pandas()
    is_first = ~frame.duplicated().to_numpy()
    found: list[dict[str, object]] = []
    for name, part in (("all rows", table), ("without copies", table.filter(pa.array(is_first)))):
        by_time = with_counters(part, part, recipe.OWN_COUNTERS)
        # Every row gets a time of its own, so that the second of two copies comes after the first.
        place = pa.array(np.asarray(part["time_ms"]) * 1_000 + np.arange(part.num_rows) % 1_000)
        ordered = part.set_column(part.column_names.index("time_ms"), "time_ms", place)
        by_row = with_counters(ordered, ordered, recipe.OWN_COUNTERS)
        for kind, counted in (("earlier times", by_time), ("earlier rows", by_row)):
            dates = np.asarray(counted["date"])
            split = RowSplit.of_dates(
                dates, last_train=kuairand.LAST_TRAIN_DATE, last_validation=kuairand.VALIDATION_DATE
            )
            config = recipe.cross_domain_config(recipe.STATIC_FEATURES)
            labels = counted["is_click"].to_numpy()
            schema = recipe.JOINED_SCHEMA.select(counted.column_names)
            encoder = fit_fields(
                counted.take(pa.array(split.train)),
                schema.features(recipe.STATIC_FEATURES),
                min_count=config.min_count or 5,
                number_buckets=config.number_buckets,
                list_slots=config.list_slots,
            )
            codes, _ = codes_of(encoder, counted)
            counts = np.stack([counted[counter.name].to_numpy() for counter in recipe.OWN_COUNTERS], axis=1)
            numbers = range(codes.shape[1], codes.shape[1] + counts.shape[1])
            codes = np.concatenate([codes, counts], axis=1)
            test = np.flatnonzero(dates > kuairand.VALIDATION_DATE)
            values = [
                auc(labels[test], lightgbm(codes, labels, split, seed=s, numbers=numbers)(codes[test]))
                for s in range(3)
            ]
            found.append({"rows": counted.num_rows, "table": name, "counters": kind, "auc": float(np.mean(values))})
    return found
