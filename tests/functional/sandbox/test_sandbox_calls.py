"""What scripts get and what comes back, on the real engine."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import orjson
import pytest

from adyton.kernel.errors import BadInputError
from adyton.sandbox.errors import (
    SandboxUnavailableError,
    UdfArgumentError,
    UdfCrashedError,
    UdfThrewError,
    UdfTimeoutError,
)
from adyton.sandbox.frames import FrameType, encode_frame
from adyton.sandbox.hooks import HOOK_SHAPES, HOOKS_OF_KIND
from adyton.sandbox.isolation import Isolation
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.process import WorkerProcess
from adyton.sandbox.values import Bytes, SandboxLimits, SignalMap, UdfKind

InAPool = Callable[..., None]


def test_arguments_and_results_cross_as_json_and_bytes(in_a_pool: InAPool) -> None:
    code = """
        const kinds = (...xs) => xs.map((x) => x instanceof Uint8Array ? ["bytes", ...x] : [typeof x, x]);
        async function later(x) { await null; return { x }; }
        class NotAFunction {}
        let undefinedResult = () => undefined;
    """

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.PREPARE_DATA)
        result = await pool.call(
            handle, "kinds", [b'{"a":"\xc3\xa9"}', Bytes(b"\x00\xff"), b'""', b"null", Bytes(b"")], deadline_ms=20_000
        )

        assert result.value == [["object", {"a": "é"}], ["bytes", 0, 255], ["string", ""], ["object", None], ["bytes"]]
        assert orjson.loads(result.json) == result.value
        assert (await pool.call(handle, "later", [b"1"], deadline_ms=20_000)).value == {"x": 1}
        assert (await pool.call(handle, "undefinedResult", [], deadline_ms=20_000)).json == b"null"
        with pytest.raises(UdfThrewError):
            await pool.call(handle, "missing", [], deadline_ms=20_000)
        for bad_name in ("f()", "", "a.b", "x;for(;;);"):
            with pytest.raises(UdfArgumentError):
                await pool.call(handle, bad_name, [], deadline_ms=20_000)
        with pytest.raises(UdfThrewError):
            await pool.call(handle, "kinds", [b"{not json"], deadline_ms=20_000)

    in_a_pool(work)


def test_encode_signals_gets_a_map_and_gives_bytes(in_a_pool: InAPool) -> None:
    code = """
        function encodeSignals(signals, maxSize) {
          const out = [];
          for (const [key, values] of signals) {
            if (!(signals instanceof Map) || !(key instanceof Uint8Array)) return { status: 1 };
            for (const { signal_value, creation_time, package_name } of values) {
              out.push(key[0], signal_value.length, creation_time, package_name.length);
            }
          }
          out.push(maxSize & 255);
          return { status: 0, results: Uint8Array.from(out) };
        }
        const asArray = () => ({ status: 0, results: [1, 255] });
        const notBytes = () => ({ status: 0, results: [256] });
        const nothing = () => null;
    """
    signals = SignalMap(
        orjson.dumps(
            [
                {"01020304": [{"val": "aabb", "time": 7, "app": "com.a"}, {"val": "", "time": 9, "app": "b"}]},
                {"ff000000": [{"val": "00", "time": 1, "app": ""}]},
            ]
        )
    )

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.ENCODE_SIGNALS)
        result = await pool.call(handle, "encodeSignals", [signals, b"1536"], deadline_ms=20_000)

        assert result.data == bytes([1, 2, 7, 5, 1, 0, 9, 1, 255, 1, 1, 0, 0])
        assert result.value == {"status": 0}
        assert (await pool.call(handle, "asArray", [], deadline_ms=20_000)).data == b"\x01\xff"
        assert (await pool.call(handle, "notBytes", [], deadline_ms=20_000)).data is None
        assert (await pool.call(handle, "nothing", [], deadline_ms=20_000)).value is None

    in_a_pool(work)


def test_long_texts_cross_in_every_direction(in_a_pool: InAPool) -> None:
    code = """
        function f(n) {
            let asked = "", answer = "";
            for (let i = 0; i < n; i++) { asked += "abcd" + i % 10; answer += "x\\u0000" + "y" + i % 10; }
            return [runInference(asked), answer];
        }
    """

    async def hook(text: str) -> str:
        return text * 2

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.GENERATE_BID)
        for n in (1, 100, 30_000):
            asked = "".join(f"abcd{i % 10}" for i in range(n))
            answer = "".join(f"x\0y{i % 10}" for i in range(n))
            result = await pool.call(handle, "f", [b"%d" % n], deadline_ms=20_000, hooks={"runInference": hook})
            assert result.value == [asked * 2, answer]

    in_a_pool(work)


def test_reporting_functions_record_what_they_are_given_also_before_an_exception(in_a_pool: InAPool) -> None:
    code = """
        function reportWin(fail) {
          sendReportTo("https://b.example/win");
          registerAdBeacon({ click: "https://b.example/click", view: "https://b.example/view" });
          if (fail === 1) throw new Error("late");
          if (fail === 2) sendReportTo("https://b.example/again");
          return { ok: true };
        }
    """

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.REPORTING)
        good = await pool.call(handle, "reportWin", [b"0"], deadline_ms=20_000)

        assert good.effects.report_url == "https://b.example/win"
        assert dict(good.effects.beacons) == {
            "click": "https://b.example/click",
            "view": "https://b.example/view",
        }
        for fail in (b"1", b"2"):
            with pytest.raises(UdfThrewError) as caught:
                await pool.call(handle, "reportWin", [fail], deadline_ms=20_000)

            assert caught.value.effects == good.effects

    in_a_pool(work)


def test_each_kind_has_its_host_functions_and_no_others(in_a_pool: InAPool) -> None:
    names = sorted(HOOK_SHAPES)
    listed = orjson.dumps(names).decode()
    code = f"const present = () => JSON.stringify({listed}.filter((n) => typeof globalThis[n] === 'function'))"

    async def work(pool: SandboxPool) -> None:
        for kind in UdfKind:
            handle = await pool.load("b.example", code, kind)
            result = await pool.call(handle, "present", [], deadline_ms=20_000)
            await pool.unload(handle)

            assert orjson.loads(str(result.value)) == sorted(HOOKS_OF_KIND[kind])

    in_a_pool(work)


def test_host_functions_have_a_budget_and_fail_inside_the_script(in_a_pool: InAPool) -> None:
    code = """
        function ask(n) { let last; for (let i = 0; i < n; i++) last = runInference("x".repeat(100)); return last; }
        function caught() { try { return validate({}, {}); } catch (e) { return e.message; } }
        function logged() { console.log("a", {b: 1}); logMessage("c"); console.error("x".repeat(1e6)); return 1; }
    """
    n_calls = 0

    async def hook(text: str) -> str:
        nonlocal n_calls
        n_calls += 1
        return text[:1]

    async def failing(text: str) -> str:
        raise BadInputError(f"secret {text}")

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.GENERATE_BID)
        hooks = {"runInference": hook, "validate": failing}

        assert (await pool.call(handle, "ask", [b"5"], deadline_ms=20_000, hooks=hooks)).value == "x"
        with pytest.raises(UdfThrewError):
            await pool.call(handle, "ask", [b"6"], deadline_ms=20_000, hooks=hooks)
        with pytest.raises(UdfThrewError):
            await pool.call(handle, "ask", [b"1"], deadline_ms=20_000)

        assert n_calls == 10
        message = (await pool.call(handle, "caught", [], deadline_ms=20_000, hooks=hooks)).value
        assert message == "validate: the host function failed"
        console = (await pool.call(handle, "logged", [], deadline_ms=20_000, capture_console=True)).console
        assert console[:2] == ('a {"b":1}', "c")
        assert sum(map(len, console)) <= pool.limits.console_bytes
        assert (await pool.call(handle, "logged", [], deadline_ms=20_000)).console == ()

    in_a_pool(work, SandboxLimits(hook_calls=5))


def test_many_requests_share_workers_and_workers_are_replaced_after_their_share(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", "let n = 0; const f = (x) => [x, ++n]", UdfKind.SCORE_AD)
        calls = [pool.call(handle, "f", [b"%d" % i], deadline_ms=60_000) for i in range(40)]
        results = await asyncio.gather(*calls)

        assert [result.value for result in results] == [[i, 1] for i in range(40)]

    in_a_pool(work, SandboxLimits(requests_per_worker=7))


def test_the_next_worker_of_a_script_is_ready_before_the_last_one_has_served_its_share(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", "const f = (x) => x", UdfKind.SCORE_AD)
        lane = pool._lanes[handle.version]
        first = lane.idle[0]
        for i in range(19):
            await pool.call(handle, "f", [b"%d" % i], deadline_ms=60_000)
        while len(lane.idle) < 2:
            await asyncio.sleep(0.01)
        assert first in lane.idle  # the 20th request is still its own
        await pool.call(handle, "f", [b"1"], deadline_ms=60_000)

        assert list(lane.idle) != [first]
        assert lane.live == len(lane.idle) == 1

    in_a_pool(work, SandboxLimits(requests_per_worker=20))


def test_nothing_of_a_request_runs_once_it_is_answered(in_a_pool: InAPool) -> None:
    code = """
        function f(spins) {
            const again = () => Promise.resolve().then(again);
            if (spins) again();
            return 1;
        }
    """

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.SCORE_AD)
        worker = pool._lanes[handle.version].idle[0]
        for spins in (b"1", b"0", b"1", b"0"):
            assert (await pool.call(handle, "f", [spins], deadline_ms=10_000)).value == 1

        assert list(pool._lanes[handle.version].idle) == [worker]

    in_a_pool(work)


def test_a_cancelled_request_frees_its_place_and_unloading_ends_a_script(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", "const f = (x) => { while (x); return 1; }", UdfKind.SCORE_AD)
        busy = [asyncio.create_task(pool.call(handle, "f", [b"1"], deadline_ms=60_000)) for _ in range(2)]
        await asyncio.sleep(0.3)
        with pytest.raises(UdfTimeoutError):
            await pool.call(handle, "f", [b"0"], deadline_ms=100)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)

        assert (await pool.call(handle, "f", [b"0"], deadline_ms=60_000)).value == 1

        await pool.unload(handle)
        with pytest.raises(UdfArgumentError):
            await pool.call(handle, "f", [b"0"], deadline_ms=1000)

    in_a_pool(work)


def test_a_request_takes_the_worker_that_is_free_first_not_the_one_that_starts_for_it(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", "const f = (x) => x", UdfKind.SCORE_AD)
        never = asyncio.Event()

        async def start() -> WorkerProcess:
            await never.wait()
            raise SandboxUnavailableError("it never came up")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "_start_worker", start)
            calls = [pool.call(handle, "f", [b"%d" % i], deadline_ms=20_000) for i in range(5)]
            results = await asyncio.gather(*calls)
            never.set()
            await asyncio.sleep(0)

        assert [result.value for result in results] == list(range(5))

    in_a_pool(work)


def test_requests_that_wait_when_their_script_is_unloaded_still_end(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        code = "const f = (ms) => { const end = Date.now() + ms; while (Date.now() < end); return ms }"
        handle = await pool.load("b.example", code, UdfKind.SCORE_AD)
        running = asyncio.create_task(pool.call(handle, "f", [b"300"], deadline_ms=20_000))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(pool.call(handle, "f", [b"1"], deadline_ms=20_000))
        await asyncio.sleep(0.05)
        await pool.unload(handle)

        assert [result.value for result in await asyncio.gather(running, waiting)] == [300, 1]

    in_a_pool(work, SandboxLimits(workers_per_udf=1))


def test_a_script_runs_again_once_sockets_can_be_made_again(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        code = "const f = (x) => { while (x < 0); return x }"
        handle = await pool.load("b.example", code, UdfKind.SCORE_AD)

        def no_descriptor() -> None:
            raise OSError(errno.EMFILE, "too many open files")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("adyton.sandbox.process.socket.socketpair", no_descriptor)
            with pytest.raises(UdfTimeoutError):
                await pool.call(handle, "f", [b"-1"], deadline_ms=200)  # costs its worker
            for _ in range(3):
                with pytest.raises((SandboxUnavailableError, UdfTimeoutError)):
                    await pool.call(handle, "f", [b"1"], deadline_ms=500)

        assert (await pool.call(handle, "f", [b"7"], deadline_ms=20_000)).value == 7

    in_a_pool(work, SandboxLimits(workers_per_udf=1))


def test_a_request_is_told_at_once_that_no_worker_can_start(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", "const f = (x) => { while (x); return 1; }", UdfKind.SCORE_AD)

        async def start() -> WorkerProcess:
            raise SandboxUnavailableError("it never came up")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "_start_worker", start)
            with pytest.raises(UdfTimeoutError):
                await pool.call(handle, "f", [b"1"], deadline_ms=200)
            async with asyncio.timeout(10):
                with pytest.raises(SandboxUnavailableError):
                    await pool.call(handle, "f", [b"0"], deadline_ms=60_000)

        assert (await pool.call(handle, "f", [b"0"], deadline_ms=60_000)).value == 1

    in_a_pool(work)


def test_a_weak_wall_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with SandboxPool(spares=0, isolation=Isolation.PROCESS) as pool:
            assert pool.isolation is Isolation.PROCESS

    asyncio.run(run())

    assert [record.levelname for record in caplog.records if "isolation" in record.message] == ["WARNING"]


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(BadInputError):
        SandboxLimits(heap_mb=0)


def test_a_worker_that_hears_a_surprise_ends_at_once_whatever_its_script_catches(in_a_pool: InAPool) -> None:
    code = "function f() { for (;;) { try { runInference(''); } catch {} } }"

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("b.example", code, UdfKind.PREPARE_DATA)
        (worker,) = pool._lanes[handle.version].idle

        async def surprise(_: str) -> str:
            worker._channel.send(encode_frame(FrameType.FORGET))
            return "late"

        with pytest.raises(UdfCrashedError):
            await pool.call(handle, "f", [], deadline_ms=10_000, hooks={"runInference": surprise})

    in_a_pool(work)


def test_a_pool_that_closes_at_once_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def open_and_close() -> None:
        async with SandboxPool():
            pass

    asyncio.run(open_and_close())

    assert [record.message for record in caplog.records] == []
