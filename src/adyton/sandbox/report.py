"""Escape attempts: scripts that try to leave the sandbox, and what came of it.

Each attempt runs as a script of its own in a real worker. A second series is made by a program that is started like a
worker but holds the engine's own objects, as if the first wall had fallen: it tests permissions and namespaces.
`ALLOWED` means that something a script must not do worked;
`BLOCKED` that it did not. An attempt that kills or hangs its worker is BLOCKED: it got nowhere and cost one request.
What this cannot show: weaknesses of the engine or the kernel that nobody knows yet.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from adyton.sandbox.deno import deno_command
from adyton.sandbox.engines import Engine
from adyton.sandbox.errors import (
    SandboxUnavailableError,
    UdfCrashedError,
    UdfLoadError,
    UdfOutputError,
    UdfThrewError,
    UdfTimeoutError,
)
from adyton.sandbox.isolation import Isolation, WorkerCommand
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import SandboxLimits, UdfKind

_DEADLINE_MS = 1_500
_PROBE_TIMEOUT_S = 60

# In the worker's own realm the same attempts are made with the objects that a script could reach there if the wall
# between the realms fell; `realm` finds every foreign object.
_PRELUDE = """
const realm = (() => {
  const starts = [runInference, console.log, logMessage, forDebuggingOnly, globalThis, Error, Promise];
  try { runInference("x"); } catch (e) { starts.push(e); }
  const old = Error.prepareStackTrace;
  try { Error.prepareStackTrace = (e, sites) => { starts.push(sites, ...sites); return ""; }; } catch {}
  try { void new Error("x").stack; } catch {}
  for (const start of starts) {
    for (let o = start, i = 0; o !== null && o !== undefined && i < 10; o = Object.getPrototypeOf(o), i++) {
      try {
        const made = o.constructor.constructor("return globalThis")();
        if (made !== globalThis) return made;
      } catch {}
    }
  }
  return globalThis;
})();
const deno = () => realm.Deno ?? globalThis.Deno;
const need = (value) => { if (!value) throw new Error("unreachable"); return value; };
const load = async (name) => {
  for (const make of [(n) => import(n), (n) => realm.Function("n", "return import(n)")(n),
                      (n) => realm.process.getBuiltinModule(n), (n) => realm.require(n)]) {
    try { const found = await make(name); if (found) return found; } catch {}
  }
  throw new Error("unreachable");
};
"""

ATTEMPTS: Mapping[str, str] = MappingProxyType(
    {
        "reach the engine's own objects": "return realm !== globalThis;",
        "see Deno, process or require": "return Boolean(deno() ?? realm.process ?? realm.require ?? realm.Buffer);",
        "read a file": "return need(deno()).readTextFileSync('/etc/passwd').length > 0;",
        "read a file through node:fs": "return (await load('node:fs')).readFileSync('/etc/passwd').length > 0;",
        "list a folder": "return [...need(deno()).readDirSync('/')].length > 0;",
        "write a file": "need(deno()).writeTextFileSync('/tmp/adyton-escape', 'x'); return true;",
        "read environment variables": "return Object.keys(need(deno()).env.toObject()).length > 0;",
        "read the host name": "return need(deno()).hostname().length > 0;",
        "read process ids": "return need(deno()).pid > 0;",
        "start a process": "new (need(deno()).Command)('/bin/sh', { args: ['-c', 'true'] }).outputSync(); return true;",
        "start a process through node": "(await load('node:child_process')).execSync('true'); return true;",
        "call native code": "need(deno()).dlopen('libc.so.6', {}); return true;",
        "send a signal": "need(deno()).kill(1, 'SIGTERM'); return true;",
        "fetch from the network": "await need(realm.fetch)('http://127.0.0.1:1009/'); return true;",
        "open a connection": "await need(deno()).connect({ hostname: '127.0.0.1', port: 1009 }); return true;",
        "open a connection through node": "return Boolean((await load('node:net')).connect(1009, '127.0.0.1'));",
        "open a WebSocket": "return Boolean(new (need(realm.WebSocket))('ws://127.0.0.1:1009/'));",
        "resolve a name": "return (await need(deno()).resolveDns('localhost', 'A')).length >= 0;",
        "listen on a port": "need(deno()).listen({ port: 0 }); return true;",
        "import a module": "await load('node:os'); return true;",
        "import from the network": "await import('https://127.0.0.1:1009/x.js'); return true;",
        "import from data": "await import('data:text/javascript,export default 1'); return true;",
        "start another thread": "return Boolean(new (need(realm.Worker))('data:text/javascript,'));",
        "write forged frames": "need(deno()).stdout.writeSync(new Uint8Array([0, 0, 0, 0, 21])); return true;",
        "set a timer that outlives the call": "need(realm.setTimeout)(() => {}, 60000); return true;",
        "change the engine's prototypes": (
            "if (realm === globalThis) return false; realm.Object.prototype.tainted = 1; return realm.tainted === 1;"
        ),
        "run for ever": "for (;;); return true;",
        "wait for ever": "await new Promise(() => {}); return true;",
        "hang on a pattern": "/^(a+)+$/.test('a'.repeat(50) + 'b'); return true;",
        "fill the heap": "const a = []; for (let i = 0; i < 1e6; i++) a.push(new Array(1e4).fill(i)); return true;",
        "take memory outside the heap": (
            "const a = []; for (let i = 0; i < 100; i++) a.push(new Uint8Array(2e7).fill(1)); return true;"
        ),
        "fill one huge array": "return new Array(3e8).fill(1.5).length > 0;",
        "grow a string without end": (
            "let s = 'x'.repeat(1e6); for (let i = 0; i < 12; i++) s = (s + s).trim(); return s > '';"
        ),
        "recurse without end": "const f = () => f() + 1; return f() > 0;",
        "return 100 MB": "return 'x'.repeat(1e8);",
    }
)

_STATE_SCRIPT = """
globalThis.seen = globalThis.seen || 0;
let seen = 0;
function remember() { const before = globalThis.seen + seen + (Object.prototype.seen || 0);
  globalThis.seen = 1; seen = 1; Object.prototype.seen = 1; return before > 0; }
