"""TPM 2.0 structures: TPMS_ATTEST of a quote, TPMT_SIGNATURE, and the digest over PCRs. Numbers are big-endian.

Source: TCG TPM 2.0 Library, part 2: §10.12 (TPMS_ATTEST), §11.3 (TPMT_SIGNATURE); part 1 §23 (PCR digest).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from adyton.cleanroom.attestation.byte_reader import ByteReader
from adyton.cleanroom.attestation.ecdsa import verifies
from adyton.cleanroom.attestation.errors import EvidenceFormatError

MAGIC = bytes.fromhex("ff544347")
TYPE_QUOTE = 0x8018
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
# SHA-1 is left out on purpose: nothing that is trusted today signs with it.
HASHES: dict[int, tuple[str, hashes.HashAlgorithm]] = {
    0x000B: ("sha256", hashes.SHA256()),
    0x000C: ("sha384", hashes.SHA384()),
    0x000D: ("sha512", hashes.SHA512()),
}
MIN_RSA_BITS = 2048
MAX_PCR = 24


@dataclass(frozen=True)
class Attest:
    """A quote's signed content. `selected`: the indices of one PCR bank, ascending; `bank`: its hash's name."""

    extra_data: bytes
    firmware_version: int
    reset_count: int
    bank: str
    selected: tuple[int, ...]
    pcr_digest: bytes


@dataclass(frozen=True)
class TpmSignature:
    """scheme: RSASSA, RSAPSS or ECDSA.   numbers: (signature,) for RSA, (r, s) for ECDSA."""

    scheme: int
    hash_id: int
    numbers: tuple[bytes, ...]


def parse_attest(data: bytes) -> Attest:
    """The TPMS_ATTEST in `data`. Raises EvidenceFormatError, also for anything that is not a quote."""
    reader = ByteReader(data, "quote", "big")
    if reader.take(4) != MAGIC:
        raise EvidenceFormatError("the quote was not made inside a TPM: wrong magic")
    if reader.number(2) != TYPE_QUOTE:
        raise EvidenceFormatError("the attestation is not a quote")
    reader.sized(2)  # qualified signer: a name that only the TPM's hierarchy can check
    extra_data = reader.sized(2)
    reader.take(8)  # clock
    reset_count, _, safe = reader.number(4), reader.number(4), reader.number(1)
    if safe not in (0, 1):
        raise EvidenceFormatError("the clock's safe flag is neither yes nor no")
    firmware_version = reader.number(8)
    if reader.number(4) != 1:
        raise EvidenceFormatError("the quote is not over exactly one PCR bank")
    bank_id, bitmap = reader.number(2), reader.sized(1)
    pcr_digest = reader.sized(2)
    reader.end()
    if bank_id not in HASHES:
        raise EvidenceFormatError("the PCR bank's hash is not accepted")
    selected = tuple(8 * byte + bit for byte, mask in enumerate(bitmap) for bit in range(8) if mask >> bit & 1)
    if not selected or selected[-1] >= MAX_PCR:
        raise EvidenceFormatError("the quote selects no PCR, or one that does not exist")
    return Attest(extra_data, firmware_version, reset_count, HASHES[bank_id][0], selected, pcr_digest)


def parse_signature(data: bytes) -> TpmSignature:
    """The TPMT_SIGNATURE in `data`. Raises EvidenceFormatError."""
    reader = ByteReader(data, "signature", "big")
    scheme, hash_id = reader.number(2), reader.number(2)
    if scheme not in (RSASSA, RSAPSS, ECDSA) or hash_id not in HASHES:
        raise EvidenceFormatError("the signature scheme is not accepted")
    numbers = tuple(reader.sized(2) for _ in range(2 if scheme == ECDSA else 1))
    reader.end()
    return TpmSignature(scheme, hash_id, numbers)


def signature_holds(key: object, signature: TpmSignature, message: bytes) -> bool:
    """Whether an attestation key (RSA of at least 2048 bits, or EC) signed `message`."""
    algorithm = HASHES[signature.hash_id][1]
    if isinstance(key, ec.EllipticCurvePublicKey) and signature.scheme == ECDSA:
        r, s = (int.from_bytes(number, "big") for number in signature.numbers)
        return verifies(key, r, s, message, algorithm)
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS or signature.scheme == ECDSA:
        return False
    pad = padding.PKCS1v15() if signature.scheme == RSASSA else padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
    try:
        key.verify(signature.numbers[0], message, pad, algorithm)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def pcr_digest(attest: Attest, pcrs: Sequence[bytes], hash_id: int) -> bytes | None:
    """The digest over the selected PCRs' values, by the signature's hash; None if a selected one is not there."""
    size = hashlib.new(attest.bank).digest_size
    if attest.selected[-1] >= len(pcrs) or any(len(pcrs[i]) != size for i in attest.selected):
        return None
    return hashlib.new(HASHES[hash_id][0], b"".join(pcrs[i] for i in attest.selected)).digest()
