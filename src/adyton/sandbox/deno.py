"""V8 in Deno: how a worker of the default engine is started."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from adyton.sandbox.errors import SandboxUnavailableError
from adyton.sandbox.isolation import Isolation, WorkerCommand, walled
from adyton.sandbox.values import SandboxLimits

_ENVIRONMENT = {"DENO_DIR": "/nonexistent", "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
_DENO_OPTIONS = [
    "run",
    "--quiet",
    "--no-prompt",
    "--no-remote",
    "--no-npm",
    "--no-config",
    "--no-lock",
    "--cached-only",
    "--no-code-cache",
]


def find_deno() -> Path:
    """The Deno binary itself (never a wrapper, whose death would leave the engine running).

    Raises SandboxUnavailableError if there is none.
    """
    try:
        from deno import find_deno_bin

        found: str | None = find_deno_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("deno")
    if found is None or not Path(found).is_file():
        raise SandboxUnavailableError("the Deno engine is not installed", hint="pip install 'deno>=2.5'")
    return Path(found).resolve()


def engine_flags(limits: SandboxLimits) -> str:
    """The option that sets up V8.

    Each request leaves a context of some 160 kB behind. Incremental marking counts contexts that are made while it runs
    as live, so the heap filled up with dead ones, and collections of 100 ms and more found next to nothing to free. One
    pause of about 10 ms, most often between two requests, costs less in all. A heap that starts at its limit makes
    these pauses rare.
    """
    heap = f"--max-heap-size={limits.heap_mb},--initial-heap-size={limits.heap_mb}"
    return f"--v8-flags={heap},--single-threaded,--no-incremental-marking"


def deno_command(limits: SandboxLimits, isolation: Isolation, program: str = "worker.js") -> WorkerCommand:
    """The command line of one worker under `isolation`. program: a JavaScript file of this package."""
    deno = str(find_deno())
    script = str(Path(str(resources.files("adyton.sandbox").joinpath(program))).resolve())
    files = {deno: "/engine/deno", script: "/engine/worker.js"}
    binary, source = files.values() if isolation is Isolation.BUBBLEWRAP else files.keys()
    return walled(
        [binary, *_DENO_OPTIONS, engine_flags(limits), source],
        files=files,
        environment=_ENVIRONMENT,
        limits=limits,
        isolation=isolation,
    )
