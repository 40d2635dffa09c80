"""How the enclave gets data keys: a fresh key pair, a nonce from each owner's broker, evidence, one grant per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom.attestation import dev_sim, dev_tpm
from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.tpm_wire import TpmWire
from adyton.cleanroom.broker import KeyGrant, KeyRequest, unwrap_grant
from adyton.cleanroom.broker_client import BrokerClient
from adyton.cleanroom.contract import Contract, DatasetTerms
from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.kernel.chance import RandomSource
from adyton.kernel.clock import Clock


class EvidenceMaker(Protocol):
    """What the platform offers: evidence that carries 32 bytes of binding."""

    @property
    def platform(self) -> Platform: ...

    @property
    def trust_anchors(self) -> tuple[bytes, ...]:
        """What the enclave's own look at its evidence may trust; a broker has its own list."""
        ...

    def evidence(self, binding: bytes, at_ms: int) -> bytes: ...


@dataclass(frozen=True)
class DevelopmentEvidence:
    """DEVELOPMENT evidence, signed by a root whose key everybody has. It proves the protocol and protects nothing."""

    measurement: bytes
    platform: Platform = Platform.DEV_SIM
    trust_anchors: tuple[bytes, ...] = ()

    def evidence(self, binding: bytes, at_ms: int) -> bytes:
        return dev_sim.make_evidence(self.measurement, binding, at_ms)


@dataclass(frozen=True)
class SoftwareTpmEvidence:
    """DEVELOPMENT evidence: quotes of a software TPM that the code was measured into before this process began."""

    tpm: TpmWire
    platform: Platform = Platform.DEV_TPM

    @property
    def trust_anchors(self) -> tuple[bytes, ...]:
        return (self.tpm.attestation_key(),)

    def evidence(self, binding: bytes, at_ms: int) -> bytes:  # noqa: ARG002  a TPM signs no time of ours
        return dev_tpm.make_evidence(self.tpm, binding)


class EnclaveKeys:
    """Keys that live as long as the process: one to receive data keys, one to sign receipt and boxes."""

    def __init__(self, random: RandomSource) -> None:
        with SecretBytes(random.token(32)) as receiving, SecretBytes(random.token(32)) as signing:
            self.receiving = X25519PrivateKey.from_private_bytes(receiving.data)
            self._signing = Ed25519PrivateKey.from_private_bytes(signing.data)

    @property
    def receiving_public(self) -> bytes:
        return self.receiving.public_key().public_bytes_raw()

    @property
    def signing_public(self) -> bytes:
        return self._signing.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._signing.sign(message)

    def forget_receiving(self) -> None:
        """Free the receiving key, which OpenSSL zeroes: no grant can be opened from here on."""
        del self.receiving


def fetch_key(
    terms: DatasetTerms,
    contract: Contract,
    brokers: Mapping[str, str],
    keys: EnclaveKeys,
    maker: EvidenceMaker,
    clock: Clock,
) -> tuple[SecretBytes, KeyGrant]:
    """The data key of one table, to be wiped by the caller, and its owner's grant.

    brokers: address of each owner's broker.   Raises EnclaveUnavailableError if an owner has none, and what the broker
    raises when it refuses.
    """
    address = brokers.get(str(terms.owner))
    if address is None:
        raise EnclaveUnavailableError(
            f"no broker of {terms.owner} was named",
            where=str(terms.dataset_id),
            hint=f"--broker {terms.owner}=unix:/path or http://HOST:PORT",
        )
    with BrokerClient(address) as broker:
        nonce = broker.nonce()
        binding = binding_hash(nonce, contract.hash, keys.receiving_public)
        grant = broker.release(
            KeyRequest(
                dataset_id=terms.dataset_id,
                platform=maker.platform,
                evidence=maker.evidence(binding, clock.now_ms()),
                nonce=nonce,
                public_key=keys.receiving_public,
                contract_hash=contract.hash,
            )
        )
    dek = unwrap_grant(keys.receiving, grant, dataset_id=terms.dataset_id, contract_hash=contract.hash, nonce=nonce)
    return SecretBytes(dek), grant
