"""Make the shipped Parquet files from KuaiRand-Pure's own files.

    python -m adyton.learning.datasets.kuairand.build SOURCE_FOLDER [TARGET_FOLDER]

SOURCE_FOLDER holds `log_20220425_20220508.parquet`, `user_features_pure.csv` and `video_features_basic_pure.csv`.
Every impression is kept once, in one of three log files; users and items are kept once in a table of their own, in
the order of their hashed or own ids, and a log row names its user by row number. What is changed and dropped is listed
in NOTE.md, which ships beside the files.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from adyton.learning.errors import TableError

LOG_SOURCE = "log_20220425_20220508.parquet"
USERS_SOURCE = "user_features_pure.csv"
ITEMS_SOURCE = "video_features_basic_pure.csv"
PUBLISHER_TABS = (1,)
ADVERTISER_TABS = (0, 6)

# Public on purpose: it makes the two parties' ids equal and different from the data set's own. It hides nobody, and a
# deployment agrees on a secret key per contract instead.
DEMO_ID_KEY = b"adyton demo user id key, public"


def hashed_user_id(user_id: int) -> str:
    """16 hexadecimal digits: the first 64 bits of HMAC-SHA256 over the decimal user id, under the public demo key."""
    return hmac.new(DEMO_ID_KEY, str(user_id).encode(), hashlib.sha256).hexdigest()[:16]


def build(source: Path, target: Path) -> None:
    """Write `users`, `items`, `publisher`, `advertiser` and `other` as Parquet into the folder `target`.

    Raises TableError when the source is not the log it should be.
    """
    log = pq.read_table(source / LOG_SOURCE)
    _check_derivable(log)
    users_in_log = np.unique(log["user_id"].to_numpy())

    users = pa.csv.read_csv(source / USERS_SOURCE)
    users = users.filter(pc.is_in(users["user_id"], pa.array(users_in_log)))
    hashed = [hashed_user_id(user) for user in users["user_id"].to_pylist()]
    if len(set(hashed)) != len(hashed):
        raise TableError("two users share a hashed id", where=USERS_SOURCE)
    old_ids = users["user_id"].to_numpy()
    users = users.drop_columns(["user_id", "is_lowactive_period"]).add_column(0, "user_id", pa.array(hashed))
    order = np.argsort(hashed)
    _write(_narrow(users.take(order)), target / "users.parquet")

    items = pa.csv.read_csv(source / ITEMS_SOURCE).rename_columns({"video_id": "item_id"})
    durations = log.group_by("video_id").aggregate([("duration_ms", "min")])
    durations = pa.table(
        [durations["video_id"].cast(pa.int64()), durations["duration_ms_min"]], ["item_id", "duration_ms"]
    )
    items = items.join(durations, "item_id", join_type="inner").sort_by("item_id")
    _write(_narrow(items), target / "items.parquet")

    row_of_user = np.full(int(old_ids.max()) + 1, -1, np.int32)
    row_of_user[old_ids[order]] = np.arange(len(order), dtype=np.int32)
    log = log.add_column(0, "user_row", pa.array(row_of_user[log["user_id"].to_numpy()]))
    log = log.append_column("hour", pc.divide(log["hourmin"], pa.scalar(100, pa.int16())))
    log = log.drop_columns(["user_id", "hourmin", "is_rand", "duration_ms"]).rename_columns({"video_id": "item_id"})
    log = _narrow(log)  # before the split, so that the three logs share their types
    tab = log["tab"]
    is_publisher = pc.is_in(tab, pa.array(PUBLISHER_TABS, tab.type))
    is_advertiser = pc.is_in(tab, pa.array(ADVERTISER_TABS, tab.type))
    _write(log.filter(is_publisher), target / "publisher.parquet")
    _write(log.filter(is_advertiser), target / "advertiser.parquet")
    _write(log.filter(pc.invert(pc.or_(is_publisher, is_advertiser))), target / "other.parquet")


def _check_derivable(log: pa.Table) -> None:
    """Refuse a log in which the columns that are moved or dropped hold more than the built files give back."""
    if np.any(log["is_rand"].to_numpy() != 0) or np.any(log["hourmin"].to_numpy() % 100 != 0):
        raise TableError("expected the standard log, with whole hours", where=LOG_SOURCE)
    durations = log.group_by("video_id").aggregate([("duration_ms", "count_distinct")])
    if pc.max(durations["duration_ms_count_distinct"]).as_py() != 1:
        raise TableError("a video has two durations", where=LOG_SOURCE)


def _narrow(table: pa.Table) -> pa.Table:
    """The same values in the smallest integer types; whole floats become nullable integers."""
    for index, name in enumerate(table.column_names):
        column = table[name].combine_chunks()
        if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.round(column))).as_py() is not False:
            column = column.cast(pa.int64())
        if pa.types.is_integer(column.type):
            low, high = pc.min(column).as_py(), pc.max(column).as_py()
            smallest = next(
                t
                for t, bits in ((pa.int8(), 7), (pa.int16(), 15), (pa.int32(), 31), (pa.int64(), 63))
                if -(2**bits) <= low and high < 2**bits
            )
            column = column.cast(smallest)
        table = table.set_column(index, name, column)
    return table


def _write(table: pa.Table, path: Path) -> None:
    # time_ms is sorted inside each log, so deltas are small; other columns do best with dictionaries.
    delta = {"time_ms": "DELTA_BINARY_PACKED"} if "time_ms" in table.column_names else {}
    pq.write_table(
        table.replace_schema_metadata({"licence": "CC BY-SA 4.0", "attribution": "KuaiRand, see NOTE.md"}),
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in delta],
        column_encoding=delta or None,
        store_schema=False,
    )


if __name__ == "__main__":
    here = Path(__file__).parent
    build(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else here)
