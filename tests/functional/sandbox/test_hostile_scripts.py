"""Each hostile script costs one request and nothing else: the next request of the same owner and of another works."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from adyton.kernel.errors import AdytonError
from adyton.sandbox.errors import (
    UdfCrashedError,
    UdfLoadError,
    UdfOutputError,
    UdfThrewError,
    UdfTimeoutError,
)
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import SandboxLimits, UdfKind, UdfResult

InAPool = Callable[..., None]


HOSTILE = {
    "endless loop": ("while (true) {}", UdfTimeoutError),
    "endless microtasks": (
        "const spin = () => Promise.resolve().then(spin); return spin();",
        (UdfTimeoutError, UdfCrashedError, UdfThrewError),
    ),
    "never settles": ("return new Promise(() => {});", UdfTimeoutError),
    "catastrophic pattern": ("return /^(a+)+$/.test('a'.repeat(40) + 'b');", UdfTimeoutError),
    "array bomb": ("const a = []; for (;;) a.push(new Array(1e5).fill(a.length));", (UdfCrashedError, UdfThrewError)),
    "filled array": ("return new Array(3e8).fill(1.5).length;", (UdfCrashedError, UdfTimeoutError, UdfThrewError)),
    "array buffer bomb": (
        "const a = []; for (;;) a.push(new Uint8Array(1e7).fill(1));",
        (UdfThrewError, UdfCrashedError),
    ),
    "string bomb": ("let s = 'x'; for (;;) s += s + 'y';", (UdfThrewError, UdfCrashedError)),
    "deep recursion": ("const f = () => f() + 1; return f();", UdfThrewError),
    "rejected promise": ("return Promise.reject(new Error('no'));", UdfThrewError),
    "throws a getter": ("throw { get message() { while (false); throw 1; } };", UdfThrewError),
    "100 MB return": ("return 'x'.repeat(1e8);", (UdfOutputError, UdfCrashedError, UdfThrewError)),
    "10 MB return": ("return 'x'.repeat(1e7);", UdfOutputError),
    "circular return": ("const a = {}; a.a = a; return a;", UdfThrewError),
    "big integer return": ("return 10n;", UdfThrewError),
    "endless toJSON": ("return { toJSON() { for (;;); } };", UdfTimeoutError),
    "throwing then": ("return { get then() { throw new Error('then'); } };", UdfThrewError),
}


def test_each_hostile_script_costs_one_request_and_nothing_else(in_a_pool: InAPool) -> None:
    async def attack(pool: SandboxPool, name: str) -> tuple[str, object]:
        body, expected = HOSTILE[name]
        code = f"function attack() {{ {body} }} function innocent(x) {{ return x; }}"
        attacker = await pool.load("attacker.example", code, UdfKind.SCORE_AD)
        bystander = await pool.load("bystander.example", "const echo = (x) => x", UdfKind.SCORE_AD)
        try:
            raised: object = await pool.call(attacker, "attack", [], deadline_ms=1500)
        except AdytonError as error:
            raised = error
        again = await pool.call(attacker, "innocent", [b"7"], deadline_ms=20_000)
        other = await pool.call(bystander, "echo", [b"8"], deadline_ms=20_000)
        await pool.unload(attacker)
        right = isinstance(raised, expected) and again.value == 7 and other.value == 8
        return name, None if right else repr(raised)

    async def work(pool: SandboxPool) -> None:
        outcomes = [await attack(pool, name) for name in HOSTILE]

        assert [outcome for outcome in outcomes if outcome[1] is not None] == []

    in_a_pool(work, SandboxLimits(failures_before_backoff=1000))


def test_no_state_survives_between_requests(in_a_pool: InAPool) -> None:
    code = """
        let lexical = 0;
        var declared = 0;
        const cache = new Map();
        function leak() {
          const before = [lexical, declared, cache.size, globalThis.counter, Object.prototype.tainted, [].tainted,
                          JSON.tainted, typeof runInference.tainted, String.prototype.trim === Math.max,
                          console.tainted, Symbol.for("s").description, Promise.tainted, Error.tainted];
          lexical++; declared++; cache.set(1, 1); globalThis.counter = 1;
          Object.prototype.tainted = 1; Array.prototype.tainted = 1; JSON.tainted = 1; runInference.tainted = 1;
          String.prototype.trim = Math.max; console.tainted = 1; Promise.tainted = 1; Error.tainted = 1;
          return before;
        }
        function worker_realm() {
          // Every object a script can reach, and what their constructors lead to.
          const found = [];
          for (const start of [runInference, console, console.log, logMessage, forDebuggingOnly, globalThis,
                               Error.prepareStackTrace, Error.captureStackTrace]) {
            for (let o = start, i = 0; o !== null && o !== undefined && i < 10; o = Object.getPrototypeOf(o), i++) {
              const made = o.constructor && o.constructor.constructor;
              const realm = typeof made === "function" ? made("return globalThis")() : globalThis;
              if (realm !== globalThis) { found.push("foreign realm"); realm.counter = 1; }
            }
          }
          try { runInference("x"); } catch (e) {
            if (e.constructor.constructor("return globalThis")() !== globalThis) found.push("foreign error");
          }
          const deep = () => { try { deep(); } catch (e) { try { runInference("x"); } catch (f) {
            if (f.constructor.constructor("return globalThis")() !== globalThis) found.push("foreign stack error");
          } } };
          deep();
          Error.prepareStackTrace = (e, sites) => {
            for (const site of sites) {
              const f = site.getFunction(), t = site.getThis();
              for (const x of [f, t]) {
                if (x === undefined || x === null) continue;
                try {
                  const made = x.constructor.constructor;
                  if (made("return globalThis")() !== globalThis) found.push("foreign frame");
                } catch (error) {}
              }
              try {
                if (site.constructor.constructor("return globalThis")() !== globalThis) found.push("foreign site");
              } catch (error) {}
            }
            return "";
          };
          try { runInference("x"); } catch (e) { e.stack; }
          new Error("x").stack;
          return found;
        }
        async function dynamic_import() {
          try { await import("node:fs"); return "imported"; }
          catch (e) { return e.constructor.constructor("return globalThis")() === globalThis ? "own" : "foreign"; }
        }
    """

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("buyer.example", code, UdfKind.GENERATE_BID)
        seen = [(await pool.call(handle, "leak", [], deadline_ms=5000)).value for _ in range(6)]

        assert all(value == seen[0] for value in seen)
        assert seen[0] == [0, 0, 0, None, None, None, None, "undefined", False, None, "s", None, None]
        assert (await pool.call(handle, "worker_realm", [], deadline_ms=5000)).value == []
        assert (await pool.call(handle, "dynamic_import", [], deadline_ms=5000)).value != "imported"

    in_a_pool(work)


def test_microtasks_left_behind_do_not_reach_the_next_request(in_a_pool: InAPool) -> None:
    code = """
        function plant() {
          (async () => { for (let i = 0; i < 1000; i++) await null; logMessage("late"); runInference("late"); })();
          return 1;
        }
        function read(x) { return x; }
    """
    heard: list[str] = []

    async def hook(text: str) -> str:
        heard.append(text)
        return "{}"

    async def work(pool: SandboxPool) -> None:
        handle = await pool.load("buyer.example", code, UdfKind.GENERATE_BID)
        for _ in range(5):
            await pool.call(handle, "plant", [], deadline_ms=5000, hooks={"runInference": hook})
            result = await pool.call(
                handle, "read", [b"1"], deadline_ms=5000, hooks={"runInference": hook}, capture_console=True
            )

            assert result.value == 1
            assert result.console == ()

    in_a_pool(work)

    assert heard == []


def test_an_owner_whose_scripts_keep_failing_is_backed_off_and_others_are_not(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        bad = await pool.load("bad.example", "function f() { for (;;); } function g() { return 1; }", UdfKind.SCORE_AD)
        good = await pool.load("good.example", "function g() { return 1; }", UdfKind.SCORE_AD)
        kinds: list[str] = []
        # On a busy machine a request may also end while it waits for a new worker, which is not the script's failure.
        while "OwnerBackedOffError" not in kinds and len(kinds) < 30:
            with pytest.raises(AdytonError) as caught:
                await pool.call(bad, "f", [], deadline_ms=500)
            kinds.append(type(caught.value).__name__)

        assert len(kinds) >= 3
        assert set(kinds[:-1]) == {"UdfTimeoutError"}
        assert kinds[-1] == "OwnerBackedOffError"
        assert (await pool.call(good, "g", [], deadline_ms=5000)).value == 1

    in_a_pool(work, SandboxLimits(failures_before_backoff=2, backoff_ms=60_000, backoff_max_ms=60_000))


@pytest.mark.parametrize("code", ["function (", "throw new Error('at load')", "null.x", "import fs from 'node:fs'"])
def test_a_script_that_cannot_be_loaded_says_so(code: str, in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        with pytest.raises(UdfLoadError):
            await pool.load("buyer.example", code, UdfKind.GENERATE_BID)

    in_a_pool(work)


def test_one_failing_call_of_a_batch_leaves_the_others(in_a_pool: InAPool) -> None:
    async def work(pool: SandboxPool) -> None:
        code = "function scoreAd(x) { if (x === 2) throw new Error('two'); return { desirability: x }; }"
        handle = await pool.load("seller.example", code, UdfKind.SCORE_AD)
        calls = [[orjson.dumps(x)] for x in (1, 2, 3)]
        outcomes = await pool.call_each(handle, "scoreAd", calls, deadline_ms=5000)

        assert [type(outcome) for outcome in outcomes] == [UdfResult, UdfThrewError, UdfResult]
        assert outcomes[2].value == {"desirability": 3}

    in_a_pool(work)
