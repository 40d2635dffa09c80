"""Memory and time to read the challenge's ads file: `python bench/load.py [--rows 7675517]`.

Generated rows of the same 35 columns are written as the challenge writes them (CSV, `^`-lists, minutes in China time)
and read by a process of its own, `adyton.learning.datasets.digix.read_ads`, whose peak memory counts.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from adyton.learning.datasets import digix
from adyton.learning.datasets.delimited import CHINA_OFFSET_MS
from adyton.learning.datasets.digix_generated import Size, write_ads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=7_675_517)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read is not None:
        _read(arguments.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "train_data_ads.csv"
        _write(written, arguments.rows)
        print(f"{arguments.rows} rows, {written.stat().st_size / 1e9:.2f} GB of CSV", flush=True)
        subprocess.run([sys.executable, __file__, "--read", str(written)], check=True)


def _write(path: Path, rows: int) -> None:
    parquet = path.with_suffix(".parquet")
    write_ads(parquet, Size(rows=rows), seed=1)
    writer = None
    for batch in pq.ParquetFile(parquet).iter_batches(100_000):
        text = pa.table([_as_written(batch.column(name)) for name in batch.schema.names], names=batch.schema.names)
        if writer is None:
            options = pyarrow.csv.WriteOptions(quoting_style="none")
            writer = pyarrow.csv.CSVWriter(path, text.schema, write_options=options)
        writer.write_table(text)
    assert writer is not None
    writer.close()
    parquet.unlink()


def _as_written(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        return pc.binary_join(column, "^")
    if column.type == pa.int64():
        moments = pc.add(column, CHINA_OFFSET_MS).cast(pa.timestamp("ms"))
        return pc.strftime(moments, format="%Y%m%d%H%M")
    return column.cast(pa.string())


def _read(path: Path) -> None:
    began = time.perf_counter()
    table, _ = digix.read_ads(path)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"read {table.num_rows} x {table.num_columns}: {took:.0f} s, peak {peak:.2f} GB")


if __name__ == "__main__":
    main()
