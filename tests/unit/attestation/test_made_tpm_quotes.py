"""TPM quotes by a made attestation key: what a TPM's owner could make it say, and what must not be believed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adyton.cleanroom.attestation import dev_tpm
from adyton.cleanroom.attestation.checks import CheckName, Platform, Verdict
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.verify import verify

NONCE = bytes(range(1, 33))
KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
CODE = hashlib.sha256(b"code").digest()
EXTENDED = hashlib.sha256(bytes(32) + CODE).digest()
"""A register after `CODE` was extended into it, whichever register it is."""


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def quote(
    values: dict[int, bytes],
    *,
    nonce: bytes = NONCE,
    magic: bytes = b"\xffTCG",
    kind: int = 0x8018,
    banks: int = 1,
    bank: int = 0x000B,
    digest: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    """Evidence that quotes `values` (by PCR), signed by `KEY`."""
    bitmap = sum(1 << i for i in values).to_bytes(3, "little")
    made = hashlib.sha256(b"".join(values[i] for i in sorted(values))).digest()
    message = magic + kind.to_bytes(2, "big") + _sized(b"signer") + _sized(nonce) + bytes(16) + b"\x01" + bytes(8)
    message += banks.to_bytes(4, "big") + bank.to_bytes(2, "big") + b"\x03" + bitmap + _sized(digest or made) + tail
    r, s = decode_dss_signature(KEY.sign(message, ec.ECDSA(hashes.SHA256())))
    signature = bytes.fromhex("0018000b") + _sized(r.to_bytes(32, "big")) + _sized(s.to_bytes(32, "big"))
    return _evidence(message, signature, [values.get(i, bytes(32)).hex() for i in range(24)])


def _evidence(message: bytes, signature: bytes, pcrs: Sequence[str], public: bytes = PUBLIC) -> bytes:
    parts = {"message": base64.b64encode(message).decode(), "signature": base64.b64encode(signature).decode()}
    return json.dumps({"ak_public": base64.b64encode(public).decode(), "tpm_quote": {**parts, "pcrs": pcrs}}).encode()


def judge(evidence: bytes, platform: Platform = Platform.TPM, **changed: Any) -> Verdict:
    expected = Expected(at_ms=1_790_000_000_000, nonce=NONCE, trust_anchors=(PUBLIC,), allow_dev=True)
    return verify(platform, evidence, expected=replace(expected, **changed))


def allowed(values: dict[int, bytes]) -> frozenset[str]:
    return frozenset({hashlib.sha256(b"".join(values[i] for i in sorted(values))).hexdigest()})


BOOT = {i: hashlib.sha256(bytes([i])).digest() for i in range(8)}


def test_the_first_registers_without_a_gap_hold_by_their_digest() -> None:
    assert judge(quote(BOOT), allowed_measurements=allowed(BOOT)).holds


def test_the_same_values_in_other_registers_are_another_measurement() -> None:
    """Whoever runs the machine can replay the good events into registers that start at zero."""
    replayed = {i + 8: value for i, value in BOOT.items()}
    verdict = judge(quote(replayed), allowed_measurements=allowed(BOOT))

    assert verdict.failed == (CheckName.MEASUREMENT,)
    assert not verdict.check(CheckName.MEASUREMENT).asked
    stated = judge(quote(replayed), allowed_measurements=allowed(BOOT), pcrs=frozenset(BOOT))
    assert stated.check(CheckName.MEASUREMENT).asked
    assert not stated.holds_as_asked


def test_the_caller_may_state_other_registers() -> None:
    values = {4: BOOT[4], 14: EXTENDED}

    assert judge(quote(values), allowed_measurements=allowed(values), pcrs=frozenset({4, 14})).holds
    assert not judge(quote(BOOT), allowed_measurements=allowed(BOOT), pcrs=frozenset({4, 14})).holds_as_asked


@pytest.mark.parametrize("register", [16, 23, 13, 0])
def test_a_development_enclave_is_measured_into_one_register_and_no_other_counts(register: int) -> None:
    """PCR 16 and 23 can be reset at any time: any code may extend what another code was measured as."""
    wanted = frozenset({dev_tpm.measurement_of(CODE).hex()})
    assert judge(quote({dev_tpm.PCR: EXTENDED}), Platform.DEV_TPM, allowed_measurements=wanted).holds

    verdict = judge(quote({register: EXTENDED}), Platform.DEV_TPM, allowed_measurements=wanted)
    assert verdict.failed == (CheckName.MEASUREMENT,)
    assert not verdict.holds_as_asked


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"magic": b"\xffTCH"}, CheckName.FORMAT),
        ({"kind": 0x8017}, CheckName.FORMAT),
        ({"banks": 2}, CheckName.FORMAT),
        ({"banks": 0}, CheckName.FORMAT),
        ({"bank": 0x0004}, CheckName.FORMAT),
        ({"tail": b"\0"}, CheckName.FORMAT),
        ({"digest": b"\1" * 32}, CheckName.MEASUREMENT),
        ({"digest": bytes(32)}, CheckName.MEASUREMENT),
        ({"nonce": b""}, CheckName.FRESHNESS),
        ({"nonce": NONCE[:16]}, CheckName.BINDING),
        ({"nonce": NONCE + b"x"}, CheckName.BINDING),
    ],
)
def test_each_lie_is_refused_by_the_check_that_names_it(changed: dict[str, Any], check: CheckName) -> None:
    assert check in judge(quote(BOOT, **changed), allowed_measurements=allowed(BOOT)).failed


def test_no_register_at_all_is_no_quote() -> None:
    assert CheckName.FORMAT in judge(quote({})).failed


def test_a_key_that_is_too_short_or_says_another_scheme_signs_nothing() -> None:
    fields = json.loads(quote(BOOT))
    message = base64.b64decode(fields["tpm_quote"]["message"])
    short = rsa.generate_private_key(65537, 1024)
    public = short.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = bytes.fromhex("0014000b") + _sized(short.sign(message, padding.PKCS1v15(), hashes.SHA256()))
    evidence = _evidence(message, signature, fields["tpm_quote"]["pcrs"], public)
    assert judge(evidence, trust_anchors=(public,)).failed[0] is CheckName.SIGNATURE

    for scheme in ("00140004", "0018000b"):
        confused = bytes.fromhex(scheme) + signature[4:]
        evidence = _evidence(message, confused, fields["tpm_quote"]["pcrs"], public)
        assert not judge(evidence, trust_anchors=(public,)).holds_as_asked


def test_a_name_that_is_said_twice_is_refused() -> None:
    whole = quote(BOOT)
    other = base64.b64encode(b"another key").decode().encode()

    assert CheckName.FORMAT in judge(b'{"ak_public": "' + other + b'", ' + whole[1:]).failed
