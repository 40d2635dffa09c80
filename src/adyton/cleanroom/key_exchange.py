"""How the enclave gets data keys: a fresh key pair, a nonce from each owner's broker, evidence, one grant per table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom.attestation import dev_sim, dev_tpm
from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.errors import LedgerMovedError
from adyton.cleanroom.attestation.tpm_wire import TpmWire
from adyton.cleanroom.broker import KeyGrant, KeyRequest, LedgerReport, unwrap_grant
from adyton.cleanroom.broker_client import BrokerClient
from adyton.cleanroom.contract import Contract, DatasetTerms
from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.cleanroom.ledger_claim import LedgerClaim
from adyton.cleanroom.ledger_store import NO_ENTRIES, LedgerStore
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.kernel.chance import RandomSource
from adyton.kernel.clock import Clock

MOST_ATTEMPTS = 8
_T = TypeVar("_T")


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
    ledger: LedgerStore,
) -> tuple[SecretBytes, KeyGrant]:
    """The data key of one table, to be wiped by the caller, and its owner's grant.

    brokers: address of each owner's broker.   ledger: which the broker is told the head of.
    Raises EnclaveUnavailableError if an owner has none, and what the broker raises when it refuses.
    """

    def ask(broker: BrokerClient) -> KeyGrant:
        public = keys.receiving_public
        nonce, claim, evidence = _attested(broker, public, contract, maker, clock, ledger)
        return broker.release(
            KeyRequest(terms.dataset_id, maker.platform, evidence, nonce, public, contract.hash, ledger=claim)
        )

    grant = _until_it_stands_still(_address(brokers, str(terms.owner), str(terms.dataset_id)), ask)
    dek = unwrap_grant(
        keys.receiving, grant, dataset_id=terms.dataset_id, contract_hash=contract.hash, nonce=grant.nonce
    )
    return SecretBytes(dek), grant


def tell_settled(
    owners: Iterable[str],
    contract: Contract,
    brokers: Mapping[str, str],
    keys: EnclaveKeys,
    maker: EvidenceMaker,
    clock: Clock,
    ledger: LedgerStore,
) -> None:
    """Tell each owner's broker where the ledger stands, so that none takes an older or another one from now on.

    Raises what a broker raises; then nothing may leave.
    """

    def tell(broker: BrokerClient) -> str:
        public = keys.signing_public
        nonce, claim, evidence = _attested(broker, public, contract, maker, clock, ledger)
        return broker.settled(LedgerReport(maker.platform, evidence, nonce, public, contract.hash, claim))

    for owner in owners:
        _until_it_stands_still(_address(brokers, owner, contract.contract_id), tell)


def _attested(
    broker: BrokerClient,
    public_key: bytes,
    contract: Contract,
    maker: EvidenceMaker,
    clock: Clock,
    ledger: LedgerStore,
) -> tuple[bytes, LedgerClaim, bytes]:
    """A nonce, what this ledger answers to the head that came with it, and evidence bound to both and to the key."""
    nonce, known = broker.challenge()
    known = known or NO_ENTRIES
    head, hash_at_known = ledger.hash_at(known.entries)
    claim = LedgerClaim(head, known, hash_at_known)
    binding = binding_hash(nonce, contract.hash, public_key, claim.statement())
    return nonce, claim, maker.evidence(binding, clock.now_ms())


def _until_it_stands_still(address: str, ask: Callable[[BrokerClient], _T]) -> _T:
    """Ask again while other enclaves on the same ledger settle between a nonce and its use."""
    with BrokerClient(address) as broker:
        for _ in range(MOST_ATTEMPTS - 1):
            with suppress(LedgerMovedError):
                return ask(broker)
        return ask(broker)


def _address(brokers: Mapping[str, str], owner: str, where: str) -> str:
    address = brokers.get(owner)
    if address is None:
        raise EnclaveUnavailableError(
            f"no broker of {owner} was named",
            where=where,
            hint=f"--broker {owner}=unix:/path or http://HOST:PORT",
        )
    return address
