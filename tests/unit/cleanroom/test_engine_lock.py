"""The engine inside the enclave: registered data can be queried, and nothing else can be reached."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from adyton.cleanroom.engine import DuckEngine, open_engine
from adyton.cleanroom.errors import EnclaveUnavailableError

DATA = pa.table({"x": [1, 2, 3]})


def test_registered_arrow_data_is_queried() -> None:
    with open_engine(memory_mb=64, threads=1) as engine:
        table = engine.register("t", DATA)

        assert engine.run(table.aggregate(total=table.x.sum())).to_pylist() == [{"total": 6}]


@pytest.mark.parametrize(
    "query",
    [
        "COPY t TO 'FILE'",
        "COPY t TO 'FILE' (FORMAT parquet)",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "ATTACH 'FILE' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '100GB'",
        "SET max_temp_directory_size = '10GB'",
        "EXPORT DATABASE 'FILE'",
    ],
)
def test_every_way_out_is_refused(query: str, tmp_path: Path) -> None:
    target = tmp_path / "leak"
    with open_engine(memory_mb=64, threads=1) as engine:
        engine.register("t", DATA)
        with pytest.raises(duckdb.Error):
            engine.sql_unchecked(query.replace("FILE", str(target)))

    assert not target.exists()


def test_a_query_that_does_not_fit_fails_instead_of_spilling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spill would be plaintext on a disk."""
    monkeypatch.chdir(tmp_path)
    engine = DuckEngine(memory_mb=32, threads=1)
    table = engine.register("t", pa.table({"x": pa.array(range(2_000_000)), "y": ["a" * 20] * 2_000_000}))
    with pytest.raises(EnclaveUnavailableError, match="spilling"):
        engine.run(table.order_by([table.y, table.x]).mutate(z=table.x * 2))
    engine.close()

    assert list(tmp_path.iterdir()) == []