"""
_STATE = "keep state between requests"


@dataclass(frozen=True)
class Attempt:
    """One attempt. detail: how it ended."""

    name: str
    blocked: bool
    detail: str

    @property
    def verdict(self) -> str:
        """BLOCKED or ALLOWED."""
        return "BLOCKED" if self.blocked else "ALLOWED"


@dataclass(frozen=True)
class SandboxReport:
    """All attempts, and the wall they ran against."""

    isolation: Isolation
    attempts: tuple[Attempt, ...]

    @property
    def all_blocked(self) -> bool:
        """Whether nothing got through."""
        return all(attempt.blocked for attempt in self.attempts)

    def as_json(self) -> dict[str, object]:
        return {
            "isolation": self.isolation.value,
            "meaning": self.isolation.meaning,
            "all_blocked": self.all_blocked,
            "attempts": [
                {"name": attempt.name, "verdict": attempt.verdict, "detail": attempt.detail}
                for attempt in self.attempts
            ],
        }


async def sandbox_report(isolation: Isolation | None = None, engine: Engine = Engine.V8) -> SandboxReport:
    """Run every escape attempt. isolation: None for the strongest wall of this machine.

    The second series holds Deno's objects, and so is made for V8 alone.

    Raises SandboxUnavailableError if no worker can be started here.
    """
    limits = SandboxLimits(failures_before_backoff=10_000, workers_per_udf=1)
    attempts: list[Attempt] = []
    async with SandboxPool(limits=limits, isolation=isolation, engine=engine) as pool:
        # Also proves that workers start here: otherwise everything would look blocked.
        await pool.load("report.example", "function ok() {}", UdfKind.GENERATE_BID)
        for name, body in ATTEMPTS.items():
            attempts.append(await _attempt(pool, name, f"{_PRELUDE}\nasync function attempt() {{ {body} }}"))
        attempts.append(await _remembers(pool))
        if engine is Engine.V8:
            attempts += await probe_attempts(deno_command(limits, pool.isolation, "probe.js"))
        return SandboxReport(pool.isolation, tuple(attempts))


async def probe_attempts(command: WorkerCommand) -> list[Attempt]:
    """The attempts of `probe.js`, started by `command`.

    An attempt that ends the process is BLOCKED. Raises SandboxUnavailableError if the probe does not start or end.
    """
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=command.environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise SandboxUnavailableError("the probe of the sandbox did not end") from None
    lines = [orjson.loads(line) for line in output.splitlines()]
    if not lines:
        raise SandboxUnavailableError("the probe of the sandbox did not run")
    results = {line["name"]: line for line in lines[1:]}
    return [
        Attempt(
            f"{name}, inside the engine",
            blocked=name not in results or not results[name]["worked"],
            detail=str(results[name]["detail"]) if name in results else "the process ended",
        )
        for name in lines[0]
    ]


async def _attempt(pool: SandboxPool, name: str, code: str) -> Attempt:
    try:
        handle = await pool.load("report.example", code, UdfKind.GENERATE_BID)
    except (UdfLoadError, UdfTimeoutError, UdfCrashedError) as error:
        return Attempt(name, blocked=True, detail=error.what)
    try:
        result = await pool.call(handle, "attempt", [], deadline_ms=_DEADLINE_MS)
    except UdfThrewError as error:
        return Attempt(name, blocked=True, detail=f"threw: {error.script_message}")
    except (UdfTimeoutError, UdfCrashedError, UdfOutputError) as error:
        return Attempt(name, blocked=True, detail=error.what)
    finally:
        await pool.unload(handle)
    return Attempt(name, blocked=result.value is False, detail="nothing there" if result.value is False else "worked")


async def _remembers(pool: SandboxPool) -> Attempt:
    handle = await pool.load("report.example", _STATE_SCRIPT, UdfKind.GENERATE_BID)
    for _ in range(5):
        if (await pool.call(handle, "remember", [], deadline_ms=10 * _DEADLINE_MS)).value:
            return Attempt(_STATE, blocked=False, detail="a later request saw it")
    return Attempt(_STATE, blocked=True, detail="every request starts fresh")
