"""A join and aggregate of two sealed tables under a memory cap: the enclave's peak memory and time.

    python bench/out_of_core.py [--rows 1000000] [--cap-mb 1024] [--json FILE]

The tables and the query are those of `bench/cleanroom.py`. `peak_mb` is the largest resident set of the enclave's
process, interpreter and libraries included.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def cleanroom_bench() -> Any:
    """`bench/cleanroom.py` as a module: scripts here are in no package."""
    spec = importlib.util.spec_from_file_location("cleanroom_bench", _HERE / "cleanroom.py")
    assert spec is not None, "the file lies beside this one"
    assert spec.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules["cleanroom_bench"] = module
    spec.loader.exec_module(module)
    return module


def measure(rows: int, cap_mb: int) -> dict[str, Any]:
    """All figures for one size and cap."""
    bench = cleanroom_bench()
    with tempfile.TemporaryDirectory(prefix="adyton-bench-") as name:
        folder = Path(name)
        bench.prepare(folder, rows, 1)
        figures = bench.enclave(folder, cap_mb)
    return {
        "rows_each": rows,
        "cap_mb": cap_mb,
        "peak_mb": round(figures["enclave_peak_mb"]),
        "wall_s": round(figures["enclave_s"], 1),
        "cpu_s": round(figures["enclave_cpu_s"], 1),
        "groups_shown": figures["groups_shown"],
        "steps_s": figures["steps_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each table")
    parser.add_argument("--cap-mb", type=int, default=1024, help="the job's memory_mb")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    figures = measure(arguments.rows, arguments.cap_mb)
    print(json.dumps(figures, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
