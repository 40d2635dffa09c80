"""`dev-tpm`: a real TPM 2.0 quote, from swtpm. DEVELOPMENT ONLY: a TPM in user space protects nothing from root.

    owner                                       enclave's machine
      │ <──── endorsement key, attestation key ──│  createek, createak
      │ ──── a secret only both keys can open ──>│  activatecredential: the key lives in that TPM
      │ <──────────────── the secret ────────────│  enrolled: the owner trusts this attestation key
      │                                          │  code measurement is extended into PCR 14, once per start
      │ <──── quote over PCR 14 and a binding ───│

PCR 14 cannot be reset without restarting the TPM, so what was extended cannot be taken back. Keys are made once, with
tpm2-tools, and kept in the TPM; quotes need no tool, so that an enclave which may start no program can make them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from adyton.cleanroom.attestation.errors import EvidenceRefusedError, ExpectationError
from adyton.cleanroom.attestation.tpm import DEV_PCR
from adyton.cleanroom.attestation.tpm_tools import TpmConnection
from adyton.cleanroom.attestation.tpm_wire import ATTESTATION_KEY_HANDLE, TpmWire
from adyton.kernel.chance import OsRandom, RandomSource

PCR = DEV_PCR
MEASUREMENT_BYTES = 32


def create_keys(tpm: TpmConnection) -> bytes:
    """Make endorsement and attestation key (P-256) and keep the latter in the TPM; gives it as DER.

    Raises TpmUnavailableError if the TPM has one already.
    """
    tpm.call("tpm2_createek", "-c", "ek.ctx", "-G", "ecc", "-u", "ek.pub")
    tpm.flush()
    names = ("-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name")
    tpm.call("tpm2_createak", "-C", "ek.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", *names)
    tpm.flush()
    tpm.call("tpm2_evictcontrol", "-C", "o", "-c", "ak.ctx", f"{ATTESTATION_KEY_HANDLE:#x}")
    tpm.flush()
    return tpm.wire.attestation_key()


def enrol(tpm: TpmConnection, random: RandomSource | None = None) -> bytes:
    """The attestation key, after its TPM has proved that it holds it beside its endorsement key.

    The owner's half makes a secret that only this pair of keys opens. Gives DER SubjectPublicKeyInfo, for
    `Expected.trust_anchors`. Raises EvidenceRefusedError if the TPM answers with something else.
    """
    secret = (random or OsRandom()).token(32)
    (tpm.folder / "secret").write_bytes(secret)
    name = tpm.read("ak.name").hex()
    tpm.call("tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", name, "-o", "credential")
    (tpm.folder / "secret").unlink()
    tpm.call("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
    try:
        tpm.call("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
        paths = ("-i", "credential", "-o", "answer", "-P", "session:session.ctx")
        tpm.call("tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", *paths)
    finally:
        tpm.call("tpm2_flushcontext", "session.ctx")
        tpm.flush()
    if not hmac.compare_digest(tpm.read("answer"), secret):
        raise EvidenceRefusedError("the TPM does not hold its attestation key", failed=("chain",))
    return tpm.wire.attestation_key()


def extend(tpm: TpmWire, code: bytes) -> None:
    """Extend a code measurement (32 bytes) into PCR 14. Once per start: a second time makes another measurement."""
    if len(code) != MEASUREMENT_BYTES:
        raise ExpectationError("a dev-tpm measurement has 32 bytes")
    tpm.extend_pcr(PCR, code)


def measurement_of(code: bytes) -> bytes:
    """The PCR digest that a quote carries after `extend(code)` on a fresh TPM: what a contract allows."""
    pcr = hashlib.sha256(bytes(32) + code).digest()
    return hashlib.sha256(pcr).digest()


def make_evidence(tpm: TpmWire, binding: bytes) -> bytes:
    """A quote over PCR 14 that carries `binding` (at most 64 bytes), as JSON for `Platform.DEV_TPM`."""
    message, signature = tpm.quote(PCR, binding)
    pcrs = ["00" * 32] * PCR + [tpm.read_pcr(PCR).hex()]
    quote = {
        "message": base64.b64encode(message).decode(),
        "signature": base64.b64encode(signature).decode(),
        "pcrs": pcrs,
    }
    return json.dumps({"ak_public": base64.b64encode(tpm.attestation_key()).decode(), "tpm_quote": quote}).encode()
