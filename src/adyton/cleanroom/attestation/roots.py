"""The roots that chains must end in. Fingerprints are code; the certificates beside it must match them.

A root is known by the SHA-256 of its SubjectPublicKeyInfo, since vendors re-issue a root certificate with the same key;
the Nitro root is known by its certificate, since AWS publishes that fingerprint (cleanroom §2.2).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adyton.kernel.errors import InternalError

# Anybody can sign with the development root: its private key is right here, on purpose.
DEVELOPMENT_ROOT_SEED = hashlib.sha256(b"adyton DEVELOPMENT attestation root: protects nothing").digest()


@dataclass(frozen=True)
class Roots:
    """Hex SHA-256 values of trusted roots, per vendor, and certificates that help to build a chain to them.

    nitro_certificates: of DER certificates.   *_keys: of DER SubjectPublicKeyInfo.
    issuers: certificates that are never trusted by themselves.
    development_key: raw Ed25519 public key of the development root.
    """

    nitro_certificates: frozenset[str]
    amd_keys: frozenset[str]
    intel_keys: frozenset[str]
    development_key: bytes = b""
    issuers: tuple[x509.Certificate, ...] = field(default=(), repr=False)


_NITRO_ROOT = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
_ARK_MILAN_KEY = "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"
# Only the keys: the certificates of these generations must be given with the evidence.
_ARK_GENOA_KEY = "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"
_ARK_TURIN_KEY = "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"
_INTEL_SGX_ROOT_KEY = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"


def development_root() -> Ed25519PrivateKey:
    """The DEVELOPMENT root's private key, which everybody has. Its signatures prove nothing."""
    return Ed25519PrivateKey.from_private_bytes(DEVELOPMENT_ROOT_SEED)


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """Hex SHA-256 of the DER certificate."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def key_fingerprint(certificate: x509.Certificate) -> str:
    """Hex SHA-256 of the certificate's DER SubjectPublicKeyInfo."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


@cache
def pinned_certificates(name: str) -> tuple[x509.Certificate, ...]:
    """The certificates of `pinned/NAME.pem`."""
    data = (files("adyton.cleanroom.attestation") / "pinned" / f"{name}.pem").read_bytes()
    return tuple(x509.load_pem_x509_certificates(data))


def _load() -> Roots:
    nitro, amd, intel = (pinned_certificates(name) for name in ("nitro-root", "amd-milan", "intel-sgx-root"))
    if (
        certificate_fingerprint(nitro[0]) != _NITRO_ROOT
        or _ARK_MILAN_KEY not in {key_fingerprint(certificate) for certificate in amd}
        or key_fingerprint(intel[0]) != _INTEL_SGX_ROOT_KEY
    ):
        raise InternalError("a pinned root differs from its fingerprint", where="adyton.cleanroom.attestation.pinned")
    return Roots(
        nitro_certificates=frozenset({_NITRO_ROOT}),
        amd_keys=frozenset({_ARK_MILAN_KEY, _ARK_GENOA_KEY, _ARK_TURIN_KEY}),
        intel_keys=frozenset({_INTEL_SGX_ROOT_KEY}),
        development_key=development_root().public_key().public_bytes_raw(),
        issuers=(*nitro, *amd, *intel),
    )


PINNED_ROOTS = _load()
