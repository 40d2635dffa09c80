"""Recall and latency of runTopK's engines: python bench/retrieval.py [--ads 1000000] [--dimensions 64] [--queries 200].

Ads: clustered normal vectors of 16 intrinsic dimensions, normalised; country (10 values, 2 of them likely), size (5)
and budget are independent of the vectors. Filters are those of a request: country and size equal, budget above zero.
One thread; recall@k against the exact engine. Run it on an idle machine: p99 is mostly the scheduler's otherwise.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import faiss
import numpy as np

from adyton.auction.retrieval.ad_table import AdTable, parse_filter
from adyton.auction.retrieval.top_k import ApproximateEngine, ExactEngine, TopKEngine
from adyton.kernel.chance import stream


def make_table(n_ads: int, n_dimensions: int, seed: int) -> tuple[AdTable, np.ndarray]:
    """The ads, and 1000 query vectors drawn the same way."""
    rng = stream(seed, "bench", "retrieval")
    centres = rng.normal(size=(200, 16)).astype(np.float32)
    lift = rng.normal(size=(16, n_dimensions)).astype(np.float32)
    n_all = n_ads + 1000
    points = centres[rng.integers(0, len(centres), n_all)] + 0.5 * rng.normal(size=(n_all, 16)).astype(np.float32)
    vectors = points @ lift
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    countries = [f"C{i}" for i in range(10)]
    sizes = [f"S{i}" for i in range(5)]
    attributes = {
        "country": rng.choice(countries, n_ads, p=[0.3, 0.3] + [0.05] * 8).tolist(),
        "size": rng.choice(sizes, n_ads, p=[0.4, 0.3, 0.1, 0.1, 0.1]).tolist(),
        "budget_micros": np.where(rng.random(n_ads) < 0.875, rng.integers(1, 10**9, n_ads), 0).astype(float).tolist(),
    }
    keys = [f"ad{i:09d}" for i in range(n_ads)]
    return AdTable(keys, vectors[:n_ads], attributes, [""] * n_ads), vectors[n_ads:]


def measure(engine: TopKEngine, queries: np.ndarray, conditions: tuple, k: int) -> tuple[np.ndarray, list[set[int]]]:
    """Milliseconds of each query, and the rows found."""
    for query in queries[:5]:
        engine.top_k(query, conditions, k)
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        rows = engine.top_k(query, conditions, k).rows
        times.append(1000 * (time.perf_counter() - start))
        found.append(set(rows.tolist()))
    return np.array(times), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ads", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    table, queries = make_table(options.ads, options.dimensions, options.seed)
    queries = queries[: options.queries]
    start = time.perf_counter()
    exact = ExactEngine(table)
    print(json.dumps({"engine": "exact", "build_s": round(time.perf_counter() - start, 2)}), file=sys.stderr)
    start = time.perf_counter()
    approximate = ApproximateEngine(table, exact, n_lists=1024)
    print(json.dumps({"engine": "IVF-Flat", "build_s": round(time.perf_counter() - start, 2)}), file=sys.stderr)
    filters = {
        "country = size = budget > 0": {"country": "C0", "size": "S0", "budget_micros": {"gt": 0}},
        "budget > 0": {"budget_micros": {"gt": 0}},
        "none": None,
    }
    for filter_name, wanted in filters.items():
        conditions = parse_filter(wanted)
        mask = table.mask(conditions)
        truth: list[set[int]] = []
        for name, n_probes in [("exact, partitioned", 0), *((f"IVF-Flat, {n} probes", n) for n in (16, 32, 64))]:
            approximate.n_probes = n_probes
            engine: TopKEngine = approximate if n_probes else exact
            times, found = measure(engine, queries, conditions, options.k)
            truth = truth or found
            recall = np.mean([len(a & b) / max(1, len(b)) for a, b in zip(found, truth, strict=True)])
            print(
                json.dumps(
                    {
                        "ads": options.ads,
                        "dimensions": options.dimensions,
                        "filter": filter_name,
                        "passing": 1.0 if mask is None else round(float(mask.mean()), 3),
                        "engine": name,
                        "k": options.k,
                        "recall": round(float(recall), 4),
                        "p50_ms": round(float(np.percentile(times, 50)), 3),
                        "p99_ms": round(float(np.percentile(times, 99)), 3),
                    }
                )
            )
    print(json.dumps({"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}), file=sys.stderr)


if __name__ == "__main__":
    main()
