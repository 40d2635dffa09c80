"""A file that is read as it was hashed, without being held in memory.

It is read once, for its hash and for one digest per block; whatever is read later is compared with those. An owner that
knows its data key could otherwise have its sealed file exchanged between the look at the contract's hash and the
reading, and tables of ten million rows would stay in memory as ciphertext for the whole job.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

BLOCK_BYTES = 1 << 20


class CheckedFile(io.RawIOBase):
    """A readable, seekable file. `size` in bytes; `sha256` in hex, of the whole.

    Reading raises OSError if the file is not any more what it was.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._at, self.size = 0, 0
        self._digests: list[bytes] = []
        whole = hashlib.sha256()
        while block := self._pread(len(self._digests)):
            whole.update(block)
            self._digests.append(hashlib.sha256(block).digest())
            self.size += len(block)
        self.sha256 = whole.hexdigest()

    def twin(self) -> CheckedFile:
        """The same file and digests with a place of its own, for a second reader."""
        other = CheckedFile.__new__(CheckedFile)
        other._descriptor, other._at = os.dup(self._descriptor), 0
        other.size, other.sha256, other._digests = self.size, self.sha256, self._digests
        return other

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from here on; fewer only at the end."""
        end = self.size if size < 0 else min(self._at + size, self.size)
        if end <= self._at:
            return b""
        first = self._at // BLOCK_BYTES
        blocks = [self._checked(index) for index in range(first, (end - 1) // BLOCK_BYTES + 1)]
        start = self._at - first * BLOCK_BYTES
        found = b"".join(blocks)[start : start + end - self._at]
        self._at = end
        return found

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _checked(self, index: int) -> bytes:
        block = self._pread(index)
        if hashlib.sha256(block).digest() != self._digests[index]:
            raise OSError("the file was changed while it was read")
        return block

    def _pread(self, index: int) -> bytes:
        found = bytearray()
        while len(found) < BLOCK_BYTES:
            piece = os.pread(self._descriptor, BLOCK_BYTES - len(found), index * BLOCK_BYTES + len(found))
            if not piece:
                break
            found += piece
        return bytes(found)
