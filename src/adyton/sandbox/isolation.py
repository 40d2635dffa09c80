"""How a worker process is started and walled in.

Every worker has its engine's own limits (V8 in Deno: no permissions, a heap limit) and resource limits. Around that:

    BUBBLEWRAP   new user, mount, network, pid, ipc and host-name spaces; sees only its own binary and libraries
    NAMESPACES   `unshare`: new network, pid, ipc and host-name spaces, but the file system is still mounted
    PROCESS      nothing more: the engine alone stands between a script and files or the network

Anything less than BUBBLEWRAP is logged once as a warning and shown wherever `Isolation` is reported.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

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
    Isolation.NAMESPACES: "without bubblewrap: no network, but only the engine itself hides files",
    Isolation.PROCESS: "without bubblewrap: only the engine itself hides files and the network",
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
    # Where the loader finds libraries outside of its own folders, such as those of a Python in /usr/local.
    "--ro-bind-try",
    "/etc/ld.so.cache",
    "/etc/ld.so.cache",
]
_UNSHARE = ["--map-root-user", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child"]
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


@dataclass(frozen=True)
class WorkerCommand:
    """What to execute, and how strong the wall is."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    isolation: Isolation


def walled(
    inside: Sequence[str],
    *,
    files: Mapping[str, str],
    folders: Sequence[str] = (),
    environment: Mapping[str, str],
    limits: SandboxLimits,
    isolation: Isolation,
) -> WorkerCommand:
    """The command line `inside` behind the limits of a worker and the wall of `isolation`.

    files: path on this machine -> path in the process's own file system, which `inside` uses under BUBBLEWRAP.
    folders: what else it sees of this machine, under the same path. All of it read-only.
    """
    limited = ["/bin/sh", "-c", _LIMITED, "sh", str(limits.data_mb * 1024), str(limits.open_files), str(limits.cpu_s)]
    if isolation is Isolation.BUBBLEWRAP:
        seen = [folder for folder in (*_LIBRARY_FOLDERS, *folders) if Path(folder).exists()]
        binds = [word for folder in seen for word in ("--ro-bind", folder, folder)]
        binds += [word for source, target in files.items() for word in ("--ro-bind", source, target)]
        settings = [word for name, value in environment.items() for word in ("--setenv", name, value)]
        wall = [shutil.which("bwrap") or "bwrap", *_BUBBLEWRAP, *binds, "--remount-ro", "/", *settings]
    else:
        wall = [shutil.which("unshare") or "unshare", *_UNSHARE] if isolation is Isolation.NAMESPACES else []
    return WorkerCommand((*limited, *wall, *inside), dict(environment), isolation)


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
