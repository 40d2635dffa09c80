"""QuickJS in a Python process: for machines where no V8 binary may run. Slower, smaller, the same frames.

The process imports `quickjs_worker.py` and the engine's extension module (package `quickjs-ng`), nothing else; behind
bubblewrap it sees no other package and none of this project's files.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import resources
from pathlib import Path

from adyton.sandbox.errors import SandboxUnavailableError
from adyton.sandbox.isolation import Isolation, WorkerCommand, walled
from adyton.sandbox.values import SandboxLimits

_MODULE = "_quickjs"
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}


def quickjs_command(limits: SandboxLimits, isolation: Isolation) -> WorkerCommand:
    """The command line of one worker under `isolation`.

    Raises SandboxUnavailableError if the engine is not installed.
    """
    found = importlib.util.find_spec(_MODULE)
    if found is None or found.origin is None:
        raise SandboxUnavailableError("the QuickJS engine is not installed", hint="pip install 'adyton[quickjs]'")
    module = Path(found.origin).resolve()
    script = Path(str(resources.files("adyton.sandbox").joinpath("quickjs_worker.py"))).resolve()
    python = Path(sys.executable).resolve()
    files = {str(module): f"/engine/{module.name}", str(script): "/engine/worker.py"}
    source, folder = ("/engine/worker.py", "/engine") if isolation is Isolation.BUBBLEWRAP else (script, module.parent)
    prefix = Path(sys.base_prefix).resolve()
    # /usr as a whole would show every program of the machine; its libraries are seen anyway.
    folders = [str(python)] if prefix in (Path("/"), Path("/usr")) else [str(prefix)]
    return walled(
        [str(python), "-I", "-S", str(source), str(folder), str(limits.heap_mb)],
        files=files,
        folders=folders,
        environment=_ENVIRONMENT,
        limits=limits,
        isolation=isolation,
    )
