"""Sealed boxes: for one recipient, whole or refused."""

from __future__ import annotations

import pytest

from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_box import CHUNK_BYTES, open_box, read_header, seal_box

RECIPIENT, OTHER = Party.create("advertiser"), Party.create("publisher")


class PartySigner:
    """A party in the role of the enclave."""

    def __init__(self, party: Party) -> None:
        self._party = party

    @property
    def signing_public(self) -> bytes:
        return self._party.identity.signing_public

    def sign(self, message: bytes) -> bytes:
        return self._party.sign(message)


SIGNER = PartySigner(OTHER)


def box(plaintext: bytes, name: str = "model") -> bytes:
    return seal_box(plaintext, name=name, recipient=RECIPIENT.identity, context={"job": "j1"}, signer=SIGNER)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_box_of_any_size_opens_for_its_recipient_only(size: int) -> None:
    plaintext = bytes(i % 251 for i in range(size))
    sealed = box(plaintext)

    assert open_box(sealed, RECIPIENT, sender_public=SIGNER.signing_public) == plaintext
    assert (read_header(sealed).name, read_header(sealed).context) == ("model", {"job": "j1"})
    with pytest.raises(SealBrokenError, match="for advertiser"):
        open_box(sealed, OTHER)
    with pytest.raises(SealBrokenError):
        open_box(sealed, Party.create("advertiser"))
    with pytest.raises(SealBrokenError, match="another key"):
        open_box(sealed, RECIPIENT, sender_public=bytes(32))


def test_every_flipped_byte_is_refused() -> None:
    sealed = box(b"x" * 100)
    for position in range(len(sealed)):
        with pytest.raises(SealBrokenError):
            open_box(sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :], RECIPIENT)


def test_every_cut_is_refused() -> None:
    sealed = box(b"x" * 10)
    for length in range(len(sealed)):
        with pytest.raises(SealBrokenError):
            open_box(sealed[:length], RECIPIENT)
    with pytest.raises(SealBrokenError):
        open_box(sealed + b"\x00", RECIPIENT)


def test_chunks_cannot_be_dropped_or_swapped() -> None:
    sealed = box(bytes(2 * CHUNK_BYTES) + b"end")
    step = CHUNK_BYTES + 16
    start = len(sealed) - (2 * step + 3 + 16)
    first, second = sealed[start : start + step], sealed[start + step : start + 2 * step]
    with pytest.raises(SealBrokenError, match="chunk 0"):
        open_box(sealed[:start] + second + first + sealed[start + 2 * step :], RECIPIENT)
