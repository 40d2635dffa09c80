"""How the model process is walled in: a model is a file from outside, and its runtime reads it with native code.

With bubblewrap the process has no network, sees no other process, and of the file system only its interpreter, its
libraries and the folder of models, all read-only. Its own limits (memory, open files, size of files, no core dumps)
hold everywhere. Without bubblewrap a warning says what is missing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import adyton
from adyton.auction.inference.errors import InferenceDownError
from adyton.sandbox.isolation import Isolation, strongest_isolation

_log = logging.getLogger(__name__)
DEFAULT_MEMORY_MB = 8192
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_THREAD_NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LANG": "C.UTF-8",
}
_WALL = [
    "--unshare-all",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
    "--cap-drop",
    "ALL",
    "--hostname",
    "models",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",  # noqa: S108  the sandbox's own, which is empty and gone with it
    # Where the loader finds libraries outside of its own folders, such as those of a Python in /usr/local.
    "--ro-bind-try",
    "/etc/ld.so.cache",
    "/etc/ld.so.cache",
]
_PROBE = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.executable, *sys.path]))"
_PROBE_TIMEOUT_S = 60


@dataclass(frozen=True)
class ModelCommand:
    """What to execute, with what environment, and how strong the wall is."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    isolation: Isolation


@cache
def model_isolation() -> Isolation:
    """The wall around model processes of this machine; less than bubblewrap is told once, as a warning."""
    if strongest_isolation() is Isolation.BUBBLEWRAP:
        return Isolation.BUBBLEWRAP
    _log.warning("model processes run without bubblewrap: they can reach files and the network; install bubblewrap")
    return Isolation.PROCESS


def model_command(
    models: Path,
    *,
    python: str | None = None,
    memory_mb: int = DEFAULT_MEMORY_MB,
    threads: int = 1,
    isolation: Isolation | None = None,
) -> ModelCommand:
    """The command line of a model process that reads models under `models`.

    python: the interpreter whose libraries run the models, None for this one; another one needs numpy and orjson.
    memory_mb: RLIMIT_DATA.   threads: of one prediction.   isolation: None for the strongest of this machine.
    Raises InferenceDownError if the interpreter cannot be asked for its folders.
    """
    interpreter = python or sys.executable
    isolation = isolation or model_isolation()
    root = Path(adyton.__file__).resolve().parent.parent
    # Appended, so that the libraries of another interpreter come before ours.
    program = (
        f"import sys; sys.path.append({str(root)!r}); "
        "from adyton.auction.inference.model_process import main; main(sys.argv[1:])"
    )
    inside = [interpreter, "-P", "-c", program, str(memory_mb), str(threads)]
    environment = _ENVIRONMENT | dict.fromkeys(_THREAD_NAMES, str(threads))
    if isolation is not Isolation.BUBBLEWRAP:
        return ModelCommand(tuple(inside), {**environment, "PATH": os.environ.get("PATH", "")}, isolation)
    folders = [*_LIBRARY_FOLDERS, *_folders(interpreter), str(root / "adyton"), str(models.resolve())]
    binds = [word for folder in folders if Path(folder).exists() for word in ("--ro-bind", folder, folder)]
    settings = [word for name, value in environment.items() for word in ("--setenv", name, value)]
    wall = [shutil.which("bwrap") or "bwrap", *_WALL, *binds, *settings]
    return ModelCommand((*wall, *inside), {}, isolation)


@cache
def _folders(interpreter: str) -> tuple[str, ...]:
    """Folders that an interpreter reads: its prefixes and its search path. Only installed packages, never a home."""
    try:
        done = subprocess.run(
            [interpreter, "-P", "-c", _PROBE], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
        prefix, base_prefix, executable, *search = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise InferenceDownError("the interpreter of models cannot be used", where=interpreter) from error
    found = [prefix, base_prefix, str(Path(executable).resolve().parent.parent)]
    found += [path for path in search if Path(path).name in ("site-packages", "dist-packages")]
    # The file system's root or /usr as a prefix would show everything, or hide the binds before it.
    found = [path for path in found if path not in ("/", "")]
    return tuple(dict.fromkeys(found))
