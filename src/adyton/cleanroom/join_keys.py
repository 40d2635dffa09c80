"""The key that rows are joined by: HMAC-SHA-256 of the normalised user id, under a key made in the enclave.

Raw ids never enter the engine. The key is made for one contract and run and dies with the process, so that join keys of
two runs cannot be compared. 64 bits of the HMAC are kept: among n ids two collide with probability n^2 / 2^65, which is
3e-6 for ten million.
"""

from __future__ import annotations

import hmac

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adyton.kernel.chance import RandomSource
from adyton.kernel.ids import ContractHash

KEY_BYTES = 32


def contract_join_key(contract_hash: ContractHash, random: RandomSource) -> bytes:
    """A fresh 32-byte HMAC key tied to one contract."""
    return hmac.digest(random.token(KEY_BYTES), b"adyton join key v1\x00" + contract_hash.encode(), "sha256")


def join_keys(ids: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """int64[B] join keys; equal ids give equal keys, null stays null. Ids are compared as text, trimmed."""
    coded = ids.cast(pa.string()).combine_chunks().dictionary_encode()
    texts = pc.utf8_trim_whitespace(coded.dictionary).to_pylist()
    digests = b"".join(hmac.digest(key, text.encode(), "sha256")[:8] for text in texts)
    keys = pa.array(np.frombuffer(digests, dtype="<i8"))
    return pa.chunked_array([keys.take(coded.indices)])
