"""What the kernel offers to shut a process in, and what of it held.

Each measure is tried, and the receipt says which held: a container or an old kernel may refuse some. All of them are
one-way for this process and its threads, so they run first, while there is one thread.

    no-new-privileges   set-uid programs give nothing (prctl)
    no-core-dump        a crash writes no memory to a disk, and no other process of this user reads it (RLIMIT_CORE,
                        PR_SET_DUMPABLE)
    no-swap             the machine has no swap space that memory could be written to (looked up, not set)
    memory-cap          what asks for more memory than there is gets an error that can be told (RLIMIT_DATA)
    network-namespace   no interface at all; UNIX sockets by path still reach the brokers (unshare)
    landlock-files      no file can be written but below the ledger's folder (Landlock)
    landlock-network    TCP connections to the brokers' ports only (Landlock, ABI 4)
    seccomp             no new program or process, and a list of other system calls (`syscall_filter`)

None of this stops the machine's administrator.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adyton.cleanroom.private_memory import FOLDER, mount_private_memory, raise_loopback
from adyton.cleanroom.syscall_filter import load_filter
from adyton.kernel.canonical import Json

VIRTUAL_BYTES = 1 << 30
"""What libraries reserve and do not use: 0.9 to 1 GB was seen beyond what a job's memory held."""
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
# Numbers are the same on all architectures that Landlock runs on (asm-generic).
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_ACCESS_NET_BIND_TCP, _ACCESS_NET_CONNECT_TCP = 1, 2
# Write file, remove dir/file, make char/dir/reg/sock/fifo/block/sym, refer, truncate: all that changes a file system.
_WRITES_BY_ABI = {1: 0x1FF2, 2: 0x3FF2, 3: 0x7FF2}


@dataclass(frozen=True)
class Measure:
    """One measure: whether it held, and what was found."""

    name: str
    held: bool
    found: str

    def as_json(self) -> dict[str, Json]:
        return {"name": self.name, "held": self.held, "found": self.found}


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64))


def shut_in(
    writable: Sequence[Path], broker_ports: Sequence[int], *, java_mb: int | None = None
) -> tuple[Measure, ...]:
    """Shut this process in; call once, early.

    writable: folders below which files may be written.   broker_ports: TCP ports of brokers, empty if all brokers are
    on UNIX sockets; then there is no network at all.   java_mb: if a Java process is to run beside this one, how much
    private memory it may use as files; the filter of system calls is left out then, and the result says so.
    """
    if sys.platform != "linux":
        return (Measure("linux", False, f"{sys.platform} offers none of the measures used here"),)
    steps: list[tuple[str, Callable[[], str]]] = []
    if java_mb is not None:
        steps.append(("private-memory", lambda: mount_private_memory(java_mb)))
        writable = [*writable, FOLDER]
    steps += [
        ("no-new-privileges", _no_new_privileges),
        ("no-core-dump", no_core_dump),
        ("no-swap", _no_swap),
    ]
    if not broker_ports:
        steps.append(("network-namespace", _no_network))
    if java_mb is not None:
        steps.append(("loopback", raise_loopback))
    steps.append(("landlock-files", lambda: _landlock_files(writable)))
    if broker_ports:
        steps.append(("landlock-network", lambda: _landlock_network(broker_ports)))
    if java_mb is not None:
        steps += [("seccomp", _java_is_a_process), ("engine-measured", _java_is_not_measured)]
    else:
        # Java counts every page that it might ever use, so it cannot live under such a cap.
        steps.append(("memory-cap", lambda: cap_memory(int(0.9 * available_bytes()) + VIRTUAL_BYTES)))
        steps.append(("seccomp", lambda: load_filter(has_tcp=bool(broker_ports))))
    return tuple(_attempt(name, step) for name, step in steps)


def _attempt(name: str, step: Callable[[], str]) -> Measure:
    try:
        return Measure(name, True, step())
    except OSError as error:
        return Measure(name, False, str(error.strerror or error))


def _no_new_privileges() -> str:
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return "set"


def no_core_dump() -> str:
    """Keep this process's memory out of core files and from other processes. Raises OSError if the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    return "no core file, not readable by other processes of this user"


def _java_is_a_process() -> str:
    raise OSError(0, "not loaded: Spark starts a Java process and listens on loopback")


def _java_is_not_measured() -> str:
    raise OSError(0, "Spark's Java code, and Java itself, are outside the measurement")


def _no_swap() -> str:
    devices = Path("/proc/swaps").read_text().splitlines()[1:]
    if devices:
        raise OSError(0, f"memory may be written to {len(devices)} swap devices; only keys are kept from them")
    return "the machine has no swap space"


def cap_memory(more_bytes: int) -> str:
    """Let this process take at most `more_bytes` beyond what it has. Raises OSError if the kernel refuses.

    What asks for more gets an error that can be told, where the kernel would otherwise kill this or another process.
    """
    status = Path("/proc/self/status").read_text()
    taken = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:"))
    limit = taken + more_bytes
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except ValueError as error:
        raise OSError(0, str(error)) from error
    return f"at most {limit >> 20} MB; beyond that the job is refused"


def available_bytes() -> int:
    """Memory that this process can get: the machine's, or what its control group leaves."""
    info = Path("/proc/meminfo").read_text()
    available = next(int(line.split()[1]) << 10 for line in info.splitlines() if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        available = min(available, max(most - used, 0))
    return available


def _no_network() -> str:
    # A user namespace of its own gives the right to make a network namespace without being root.
    try:
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    except OSError:
        _call("unshare", _CLONE_NEWNET)
    return "no network interface; brokers are reached by UNIX socket"


def _landlock_files(writable: Sequence[Path]) -> str:
    abi = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    writes = _WRITES_BY_ABI[min(abi, max(_WRITES_BY_ABI))]
    ruleset_fd = _new_ruleset(_Ruleset(writes, 0))
    try:
        for path in writable:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _PathBeneath(writes, folder)
                _syscall(_LANDLOCK_ADD_RULE, ruleset_fd, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(folder)
        # Writing to /dev/null changes nothing, and libraries do it.
        null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        rule = _PathBeneath(writes & 0x4002, null)
        _syscall(_LANDLOCK_ADD_RULE, ruleset_fd, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(null)
        _syscall(_LANDLOCK_RESTRICT_SELF, ruleset_fd, 0)
    finally:
        os.close(ruleset_fd)
    return f"ABI {abi}: files are written only in the ledger's folder" if writable else f"ABI {abi}: no file is written"


def _landlock_network(ports: Sequence[int]) -> str:
    abi = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    if abi < 4:
        raise OSError(0, f"Landlock ABI {abi} knows no network rules")
    ruleset_fd = _new_ruleset(_Ruleset(0, _ACCESS_NET_BIND_TCP | _ACCESS_NET_CONNECT_TCP))
    try:
        for port in ports:
            rule = _NetPort(_ACCESS_NET_CONNECT_TCP, port)
            _syscall(_LANDLOCK_ADD_RULE, ruleset_fd, _RULE_NET_PORT, ctypes.byref(rule), 0)
        _syscall(_LANDLOCK_RESTRICT_SELF, ruleset_fd, 0)
    finally:
        os.close(ruleset_fd)
    return f"ABI {abi}: TCP to the brokers' ports only, no listening"


def _new_ruleset(attributes: _Ruleset) -> int:
    return _syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)


def _call(name: str, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(libc, name)(*(ctypes.c_ulong(a) for a in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
