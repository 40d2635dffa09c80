"""A file system in the enclave's own memory, for an engine that must write files: nobody else sees it.

It is a tmpfs, mounted in a mount namespace of this process over /dev/shm, and never swapped out: either the kernel is
told so (`noswap`), or the machine has no swap. On a platform that encrypts memory the files are encrypted with it. It
goes when the process goes. DuckDB writes no files and does without.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/dev/shm")  # noqa: S108  the mount point: a fresh, private file system lies over it
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_NO_SUID, _NO_DEVICES, _RECURSIVE, _PRIVATE = 0x2, 0x4, 0x4000, 0x40000
_SET_INTERFACE_FLAGS, _UP_AND_RUNNING = 0x8914, 0x1 | 0x40


def mount_private_memory(size_mb: int) -> str:
    """Mount it; gives what was done, in words. Call while there is one thread, before files are locked.

    Raises OSError if the kernel refuses, or memory could be swapped out.
    """
    user, group = os.getuid(), os.getgid()
    try:
        _call("unshare", ctypes.c_int(_NEW_MOUNTS))
    except PermissionError:
        # Not root: a user namespace of its own gives the right to mount, once this user is known there.
        _call("unshare", ctypes.c_int(_NEW_USER | _NEW_MOUNTS))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount("none", Path("/"), None, _RECURSIVE | _PRIVATE, "")
    options = f"size={size_mb}m,mode=0700"
    try:
        _mount("adyton", FOLDER, "tmpfs", _NO_SUID | _NO_DEVICES, f"{options},noswap")
        how = "never swapped"
    except OSError:
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            raise OSError(errno.EPERM, "memory here may be swapped to a disk") from None
        _mount("adyton", FOLDER, "tmpfs", _NO_SUID | _NO_DEVICES, options)
        how = "on a machine without swap"
    return f"{size_mb} MB of memory as files, seen by this enclave alone, {how}"


def raise_loopback() -> str:
    """Bring up the loopback interface of this process's own network namespace; gives what was done, in words.

    Raises OSError if the kernel refuses.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))
    return "a loopback interface that only this enclave's processes reach"


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str) -> None:
    _call(
        "mount",
        ctypes.c_char_p(source.encode()),
        ctypes.c_char_p(bytes(target)),
        ctypes.c_char_p(kind.encode() if kind else None),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(options.encode()),
    )


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
