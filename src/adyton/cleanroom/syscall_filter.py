"""What an enclave may no longer ask the kernel for: a seccomp filter, made and loaded by libseccomp.

    programs       execve, fork, vfork, clone of anything but a thread
    processes      ptrace, reading or writing other processes' memory, signals to them
    sockets        of any family but those that reach the brokers; listening and accepting
    file systems   mount, chroot, namespaces, open by handle
    kernel         modules, bpf, perf events, keyrings, io_uring, userfaultfd, swap, clocks

A refused call fails with EPERM, so that a library that only tries goes on. It is a list of what is refused, not of what
is allowed: numpy, DuckDB and torch each use their own calls, and a list of those would break with every release.
libseccomp is called by its C interface; nothing of the filter's machine code is written here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Sequence
from typing import Final

_LIBRARY: Final = "libseccomp.so.2"
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000
"""With an error number in the low 16 bits."""
_NOT_EQUAL, _EQUAL, _GREATER, _MASKED_EQUAL = 1, 4, 6, 7
_CLONE_THREAD: Final = 0x10000

REFUSED: Final = (
    *("execve", "execveat", "fork", "vfork"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "pidfd_open"),
    *("kill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
    *("listen", "accept", "accept4"),
    *("mount", "umount2", "pivot_root", "chroot", "fsopen", "fsmount", "fsconfig", "fspick", "move_mount", "open_tree"),
    *("mount_setattr", "unshare", "setns", "open_by_handle_at", "name_to_handle_at", "quotactl", "acct"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf", "perf_event_open"),
    *("keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"),
    *("swapon", "swapoff", "reboot", "iopl", "ioperm", "settimeofday", "clock_settime", "sethostname", "setdomainname"),
    *("memfd_create", "personality", "syslog", "vhangup"),
)


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class _Version(ctypes.Structure):
    """`struct scmp_version`."""

    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


def load_filter(*, has_tcp: bool) -> str:
    """Refuse the calls for this process and its threads, for good; gives what was done, in words.

    has_tcp: whether brokers are reached by TCP; otherwise no socket but UNIX ones can be made.
    Raises OSError if libseccomp is missing or the kernel refuses.
    """
    library = _library()
    context = library.seccomp_init(_ALLOW)
    if not context:
        raise OSError(errno.ENOMEM, "libseccomp made no filter")
    try:
        refused = sum(_refuse(library, context, name) for name in REFUSED)
        # glibc starts threads with clone where clone3 is not known.
        _refuse(library, context, "clone3", error=errno.ENOSYS)
        _refuse(library, context, "clone", _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, 0))
        for comparison in _other_families(has_tcp=has_tcp):
            _refuse(library, context, "socket", comparison)
        _checked(library.seccomp_load(context))
    finally:
        library.seccomp_release(context)
    version = library.seccomp_version().contents
    sockets = "UNIX and TCP sockets" if has_tcp else "UNIX sockets"
    number = f"{version.major}.{version.minor}.{version.micro}"
    return f"libseccomp {number} refuses {refused} system calls: no new program or process, {sockets} only"


def _other_families(*, has_tcp: bool) -> Sequence[_Comparison]:
    """What the first argument of `socket` may not be."""
    if not has_tcp:
        return (_Comparison(0, _NOT_EQUAL, socket.AF_UNIX, 0),)
    allowed = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
    return (
        *(_Comparison(0, _EQUAL, family, 0) for family in range(max(allowed)) if family not in allowed),
        _Comparison(0, _GREATER, max(allowed), 0),
    )


def _refuse(library: ctypes.CDLL, context: int, name: str, *comparisons: _Comparison, error: int = errno.EPERM) -> bool:
    """Whether the call is known on this machine; one that does not exist needs no rule."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        return False
    array = (_Comparison * len(comparisons))(*comparisons)
    _checked(library.seccomp_rule_add_array(context, _FAIL | error, number, len(comparisons), array))
    return True


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise OSError(errno.ENOENT, f"{_LIBRARY} is not installed") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    )
    library.seccomp_version.restype = ctypes.POINTER(_Version)
    return library
