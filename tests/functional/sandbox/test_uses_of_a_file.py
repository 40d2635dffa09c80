"""A file's uses come and go while calls run: nobody waits for nothing, no worker is left over, no call is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from adyton.sandbox.errors import SandboxUnavailableError, UdfTimeoutError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import SandboxLimits, UdfKind

InAPool = Callable[..., None]
CODE = "let one = () => 1, hang = () => { for (;;); }, ask = () => runInference('');"
ONE_WORKER = SandboxLimits(workers_per_udf=1)


def test_many_who_load_a_file_at_once_start_one_worker_for_it(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        await asyncio.gather(*(pool.load("s.example", CODE, UdfKind.RETRIEVAL) for _ in range(20)))

        assert pool._n_workers == 1

    in_a_pool(work, SandboxLimits(workers=2))


def test_loading_a_use_again_takes_no_further_worker(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        report = await pool.load("s.example", CODE, UdfKind.REPORTING)
        for _ in range(4):
            score = await pool.load("s.example", CODE, UdfKind.SCORE_AD)
            assert (await pool.call(score, "one", [], deadline_ms=20_000)).value == 1
            await pool.unload(score)

        lane = pool._lanes[report.version]
        assert lane.live == len(lane.idle) == 1

    in_a_pool(work, ONE_WORKER)


def test_a_use_unloaded_while_another_loads_stays_unloaded(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        report = await pool.load("s.example", CODE, UdfKind.REPORTING)
        score_loads = asyncio.create_task(pool.load("s.example", CODE, UdfKind.SCORE_AD))
        await asyncio.sleep(0)
        await pool.unload(report)
        score = await score_loads
        assert (await pool.call(score, "one", [], deadline_ms=20_000)).value == 1
        await pool.unload(score)

        assert not pool._lanes

    in_a_pool(work, ONE_WORKER)


def test_who_waits_for_a_busy_worker_gets_the_one_that_a_further_use_brings(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        report = await pool.load("s.example", CODE, UdfKind.REPORTING)
        hangs = asyncio.create_task(pool.call(report, "hang", [], deadline_ms=60_000))
        await asyncio.sleep(0.01)
        waits = asyncio.create_task(pool.call(report, "one", [], deadline_ms=60_000))
        await asyncio.sleep(0.01)
        await pool.load("s.example", CODE, UdfKind.SCORE_AD)

        assert (await waits).value == 1
        assert not hangs.done()
        hangs.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hangs

    in_a_pool(work, ONE_WORKER)


def test_a_busy_worker_that_knows_fewer_uses_is_not_replaced_when_another_took_its_place(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        is_asked, is_loaded = asyncio.Event(), asyncio.Event()

        async def infer(_: str) -> str:
            is_asked.set()
            await is_loaded.wait()
            return "inferred"

        prepare = await pool.load("b.example", CODE, UdfKind.PREPARE_DATA)
        call = asyncio.create_task(pool.call(prepare, "ask", [], deadline_ms=60_000, hooks={"runInference": infer}))
        await is_asked.wait()
        await pool.load("b.example", CODE, UdfKind.GENERATE_BID)
        is_loaded.set()

        assert (await call).value == "inferred"
        lane = pool._lanes[prepare.version]
        assert lane.live == 1
        assert lane.idle[0].kinds == {UdfKind.PREPARE_DATA, UdfKind.GENERATE_BID}

    in_a_pool(work, ONE_WORKER)


def test_a_call_that_waits_when_its_use_is_unloaded_still_ends(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        report = await pool.load("s.example", CODE, UdfKind.REPORTING)
        score = await pool.load("s.example", CODE, UdfKind.SCORE_AD)
        hangs = asyncio.create_task(pool.call(report, "hang", [], deadline_ms=500))
        await asyncio.sleep(0.01)
        waits = asyncio.create_task(pool.call(score, "one", [], deadline_ms=60_000))
        await asyncio.sleep(0.01)
        await pool.unload(score)
        with pytest.raises(UdfTimeoutError):
            await hangs

        assert (await waits).value == 1  # in a worker that was started after the use was unloaded

    in_a_pool(work, ONE_WORKER)


def test_a_pool_that_closes_while_a_script_loads_leaves_no_process(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        loads = asyncio.create_task(
            pool.load("s.example", "for (const end = Date.now() + 300; Date.now() < end;);", UdfKind.SCORE_AD)
        )
        while pool._n_workers == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)
        await pool.close()
        with pytest.raises(SandboxUnavailableError):
            await loads

        assert not pool._lanes

    in_a_pool(work, ONE_WORKER)
