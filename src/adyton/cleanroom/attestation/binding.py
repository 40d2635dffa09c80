"""What ties evidence to one request: a hash over nonce, contract and the key that the answer is encrypted to.

    binding = SHA-256( len | "adyton-binding/1" | len | nonce | len | contract_hash | len | SHA-256(public_key) )

followed by `len | statement` where the code says more of itself (`cleanroom.ledger_claim`), with each length as four
bytes, big-endian, so that no two requests share a preimage (cleanroom §2.1, step 3).
Platforms with 64 bytes of report data carry the 32 bytes of the hash followed by 32 zero bytes.
"""

from __future__ import annotations

import hashlib

DOMAIN = b"adyton-binding/1"
BINDING_BYTES = 32
REPORT_DATA_BYTES = 64
NONCE_BYTES = 32


def binding_hash(nonce: bytes, contract_hash: str, public_key: bytes, statement: bytes = b"") -> bytes:
    """The 32 bytes that evidence must carry. `public_key`: the raw X25519 key that the data key is wrapped to."""
    digest = hashlib.sha256()
    more = (statement,) if statement else ()
    for part in (DOMAIN, nonce, contract_hash.encode(), hashlib.sha256(public_key).digest(), *more):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


def report_data(binding: bytes) -> bytes:
    """`binding` as 64 bytes of report data: zero bytes follow."""
    assert len(binding) <= REPORT_DATA_BYTES, "report data has 64 bytes"
    return binding.ljust(REPORT_DATA_BYTES, b"\0")
