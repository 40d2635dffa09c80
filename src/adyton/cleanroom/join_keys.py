"""The key that rows are joined by: HMAC-SHA-256 of the normalised user id, under a key made in the enclave.

Raw ids never enter the engine. The key is made for one contract and run and dies with the process, so that join keys of
two runs cannot be compared. 64 bits of the HMAC are kept: among n ids two collide with probability n^2 / 2^65, which is
3e-6 for ten million.
"""

from __future__ import annotations

import hashlib
import hmac

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


def coded(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as dictionary-coded text in one chunk, each distinct id once; no chunk where there is no row."""
    chunks = ids.cast(pa.string()).dictionary_encode().chunks
    if not chunks:
        return pa.chunked_array([], CODED)
    # All chunks of one encoding share their dictionary; asking Arrow to unify them would merge it once per chunk.
    indices = pa.concat_arrays([chunk.indices for chunk in chunks])
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, chunks[0].dictionary)], CODED)


def join_keys(ids: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """int64[B] join keys; equal ids give equal keys, null stays null. Ids are compared as text, trimmed.

    ids: of any type; each distinct id is hashed once.
    """
    ids = ids.unify_dictionaries() if pa.types.is_dictionary(ids.type) else coded(ids)
    if ids.num_chunks == 0:
        return pa.chunked_array([], pa.int64())
    keys = pa.array(_hashed(ids.chunk(0).dictionary, key))
    return pa.chunked_array([keys.take(chunk.indices) for chunk in ids.chunks])


class KeyedIds:
    """Join keys of a table that is read in slabs: an id of an earlier slab is not hashed again.

    ids: every distinct id so far, as it was written.
    """

    def __init__(self, key: bytes) -> None:
        self.ids = pa.array([], pa.large_string())
        self._key, self._keys = key, np.zeros(0, np.int64)

    def of(self, slab: pa.ChunkedArray) -> NDArray[np.int64]:
        """int64[rows] of what `coded` made."""
        if slab.num_chunks == 0:
            return np.zeros(0, np.int64)
        dictionary = slab.chunk(0).dictionary.cast(pa.large_string())
        place = pc.index_in(dictionary, self.ids)
        is_new = pc.is_null(place)
        new = dictionary.filter(is_new)
        where = np.array(pc.fill_null(place, 0))
        where[np.asarray(is_new)] = len(self._keys) + np.arange(len(new))
        self._keys = np.concatenate([self._keys, _hashed(new, self._key)])
        self.ids = pa.concat_arrays([self.ids, new])
        return np.asarray(pa.array(self._keys[where]).take(slab.chunk(0).indices))


def _hashed(texts: pa.Array, key: bytes) -> NDArray[np.int64]:
    """int64[n] keys of distinct texts."""
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
