"""What a process can still do after it was shut in: each escape is tried in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adyton.cleanroom import hardening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measures are Linux's")

TRY = """
import ctypes, json, os, resource, socket, subprocess, sys, threading
from pathlib import Path
from adyton.cleanroom.hardening import shut_in

folder, ports = Path(sys.argv[1]), json.loads(sys.argv[2])
held = {m.name: m.held for m in shut_in([folder], ports)} if sys.argv[3] == "shut in" else {}


def outcome(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


def thread():
    made = threading.Thread(target=lambda: None)
    made.start()
    made.join()


def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def listen():
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s"))
        made.listen()


def trace():
    if ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


tried = {
    "program": lambda: subprocess.run(["/bin/true"], check=True),
    "fork": fork,
    "signal": lambda: os.kill(os.getppid(), 0),
    "trace": trace,
    "internet socket": lambda: socket.socket(socket.AF_INET).close(),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "file elsewhere": lambda: Path(sys.argv[4]).write_text("x"),
    "listening": listen,
    "thread": thread,
    "file in its folder": lambda: (folder / "f").write_text("x"),
    "unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
}
outcomes = {name: outcome(act) for name, act in tried.items()}
core = resource.getrlimit(resource.RLIMIT_CORE)
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
print(json.dumps({"held": held, "outcomes": outcomes, "core": core, "dumpable": dumpable}))
"""
STILL_NEEDED = ("thread", "file in its folder", "unix socket")


def tried(folder: Path, ports: list[int], how: str) -> dict[str, dict[str, str]]:
    (folder / "own").mkdir()
    command = [sys.executable, "-c", TRY, str(folder / "own"), json.dumps(ports), how, str(folder / "elsewhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome: dict[str, dict[str, str]] = json.loads(done.stdout)
    return outcome


def test_every_escape_is_refused_and_what_is_needed_still_works(tmp_path: Path) -> None:
    found = tried(tmp_path, [], "shut in")
    if not all(found["held"].values()):
        pytest.skip(f"this kernel refuses a measure: {found['held']}")

    done = {name for name, outcome in found["outcomes"].items() if outcome == "done"}
    assert done == set(STILL_NEEDED)
    assert (found["core"], found["dumpable"]) == ([0, 0], 0)


def test_brokers_on_tcp_leave_tcp_sockets_and_nothing_more(tmp_path: Path) -> None:
    found = tried(tmp_path, [4711], "shut in")
    if not all(found["held"].values()):
        pytest.skip(f"this kernel refuses a measure: {found['held']}")

    done = {name for name, outcome in found["outcomes"].items() if outcome == "done"}
    assert done == {*STILL_NEEDED, "internet socket"}


def test_without_it_each_of_these_would_work(tmp_path: Path) -> None:
    """A control: the refusals above come from the measures, not from the place where the test runs."""
    outcomes = tried(tmp_path, [], "as it is")["outcomes"]

    assert {name for name, outcome in outcomes.items() if outcome != "done"} <= {"trace", "netlink socket"}


def test_a_measure_that_the_kernel_refuses_is_said_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> str:
        raise OSError(1, "libseccomp.so.2 is not installed")

    for name in ("load_filter", "_no_new_privileges", "no_core_dump", "_no_network", "_landlock_files"):
        monkeypatch.setattr(hardening, name, refused)
    found = {m.name: (m.held, m.found) for m in hardening.shut_in([], [])}

    assert found["seccomp"] == (False, "libseccomp.so.2 is not installed")
    assert not found["network-namespace"][0]
