"""The two ends of proving to a key service what code asks. Whoever composes the parts brings the implementations.

service process                              key service
   │  POST /v1/challenge                         │
   │ <───────────── nonce, policy ────────────── │   AttestationGate.challenge
   │  GET ...:recent, evidence in a header       │
   │ ──────────────────────────────────────────> │   AttestationGate.admit: nonce used up, every check passed
   │ <──── keys, sealed to the attested key ──── │
AttestedCaller.prove                             AttestedCaller.open
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Protocol

from adyton.auction.keys.errors import KeyServiceAnswerError, KeyServiceRequestError, NotAttestedError
from adyton.auction.keys.json_members import from_base64, text, to_base64

SCHEME = "Adyton-Evidence"
MAX_PROOF_CHARACTERS = 128 * 1024


@dataclass(frozen=True)
class Challenge:
    """`nonce`: good for one request.   policy: name (a hash) of the rules that evidence must be bound to."""

    nonce: bytes
    policy: str


@dataclass(frozen=True)
class Proof:
    """Evidence of `platform` that carries nonce, policy and a raw X25519 public key.

    certificates: PEM or DER files that belong to the evidence.
    """

    platform: str
    evidence: bytes
    nonce: bytes
    public_key: bytes
    certificates: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Admission:
    """`key`: 32 fresh bytes that what is released is encrypted with.   grant: the same key, for the caller alone."""

    key: bytes = field(repr=False)
    grant: bytes


class AttestationGate(Protocol):
    """Decides, on the key service's side, who gets private keys."""

    def challenge(self) -> Challenge:
        """A fresh nonce. Raises UnavailableError."""
        ...

    def admit(self, proof: Proof) -> Admission:
        """A key for this caller and this answer.

        Raises RefusedError naming the rule that says no, BadInputError for a proof that cannot be read.
        """
        ...


class AttestedCaller(Protocol):
    """Proves what code runs here, and opens what was released to it."""

    def prove(self, challenge: Challenge) -> Proof:
        """Evidence for this challenge with this process's key."""
        ...

    def open(self, challenge: Challenge, grant: bytes) -> bytes:
        """The 32 bytes of a grant. Raises PeerError or RefusedError if it was made for something else."""
        ...


def proof_to_header(proof: Proof) -> str:
    """The value of the `Authorization` header."""
    document = {
        "platform": proof.platform,
        "evidence": to_base64(proof.evidence),
        "nonce": to_base64(proof.nonce),
        "public_key": to_base64(proof.public_key),
        "certificates": [to_base64(certificate) for certificate in proof.certificates],
    }
    return f"{SCHEME} {to_base64(json.dumps(document).encode())}"


def proof_from_header(header: str | None) -> Proof:
    """The proof of an `Authorization` header.

    Raises NotAttestedError if there is none, KeyServiceRequestError if it cannot be read.
    """
    scheme, _, sent = (header or "").partition(" ")
    if scheme != SCHEME:
        raise NotAttestedError("private keys are for attested services only", hint="send evidence")
    if len(sent) > MAX_PROOF_CHARACTERS:
        raise KeyServiceRequestError("the proof is too long")
    try:
        document = json.loads(from_base64(sent))
        return Proof(
            platform=text(document["platform"]),
            evidence=from_base64(document["evidence"]),
            nonce=from_base64(document["nonce"]),
            public_key=from_base64(document["public_key"]),
            certificates=tuple(from_base64(certificate) for certificate in document["certificates"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KeyServiceRequestError("the proof cannot be read", where="authorization") from error


def challenge_to_json(challenge: Challenge) -> dict[str, str]:
    return {"nonce": to_base64(challenge.nonce), "policy": challenge.policy}


def challenge_from_bytes(body: bytes) -> Challenge:
    """Raises KeyServiceAnswerError."""
    try:
        document = json.loads(body)
        return Challenge(from_base64(document["nonce"]), text(document["policy"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyServiceAnswerError("the challenge cannot be read") from error
