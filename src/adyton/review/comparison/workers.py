"""Where replications run: processes of this machine, or a Ray cluster. The rows are the same."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from adyton.kernel.errors import UnavailableError
from adyton.review.comparison.plan import Plan, Row, run_replication
from adyton.review.errors import DayConfigError

OnDone = Callable[[], None]


def run_plan(
    plan: Plan, *, engine: str = "processes", n_workers: int = 2, on_done: OnDone | None = None
) -> tuple[Row, ...]:
    """All rows, in order of `plan.replications()` and of `plan.allocators`, whatever finishes first.

    engine: "processes" or "ray".   on_done: called after each replication.
    Raises UnavailableError when ray is asked for and not installed or a worker was killed, DayConfigError for another
    engine.
    """
    engines = {"processes": _in_processes, "ray": _on_ray}
    if engine not in engines:
        raise DayConfigError(f"there is no engine {engine!r}", hint=f"one of {', '.join(engines)}")
    if n_workers < 1:
        raise DayConfigError(f"at least one worker is needed, got {n_workers}")
    results = engines[engine](plan, n_workers, on_done or (lambda: None))
    return tuple(row for rows in results for row in rows)


def _in_processes(plan: Plan, n_workers: int, on_done: OnDone) -> list[tuple[Row, ...]]:
    replications = plan.replications()
    n_workers = min(n_workers, len(replications))
    if n_workers == 1:
        results = []
        for replication in replications:
            results.append(run_replication(plan, replication))
            on_done()
        return results
    # A forked child would inherit the locks of compiled code and of its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        futures = [pool.submit(run_replication, plan, replication) for replication in replications]
        try:
            for future in as_completed(futures):
                future.result()
                on_done()
        except BrokenProcessPool as error:
            raise UnavailableError(
                "a worker process was ended from outside, most often because memory ran out",
                hint="take fewer --workers, or a smaller day",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _on_ray(plan: Plan, n_workers: int, on_done: OnDone) -> list[tuple[Row, ...]]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise UnavailableError(
            "Ray is not installed", hint="pip install 'adyton[ray]', or --engine processes"
        ) from error
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False)
    try:
        remote = ray.remote(run_replication)
        pending = [remote.remote(plan, replication) for replication in plan.replications()]
        ordered = list(pending)
        while pending:
            _, pending = ray.wait(pending)
            on_done()
        results: list[tuple[Row, ...]] = ray.get(ordered)
        return results
    finally:
        if is_ours:
            ray.shutdown()
