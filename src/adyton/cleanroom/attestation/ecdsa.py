"""ECDSA signatures as two fixed-length numbers, which is how attestation formats carry them."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm


def verifies(key: ec.EllipticCurvePublicKey, r: int, s: int, message: bytes, algorithm: HashAlgorithm) -> bool:
    """Whether (r, s) is a signature of `message` by `key`."""
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm))
    except (InvalidSignature, ValueError):
        return False
    return True
