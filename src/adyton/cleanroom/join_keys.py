"""The key that rows are joined by: HMAC-SHA-256 of the normalised user id, under a key made in the enclave.

Raw ids never enter the engine. The key is made for one contract and run and dies with the process, so that join keys of
two runs cannot be compared. 64 bits of the HMAC are kept: among n ids two collide with probability n^2 / 2^65, which is
3e-6 for ten million.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.kernel.chance import RandomSource
from adyton.kernel.ids import ContractHash

KEY_BYTES = 32
CODED = pa.dictionary(pa.int32(), pa.string())
_BLOCK_BYTES = 64
_SLICE = 1 << 16


def contract_join_key(contract_hash: ContractHash, random: RandomSource) -> bytes:
    """A fresh 32-byte HMAC key tied to one contract."""
    return hmac.digest(random.token(KEY_BYTES), b"adyton join key v1\x00" + contract_hash.encode(), "sha256")


def join_keys(ids: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """int64[B] join keys; equal ids give equal keys, null stays null. Ids are compared as text, trimmed.

    ids: of any type; each distinct id is hashed once.
    """
    ids = ids.unify_dictionaries() if pa.types.is_dictionary(ids.type) else coded(ids)
    if ids.num_chunks == 0:
        return pa.chunked_array([], pa.int64())
    keys = pa.array(text_keys(ids.chunk(0).dictionary, key))
    return pa.chunked_array([keys.take(chunk.indices) for chunk in ids.chunks])


def coded(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as dictionary-coded text in one chunk, each distinct id once; no chunk where there is no row."""
    chunks = ids.cast(pa.string()).dictionary_encode().chunks
    if not chunks:
        return pa.chunked_array([], CODED)
    # All chunks of one encoding share their dictionary; asking Arrow to unify them would merge it once per chunk.
    indices = pa.concat_arrays([chunk.indices for chunk in chunks])
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, chunks[0].dictionary)], CODED)


@dataclass(frozen=True)
class UserKeys:
    """Join keys of a table's rows. codes: int32[rows], each a place in `of_code`.   of_code: int64[codes]."""

    codes: NDArray[np.int32]
    of_code: NDArray[np.int64]

    @classmethod
    def of_rows(cls, keys: NDArray[np.int64]) -> UserKeys:
        """From one key per row."""
        of_code, codes = np.unique(keys, return_inverse=True)
        return cls(codes.astype(np.int32), of_code)

    def __len__(self) -> int:
        return len(self.codes)

    def rows(self) -> NDArray[np.int64]:
        """int64[rows] keys."""
        found: NDArray[np.int64] = self.of_code[self.codes]
        return found

    def distinct(self) -> NDArray[np.int64]:
        """Every key that a row has, ascending."""
        return np.unique(self.of_code[np.bincount(self.codes, minlength=len(self.of_code)) > 0])

    def known_to(self, other: UserKeys) -> NDArray[np.bool_]:
        """bool[codes]: whether the other table may have rows of the code's user; false only where it has none."""
        return np.asarray(pc.is_in(pa.array(self.of_code), pa.array(other.of_code)))


def keys_of_tables(texts: Sequence[pa.ChunkedArray], key: bytes, pool: Executor) -> list[NDArray[np.int64]]:
    """int64[n] join keys of each table's texts; what stands in the first table is not hashed for the others again.

    pool: where texts are looked up, while this thread hashes.
    """
    first, *others = texts
    places = [pool.submit(pc.index_in, one, first) for one in others]
    of_first = text_keys(first, key)
    found = [of_first]
    for one, waiting in zip(others, places, strict=True):
        place = waiting.result()
        is_new = pc.is_null(place)
        # One more than there are, so that an empty first table has a place 0 too.
        keys = np.append(of_first, 0)[np.asarray(pc.fill_null(place, 0))]
        keys[np.asarray(is_new)] = text_keys(one.filter(is_new), key)
        found.append(keys)
    return found


def text_keys(texts: pa.Array | pa.ChunkedArray, key: bytes) -> NDArray[np.int64]:
    """int64[n] join keys of texts without nulls, best each once: every one is hashed."""
    binary = pc.utf8_trim_whitespace(texts).cast(pa.large_binary())
    # In slices, since Python's objects take several times the room of the texts.
    slices = (binary.slice(start, _SLICE).to_pylist() for start in range(0, len(binary), _SLICE))
    return np.frombuffer(b"".join(_digests(some, key) for some in slices), dtype="<i8").astype(np.int64)


def _digests(texts: list[bytes], key: bytes) -> bytes:
    """The first 8 bytes of each text's HMAC-SHA-256, one after the other.

    HMAC written out (RFC 2104): the states after the padded keys are kept and copied, which is twice as fast as
    `hmac.digest` for millions of short texts. A test compares the two.
    """
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner_start = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded)).copy
    outer_start = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded)).copy
    digests = []
    for text in texts:
        inner, outer = inner_start(), outer_start()
        inner.update(text)
        outer.update(inner.digest())
        digests.append(outer.digest()[:8])
    return b"".join(digests)
