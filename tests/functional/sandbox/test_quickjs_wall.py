"""What a QuickJS worker's process could reach if the engine fell: a program that is started like it tries."""

from __future__ import annotations

import json
import subprocess

import pytest

from adyton.sandbox import quickjs
from adyton.sandbox.errors import SandboxUnavailableError
from adyton.sandbox.isolation import Isolation, strongest_isolation
from adyton.sandbox.values import SandboxLimits

PROBE = """
import json, os, socket
def home(): return os.listdir(os.path.expanduser("~")) or os.listdir("/root")
def passwords(): return open("/etc/passwd").read()
def other_processes(): return [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) > 100]
def network(): return [n for _, n in socket.if_nameindex() if n != "lo"]
def environment(): return os.environ.get("SECRET")
def host_name(): return socket.gethostname() != "sandbox"
def memory(): return len(bytearray(1 << 30))
def written(): return open("/adyton-escape", "w").write("x")
found = {}
for attempt in (home, passwords, other_processes, network, environment, host_name, memory, written):
    try: found[attempt.__name__] = bool(attempt())
    except (OSError, MemoryError): found[attempt.__name__] = False
print(json.dumps(found))
"""


@pytest.mark.skipif(strongest_isolation() is not Isolation.BUBBLEWRAP, reason="bubblewrap does not work here")
def test_behind_bubblewrap_there_is_nothing_to_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("_quickjs", reason="the extra `quickjs` is not installed")
    monkeypatch.setenv("SECRET", "1")
    open_, walled = (_found(isolation) for isolation in (Isolation.PROCESS, Isolation.BUBBLEWRAP))

    assert not any(walled.values())
    assert open_["passwords"], "the attempts must work without the wall"
    assert open_["network"] or open_["host_name"]
    assert not open_["memory"], "limits hold without the wall too"


def test_without_the_engine_a_pool_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickjs, "_MODULE", "_no_such_engine")
    with pytest.raises(SandboxUnavailableError) as caught:
        quickjs.quickjs_command(SandboxLimits(), Isolation.PROCESS)

    assert "quickjs" in str(caught.value.hint)


def _found(isolation: Isolation) -> dict[str, bool]:
    command = quickjs.quickjs_command(SandboxLimits(), isolation)
    before_script = command.arguments[: command.arguments.index("-S") + 1]
    done = subprocess.run(
        [*before_script, "-c", PROBE], env=command.environment, capture_output=True, check=True, timeout=60
    )
    found: dict[str, bool] = json.loads(done.stdout)
    return found
