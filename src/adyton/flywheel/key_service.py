"""The auction's key service behind the clean room's key broker: the same evidence, nonces and audit log for both.

A private key leaves a coordinator only encrypted with a fresh key, and that key is released by a clean-room `KeyBroker`
as if it were the data key of a table named `auction-keys`: the broker uses up the nonce, makes every named check, and
writes grant or refusal to its hash-chained log. In place of a contract stands a release policy: which code may have
keys, and whether development evidence is enough.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import adyton
from adyton.auction.keys.attestation import Admission, Challenge, Proof
from adyton.auction.keys.errors import KeyServiceAnswerError, KeyServiceRequestError
from adyton.cleanroom.attestation import dev_tpm
from adyton.cleanroom.attestation.binding import binding_hash
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.errors import BrokerProtocolError
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.broker import KeyBroker, KeyRequest, ReleaseTerms, unwrap_grant
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.broker_wire import grant_from_bytes
from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.key_exchange import DevelopmentEvidence, EnclaveKeys, EvidenceMaker, SoftwareTpmEvidence
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.tpm_folder import started_tpm
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.ids import ContractHash, DatasetId, PartyName

AUCTION_KEYS = DatasetId("auction-keys")
MEASURED_PACKAGES = ("kernel", "protocol", "sandbox", "auction")
MEASURED_SUFFIXES = frozenset((".py", ".js"))
MEASURED_LIBRARIES = ("cryptography", "deno", "grpcio", "numpy", "onnxruntime", "orjson", "protobuf")
_KEY_BYTES = 32


@dataclass(frozen=True)
class ReleasePolicy:
    """Who gets the auction's private keys.

    measurements: lower-case hex of the code that may have them.   allow_dev: development evidence is enough, which
    protects nothing.   expires_at_ms: nothing is released afterwards.
    """

    measurements: frozenset[str]
    allow_dev: bool = False
    expires_at_ms: int = 7_258_118_400_000

    @property
    def hash(self) -> ContractHash:
        """What evidence is bound to, so that it counts for this policy only."""
        document: dict[str, Json] = {
            "format": "adyton auction key policy v1",
            "measurements": sorted(self.measurements),
            "allow_dev": self.allow_dev,
            "expires_at_ms": self.expires_at_ms,
        }
        return ContractHash(hashlib.sha256(canonical_bytes(document)).hexdigest())

    def terms(self) -> ReleaseTerms:
        return ReleaseTerms(
            contract_hash=self.hash,
            measurements=self.measurements,
            allow_dev=self.allow_dev,
            expires_at_ms=self.expires_at_ms,
            dataset_ids=frozenset({AUCTION_KEYS}),
        )


class BrokerGate:
    """An `AttestationGate` that asks a clean-room broker.

    store: nonces and the log of grants and refusals.   reference: revocation lists, collateral and trust anchors, as
    for any broker.
    """

    def __init__(
        self,
        name: PartyName,
        policy: ReleasePolicy,
        store: BrokerStore,
        *,
        clock: Clock | None = None,
        random: RandomSource | None = None,
        reference: Expected | None = None,
    ) -> None:
        self._policy = policy
        self._random: RandomSource = random or OsRandom()
        self._turn = threading.Lock()
        self._fresh_key = b""
        self.broker = KeyBroker(
            name,
            store,
            self._terms,
            lambda _: SecretBytes.copy_of(self._fresh_key),
            clock=clock,
            random=random,
            reference=reference,
        )

    def challenge(self) -> Challenge:
        """As AttestationGate."""
        return Challenge(self.broker.issue_nonce(), str(self._policy.hash))

    def admit(self, proof: Proof) -> Admission:
        """As AttestationGate. Raises the broker's errors."""
        try:
            platform = Platform(proof.platform)
        except ValueError as error:
            raise KeyServiceRequestError("the platform is unknown", where="platform") from error
        request = KeyRequest(
            dataset_id=AUCTION_KEYS,
            platform=platform,
            evidence=proof.evidence,
            nonce=proof.nonce,
            public_key=proof.public_key,
            contract_hash=self._policy.hash,
            certificates=proof.certificates,
        )
        with self._turn:  # the broker asks for "the" data key: one request at a time has one
            self._fresh_key = key = self._random.token(_KEY_BYTES)
            try:
                grant = self.broker.release(request)
            finally:
                self._fresh_key = b""
        return Admission(key, canonical_bytes(grant.as_json()))

    def _terms(self, contract_hash: ContractHash) -> ReleaseTerms | None:
        return self._policy.terms() if contract_hash == self._policy.hash else None


class EvidenceCaller:
    """An `AttestedCaller` with a key pair that lives as long as this object, and a platform's evidence."""

    def __init__(self, maker: EvidenceMaker, *, clock: Clock | None = None, random: RandomSource | None = None) -> None:
        self._maker = maker
        self._clock: Clock = clock or SystemClock()
        self._keys = EnclaveKeys(random or OsRandom())

    def prove(self, challenge: Challenge) -> Proof:
        """As AttestedCaller."""
        binding = binding_hash(challenge.nonce, challenge.policy, self._keys.receiving_public)
        evidence = self._maker.evidence(binding, self._clock.now_ms())
        return Proof(self._maker.platform.value, evidence, challenge.nonce, self._keys.receiving_public)

    def open(self, challenge: Challenge, grant: bytes) -> bytes:
        """As AttestedCaller."""
        try:
            return unwrap_grant(
                self._keys.receiving,
                grant_from_bytes(grant),
                dataset_id=AUCTION_KEYS,
                contract_hash=ContractHash(challenge.policy),
                nonce=challenge.nonce,
            )
        except (BrokerProtocolError, SealBrokenError) as error:
            raise KeyServiceAnswerError("the key service's grant does not open") from error


def development_caller(*, clock: Clock | None = None) -> EvidenceCaller:
    """A caller with DEVELOPMENT evidence of the code that is installed here. It protects nothing."""
    return EvidenceCaller(DevelopmentEvidence(auction_measurement()), clock=clock)


@contextmanager
def software_tpm_caller(folder: Path) -> Iterator[EvidenceCaller]:
    """A caller with DEVELOPMENT evidence: quotes of the software TPM in `folder`, which measures the code that is
    installed here before the first quote. Key services allow `software_tpm_measurement` and trust the folder's key.

    Raises TpmUnavailableError.
    """
    with started_tpm(folder, auction_measurement()) as tpm:
        yield EvidenceCaller(SoftwareTpmEvidence(tpm))


def software_tpm_measurement() -> bytes:
    """What a quote of `software_tpm_caller` carries as its measurement."""
    return dev_tpm.measurement_of(auction_measurement())


@cache
def auction_measurement() -> bytes:
    """32 bytes over the auction's code, and its libraries' versions: the same wherever both are the same.

    On trusted hardware the platform measures the image; a development process measures itself.
    """
    root = Path(adyton.__file__).parent
    paths = [root / "__init__.py"]
    for package in MEASURED_PACKAGES:
        paths += [path for path in (root / package).rglob("*") if path.suffix in MEASURED_SUFFIXES]
    document: dict[str, Json] = {
        "files": {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)
        },
        "libraries": {name: metadata.version(name) for name in MEASURED_LIBRARIES},
    }
    return hashlib.sha256(canonical_bytes(document)).digest()
