"""How a worker process is started and walled in.

Every worker has Deno's permission system (nothing allowed), V8's heap limit and resource limits. Around that:

    BUBBLEWRAP   new user, mount, network, pid, ipc and host-name spaces; sees only its own binary and libraries
    NAMESPACES   `unshare`: new network, pid, ipc and host-name spaces, but the file system is still mounted
    PROCESS      nothing more: Deno's permissions alone stand between a script and files or the network

Anything less than BUBBLEWRAP is logged once as a warning and shown wherever `Isolation` is reported.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

from adyton.sandbox.errors import SandboxUnavailableError
from adyton.sandbox.values import SandboxLimits

_log = logging.getLogger(__name__)
_PROBE_TIMEOUT_S = 20


class Isolation(Enum):
    """The wall around worker processes, strongest first."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"
    PROCESS = "process"

    @property
    def meaning(self) -> str:
        """One sentence for reports and pages."""
        return _MEANINGS[self]


_MEANINGS = {
    Isolation.BUBBLEWRAP: "bubblewrap: no network, no files but the engine's own, no other processes",
    Isolation.NAMESPACES: "without bubblewrap: no network, but only Deno's permissions hide files",
    Isolation.PROCESS: "without bubblewrap: only Deno's permissions hide files and the network",
}

# The shell sets limits that the worker inherits. Python's own pre-exec hook would run code between fork and exec of a
# threaded process, which gRPC does not survive.
_LIMITED = 'ulimit -c 0; ulimit -d "$1"; ulimit -n "$2"; ulimit -t "$3"; shift 3; exec "$@"'

_BUBBLEWRAP = [
    "--unshare-all",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
    "--cap-drop",
    "ALL",
    "--hostname",
    "sandbox",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
]
_UNSHARE = ["--map-root-user", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child"]
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
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


@dataclass(frozen=True)
class WorkerCommand:
    """What to execute, and how strong the wall is."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    isolation: Isolation


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


def driver_source() -> str:
    """The trusted code that runs in each script's context."""
    return resources.files("adyton.sandbox").joinpath("driver.js").read_text()


def engine_flags(limits: SandboxLimits) -> str:
    """The option that sets up V8.

    Each request leaves a context of some 160 kB behind. Incremental marking counts contexts that are made while it runs
    as live, so the heap filled up with dead ones, and collections of 100 ms and more found next to nothing to free. One
    pause of about 10 ms, most often between two requests, costs less in all. A heap that starts at its limit makes
    these pauses rare.
    """
    heap = f"--max-heap-size={limits.heap_mb},--initial-heap-size={limits.heap_mb}"
    return f"--v8-flags={heap},--single-threaded,--no-incremental-marking"


def worker_command(limits: SandboxLimits, isolation: Isolation, program: str = "worker.js") -> WorkerCommand:
    """The command line of one worker under `isolation`. program: a JavaScript file of this package."""
    deno = find_deno()
    script = Path(str(resources.files("adyton.sandbox").joinpath(program))).resolve()
    limited = ["/bin/sh", "-c", _LIMITED, "sh", str(limits.data_mb * 1024), str(limits.open_files), str(limits.cpu_s)]
    engine = engine_flags(limits)
    if isolation is Isolation.BUBBLEWRAP:
        inside = ["/engine/deno", *_DENO_OPTIONS, engine, "/engine/worker.js"]
        binds = [word for folder in _LIBRARY_FOLDERS if Path(folder).exists() for word in ("--ro-bind", folder, folder)]
        binds += ["--ro-bind", str(deno), "/engine/deno", "--ro-bind", str(script), "/engine/worker.js"]
        settings = [word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)]
        wall = [shutil.which("bwrap") or "bwrap", *_BUBBLEWRAP, *binds, *settings]
    else:
        inside = [str(deno), *_DENO_OPTIONS, engine, str(script)]
        wall = [shutil.which("unshare") or "unshare", *_UNSHARE] if isolation is Isolation.NAMESPACES else []
    return WorkerCommand(tuple(limited + wall + inside), dict(_ENVIRONMENT), isolation)


def strongest_isolation() -> Isolation:
    """The strongest wall that works on this machine, found by starting an empty process behind each."""
    for isolation, arguments in (
        (Isolation.BUBBLEWRAP, ["bwrap", *_BUBBLEWRAP, "--ro-bind", "/", "/", "/bin/sh", "-c", ":"]),
        (Isolation.NAMESPACES, ["unshare", *_UNSHARE, "/bin/sh", "-c", ":"]),
    ):
        program = shutil.which(arguments[0])
        if program is None:
            continue
        try:
            done = subprocess.run([program, *arguments[1:]], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return isolation
    return Isolation.PROCESS


def warn_if_weak(isolation: Isolation) -> None:
    """One warning in the log when scripts are not behind the full wall."""
    if isolation is not Isolation.BUBBLEWRAP:
        _log.warning("sandbox isolation is %r: %s; install bubblewrap", isolation.value, isolation.meaning)
