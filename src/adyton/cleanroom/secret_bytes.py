"""Keys that are wiped: bytes in one place, kept from the swap where that is allowed, and zeroed after use.

Libraries take keys as immutable `bytes` only, so it is that object which is locked and zeroed, through its address in
CPython; on another interpreter `wipe` does nothing and says so. What this can promise, and what it cannot:

    zeroed      the object that was handed over
    not zeroed  copies that a library makes and frees as they are. `cryptography` and OpenSSL zero theirs, pyarrow's
                decryption properties do when they are freed; slices and joins made in Python are copies too
    not at all  decrypted rows: they live in Arrow's memory until the process ends

A test reads the memory of a running enclave and looks for the keys.
"""

from __future__ import annotations

import ctypes
import sys
from types import TracebackType
from typing import Self

# An empty bytes object is its header and one closing zero byte.
_HEADER_BYTES = sys.getsizeof(b"") - 1
# The interpreter shares one object among all equal bytes of length 0 and 1.
_LEAST_BYTES = 16


class SecretBytes:
    """Secret bytes with one owner. Use as a context manager, or call `wipe`. Never printed, never pickled."""

    def __init__(self, data: bytes) -> None:
        """Takes `data` over: the object that was given is the one that is locked, and zeroed by `wipe`."""
        self._data = data
        self.is_locked = _lock(data)

    @classmethod
    def copy_of(cls, data: bytes) -> Self:
        """A copy with a life of its own: the object that was given stays as it is."""
        return cls(bytes(bytearray(data)))

    @property
    def data(self) -> bytes:
        """The object itself: zeros after `wipe`."""
        return self._data

    def wipe(self) -> None:
        """Zero the bytes; a second time does nothing."""
        wipe_bytes(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"SecretBytes({len(self._data)} bytes)"

    def __reduce__(self) -> str:
        raise TypeError("secret bytes are not pickled")


def wipe_bytes(data: bytes) -> bool:
    """Zero an object that nobody will read again, such as a key that a library returned. Whether it was zeroed."""
    address = _address(data)
    if address is None:
        return False
    ctypes.memset(address, 0, len(data))
    return True


def _address(data: bytes) -> int | None:
    if sys.implementation.name != "cpython" or type(data) is not bytes or len(data) < _LEAST_BYTES:
        return None
    return id(data) + _HEADER_BYTES


def _lock(data: bytes) -> bool:
    """Keep the page from being swapped out; an unprivileged process may lock little memory, or none."""
    address = _address(data)
    if address is None or sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(data)))) == 0
