"""Several functions of one file: one process, one context for one request, and a wall around each request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import orjson
import pytest

from adyton.sandbox.errors import OwnerBackedOffError, UdfArgumentError, UdfThrewError, UdfTimeoutError
from adyton.sandbox.hooks import EFFECTS_OF_KIND, HOOK_SHAPES, HOOKS_OF_KIND
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.request import one_request
from adyton.sandbox.values import SandboxLimits, UdfEffects, UdfKind

InAPool = Callable[..., None]
MARKS = "globalThis.marks = []; function f(mark) { marks.push(mark); Array.prototype.seen = mark; return marks }"
STAGES = (UdfKind.PREPARE_DATA, UdfKind.RETRIEVAL, UdfKind.GENERATE_BID)


def test_functions_of_one_file_share_a_process_and_within_a_request_a_context(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        prepare, retrieve, bid = [await pool.load("b.example", MARKS, kind) for kind in STAGES]
        (lane,) = pool._lanes.values()
        assert len(lane.idle) == lane.live == 1
        worker = lane.idle[0]
        for _ in range(2):
            with one_request():
                await pool.call(prepare, "f", [b"1"], deadline_ms=20_000)
                await pool.call(retrieve, "f", [b"2"], deadline_ms=20_000)
                result = await pool.call(bid, "f", [b"3"], deadline_ms=20_000, ends_request=True)

            assert result.value == [1, 2, 3]
            assert worker.kept_for is None
        # A request that ends early, and calls that belong to none.
        with one_request():
            await pool.call(prepare, "f", [b"4"], deadline_ms=20_000)
        for handle in (prepare, retrieve, bid):
            assert (await pool.call(handle, "f", [b"5"], deadline_ms=20_000)).value == [5]
        with one_request():
            assert (await pool.call(prepare, "f", [b"6"], deadline_ms=20_000)).value == [6]
            with one_request():
                assert (await pool.call(prepare, "f", [b"7"], deadline_ms=20_000)).value == [7]

        assert list(lane.idle) == [worker]

    in_a_pool(work)


def test_code_that_has_one_use_keeps_no_context(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", MARKS, UdfKind.PREPARE_DATA)
        (lane,) = pool._lanes.values()
        with one_request():
            for mark in (b"1", b"2"):
                assert (await pool.call(handle, "f", [mark], deadline_ms=20_000)).value == [int(mark)]
                assert lane.idle[0].kept_for is None

    in_a_pool(work)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_no_request_sees_what_another_left_however_they_take_turns(n_workers: int, in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handles = [await pool.load("b.example", MARKS, kind) for kind in STAGES]
        handles += [await pool.load("b.example", MARKS + ";", kind) for kind in STAGES]
        chance, n_shared = random.Random(5), 0

        async def request(mark: int, turns: asyncio.Semaphore) -> None:
            async with turns:
                with one_request():
                    await calls(mark)

        async def calls(mark: int) -> None:
            nonlocal n_shared
            for place in range(chance.randrange(1, 6)):
                await asyncio.sleep(chance.random() / 200)
                handle, is_last = chance.choice(handles), chance.random() < 0.2
                if chance.random() < 0.1:
                    with pytest.raises(UdfThrewError):
                        await pool.call(handle, "missing", [], deadline_ms=60_000, ends_request=is_last)
                result = await pool.call(handle, "f", [b"%d" % mark], deadline_ms=60_000, ends_request=is_last)
                marks = result.value
                assert isinstance(marks, list)
                assert set(marks) == {mark}
                assert len(marks) <= place + 1
                n_shared += len(marks) > 1

        for width in (1, 2, 30):
            turns = asyncio.Semaphore(width)
            await asyncio.gather(*(request(100 * width + i, turns) for i in range(40)))
        for handle in handles:
            assert (await pool.call(handle, "f", [b"-1"], deadline_ms=60_000)).value == [-1]

        assert n_shared > 0

    in_a_pool(work, SandboxLimits(workers_per_udf=n_workers))


def test_another_request_takes_the_worker_rather_than_wait_for_one_that_pauses(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle, *_ = [await pool.load("b.example", MARKS, kind) for kind in STAGES]
        with one_request():
            await pool.call(handle, "f", [b"1"], deadline_ms=20_000)
            other = asyncio.create_task(_alone(pool.call(handle, "f", [b"2"], deadline_ms=20_000)))
            assert await other == [2]

            assert (await pool.call(handle, "f", [b"3"], deadline_ms=20_000)).value == [3]

    async def _alone(call: object) -> object:
        with one_request():
            return (await call).value  # type: ignore[misc]

    in_a_pool(work, SandboxLimits(workers_per_udf=1))


def test_a_call_has_the_functions_of_its_kind_also_where_the_code_serves_several(in_a_pool: InAPool) -> None:
    names = sorted({*HOOK_SHAPES, *(name for found in EFFECTS_OF_KIND.values() for name in found)})
    listed = orjson.dumps(names).decode()
    code = f"""
        const atTheTop = globalThis.runTopK ?? null, mine = "mine";
        function validate() {{ return "mine" }}
        const present = () => JSON.stringify({listed}.filter((n) => typeof globalThis[n] !== "undefined"));
        function grasp() {{ try {{ return atTheTop([1], {{}}) }} catch (e) {{ return e.message }} }}
        const own = () => validate();
    """

    async def top_k(text: str) -> str:
        return '["found"]'

    async def work(pool: SandboxPool) -> None:
        handles = {kind: await pool.load("b.example", code, kind) for kind in UdfKind}

        async def present(kind: UdfKind) -> None:
            result = await pool.call(handles[kind], "present", [], deadline_ms=20_000)
            assert orjson.loads(str(result.value)) == sorted(
                HOOKS_OF_KIND[kind] | EFFECTS_OF_KIND[kind] | {"validate"}
            ), kind

        for kind in UdfKind:
            await present(kind)
        with one_request():
            for kind in (*UdfKind, *reversed(UdfKind)):
                await present(kind)
        hooks = {"runTopK": top_k}
        for kind in (UdfKind.GENERATE_BID, UdfKind.RETRIEVAL):
            assert (await pool.call(handles[kind], "own", [], deadline_ms=20_000)).value == "mine"
        found = await pool.call(handles[UdfKind.RETRIEVAL], "grasp", [], deadline_ms=20_000, hooks=hooks)
        assert found.value == ["found"]
        refused = await pool.call(handles[UdfKind.GENERATE_BID], "grasp", [], deadline_ms=20_000, hooks=hooks)
        assert refused.value == "runTopK: not available in this function"

    in_a_pool(work)


def test_unloading_one_use_of_a_file_leaves_the_others(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        score = await pool.load("s.example", MARKS, UdfKind.SCORE_AD)
        report = await pool.load("s.example", MARKS, UdfKind.REPORTING)
        await pool.unload(score)
        with pytest.raises(UdfArgumentError):
            await pool.call(score, "f", [b"1"], deadline_ms=20_000)
        assert (await pool.call(report, "f", [b"1"], deadline_ms=20_000)).value == [1]

        score = await pool.load("s.example", MARKS, UdfKind.SCORE_AD)
        assert (await pool.call(score, "f", [b"2"], deadline_ms=20_000)).value == [2]
        await pool.unload(report)
        await pool.unload(score)

        assert not pool._lanes

    in_a_pool(work)


def test_failures_of_one_function_do_not_stop_the_others_of_its_file(in_a_pool: InAPool) -> None:
    code = "function f() { for (;;); } function g() { return 1; }"

    async def work(pool: SandboxPool) -> None:
        bad = await pool.load("b.example", code, UdfKind.PREPARE_DATA)
        good = await pool.load("b.example", code, UdfKind.GENERATE_BID)
        with one_request():
            for _ in range(30):
                with pytest.raises((UdfTimeoutError, OwnerBackedOffError)) as caught:
                    await pool.call(bad, "f", [], deadline_ms=500)
                if caught.type is OwnerBackedOffError:
                    break

            assert caught.type is OwnerBackedOffError
            assert (await pool.call(good, "g", [], deadline_ms=20_000)).value == 1

    in_a_pool(work, SandboxLimits(failures_before_backoff=2, backoff_ms=60_000, backoff_max_ms=60_000))


def test_a_request_that_ends_during_its_call_neither_fails_it_nor_keeps_anything(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        code = "let f = () => runInference('');"
        handle, *_ = [await pool.load("b.example", code, kind) for kind in STAGES]
        (worker,) = pool._lanes[handle.version].idle
        is_asked, is_over = asyncio.Event(), asyncio.Event()

        async def infer(_: str) -> str:
            is_asked.set()
            await is_over.wait()
            return "inferred"

        with one_request():
            call = asyncio.create_task(pool.call(handle, "f", [], deadline_ms=20_000, hooks={"runInference": infer}))
            await is_asked.wait()
        is_over.set()

        assert (await call).value == "inferred"
        assert worker.kept_for is None
        assert (await pool.call(handle, "f", [], deadline_ms=20_000, hooks={"runInference": infer})).value == "inferred"
        assert list(pool._lanes[handle.version].idle) == [worker]

    in_a_pool(work)


def test_a_task_that_outlives_the_request_it_was_started_in_serves_others(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle, *_ = [await pool.load("b.example", MARKS, kind) for kind in STAGES]
        is_over = asyncio.Event()

        async def server() -> None:
            assert (await pool.call(handle, "f", [b"1"], deadline_ms=20_000)).value == [1]
            await is_over.wait()
            for person in (2, 3):
                assert (await pool.call(handle, "f", [b"%d" % person], deadline_ms=20_000)).value == [person]

        with one_request():
            task = asyncio.create_task(server())
            await asyncio.sleep(0.05)
        is_over.set()
        await task

        assert [worker.kept_for for worker in pool._lanes[handle.version].idle] == [None]

    in_a_pool(work)


LOCKED = {
    "nothing can be added": "Object.preventExtensions(globalThis);",
    "nothing can be changed": "Object.freeze(globalThis);",
    "descriptors inherit": "Object.prototype.get = Object.prototype.set = Object.prototype.value = () => {};",
    "what is written elsewhere": "Object.prototype.toJSON = Array.prototype.toJSON = () => ({ reportUrl: 'x' });",
    "no built-ins": """
        const { defineProperty, getOwnPropertyNames } = Object, value = () => { throw 1 };
        for (const owner of [Object, Reflect, JSON, ...[Array, Map, String, Promise].map((made) => made.prototype)]) {
            for (const name of getOwnPropertyNames(owner)) { try { defineProperty(owner, name, { value }) } catch {} }
        }
    """,
}
EVERY_SECOND_KIND = (UdfKind.PREPARE_DATA, UdfKind.RETRIEVAL, UdfKind.GENERATE_BID, UdfKind.RETRIEVAL)


@pytest.mark.parametrize("place", ["top", "call"])
@pytest.mark.parametrize("name", sorted(LOCKED))
def test_a_script_that_locks_its_context_has_the_functions_of_each_call_all_the_same(
    name: str, place: str, in_a_pool: InAPool
) -> None:
    lock = LOCKED[name]
    code = f"""
        {lock if place == "top" else ""}
        let first = () => {{ {lock if place == "call" else ""} return 1 }};
        let inferred = () => runInference(""), got = () => getValues("");
    """

    async def answer(text: str) -> str:
        return "answered"

    async def work(pool: SandboxPool) -> None:
        handles = {kind: await pool.load("b.example", code, kind) for kind in STAGES}
        (worker,) = pool._lanes[handles[UdfKind.RETRIEVAL].version].idle
        hooks = {"runInference": answer, "getValues": answer}
        with one_request():
            await pool.call(handles[UdfKind.PREPARE_DATA], "first", [], deadline_ms=20_000)
            for kind in EVERY_SECOND_KIND:
                function = "got" if kind is UdfKind.RETRIEVAL else "inferred"
                result = await pool.call(
                    handles[kind], function, [], deadline_ms=20_000, hooks=hooks, capture_console=True
                )

                assert result.value == "answered"
                assert result.console == ()

        assert list(pool._lanes[handles[UdfKind.RETRIEVAL].version].idle) == [worker]

    in_a_pool(work)


def test_functions_of_another_kind_that_a_script_took_along_do_nothing(in_a_pool: InAPool) -> None:
    code = """
        const report = globalThis.sendReportTo, win = globalThis.forDebuggingOnly?.reportAdAuctionWin;
        Object.defineProperty(globalThis, "registerAdBeacon", { configurable: false });  // it cannot be taken away
        const caught = (f) => { try { f(); return "did" } catch (e) { return e.message } };
        const all = () => JSON.stringify([
            caught(() => report("https://a.example/")),
            caught(() => registerAdBeacon({ view: "https://a.example/" })),
            caught(() => win("https://a.example/")),
        ]);
    """

    async def work(pool: SandboxPool) -> None:
        handles = {kind: await pool.load("s.example", code, kind) for kind in (UdfKind.SCORE_AD, UdfKind.REPORTING)}
        refused = ": not available in this function"
        scored = await pool.call(handles[UdfKind.SCORE_AD], "all", [], deadline_ms=20_000)
        assert orjson.loads(str(scored.value)) == ["sendReportTo" + refused, "registerAdBeacon" + refused, "did"]
        assert scored.effects == UdfEffects(debug_win_url="https://a.example/")
        reported = await pool.call(handles[UdfKind.REPORTING], "all", [], deadline_ms=20_000)
        assert orjson.loads(str(reported.value)) == ["did", "did", "forDebuggingOnly" + refused]
        assert reported.effects.debug_win_url is None

    in_a_pool(work)
