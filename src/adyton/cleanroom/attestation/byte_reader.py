"""Reading fixed binary layouts without ever running past the end."""

from __future__ import annotations

from typing import Literal

from adyton.cleanroom.attestation.errors import EvidenceFormatError


class ByteReader:
    """A cursor over bytes; every read that does not fit raises EvidenceFormatError."""

    def __init__(self, data: bytes, what: str, order: Literal["little", "big"]) -> None:
        self._data = data
        self._what = what
        self._order: Literal["little", "big"] = order
        self._at = 0

    def take(self, n_bytes: int) -> bytes:
        if n_bytes > len(self._data) - self._at:
            raise EvidenceFormatError(f"the {self._what} is cut short at byte {len(self._data)}")
        taken = self._data[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken

    def number(self, n_bytes: int) -> int:
        return int.from_bytes(self.take(n_bytes), self._order)

    def sized(self, n_length_bytes: int) -> bytes:
        """A length, then that many bytes."""
        return self.take(self.number(n_length_bytes))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Raises EvidenceFormatError if bytes are left over."""
        if self._at != len(self._data):
            raise EvidenceFormatError(f"the {self._what} has {len(self._data) - self._at} bytes too many")
