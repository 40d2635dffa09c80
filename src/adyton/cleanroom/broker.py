"""The key broker of one owner: gives a table's data key to code that the owner has checked, and to nobody else.

    enclave                                   broker
       │  nonce?                                │
       │ <──────────────── 32 bytes, minutes ── │  remembered for ever
       │  evidence over (nonce, contract, key)  │
       │ ─────────────────────────────────────> │  nonce used up, contract active, dataset owned,
       │                                        │  every named check passed
       │ <────── data key, HPKE to that key ─── │  grant or refusal goes to a hash-chained log

A nonce is used up by the first request that shows it, also by one that is refused. A request also says where the
enclave's privacy ledger stands; one that does not go on from what the broker was told before gets no key, and an
enclave that has settled tells the brokers before anything leaves it (`ledger_claim`). Every owner of a joined table has
a broker of its own; a job runs only if all of them release. Source: cleanroom §2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom.attestation.binding import NONCE_BYTES, binding_hash
from adyton.cleanroom.attestation.checks import Platform, Verdict
from adyton.cleanroom.attestation.errors import (
    ContractExpiredError,
    ContractNotActiveError,
    DatasetNotOwnedError,
    EvidenceRefusedError,
    KeyRequestError,
    LedgerMovedError,
    ReplayedNonceError,
    StaleNonceError,
    UnknownNonceError,
)
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.verify import require, verify
from adyton.cleanroom.broker_store import BrokerStore, NonceUse
from adyton.cleanroom.key_wrap import unwrap_key, wrap_info, wrap_key
from adyton.cleanroom.ledger_claim import LedgerClaim, check_claim
from adyton.cleanroom.ledger_store import CounterValue
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.kernel.audit import AuditEntry
from adyton.kernel.canonical import Json
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.errors import RefusedError
from adyton.kernel.ids import ContractHash, DatasetId, PartyName

GRANT_DOMAIN = "adyton key grant v1"
NONCE_LIFE_MS = 5 * 60_000
MOST_OPEN_NONCES = 10_000
PUBLIC_KEY_BYTES = 32


class ContractTerms(Protocol):
    """What a broker needs to know of a contract that is signed by all and active."""

    @property
    def contract_hash(self) -> ContractHash: ...
    @property
    def measurements(self) -> frozenset[str]:
        """Lower-case hex code measurements that every owner allows."""
        ...

    @property
    def allow_dev(self) -> bool:
        """Whether every owner allows development platforms."""
        ...

    @property
    def expires_at_ms(self) -> int: ...
    @property
    def dataset_ids(self) -> frozenset[DatasetId]:
        """The datasets of the contract that this broker's owner owns."""
        ...

    @property
    def key_names(self) -> Mapping[DatasetId, str]:
        """By dataset, the name under which its owner keeps the key; the dataset's id where it is not named.

        The name says which version and ciphertext the contract means, so that two versions of one dataset differ.
        """
        ...


@dataclass(frozen=True)
class ReleaseTerms:
    """Contract terms as a plain value."""

    contract_hash: ContractHash
    measurements: frozenset[str]
    allow_dev: bool
    expires_at_ms: int
    dataset_ids: frozenset[DatasetId]
    key_names: Mapping[DatasetId, str] = field(default_factory=dict)


ActiveContracts = Callable[[ContractHash], ContractTerms | None]
"""The terms of an active contract; None if it is unknown, unsigned, suspended or revoked at this moment."""
DataKeys = Callable[[DatasetId], SecretBytes | None]
"""The 32-byte data key that an owner keeps under a name (`ContractTerms.key_names`), which the broker wipes after use;
None if there is none."""


@dataclass(frozen=True)
class KeyRequest:
    """An enclave asks for one table's key. `public_key`: raw X25519. `certificates`: PEM or DER files."""

    dataset_id: DatasetId
    platform: Platform
    evidence: bytes
    nonce: bytes
    public_key: bytes
    contract_hash: ContractHash
    certificates: tuple[bytes, ...] = ()
    ledger: LedgerClaim | None = None

    def __post_init__(self) -> None:
        _check_lengths(self)


@dataclass(frozen=True)
class LedgerReport:
    """An enclave that has settled says where its ledger stands. `public_key`: raw Ed25519, which signs the receipt."""

    platform: Platform
    evidence: bytes
    nonce: bytes
    public_key: bytes
    contract_hash: ContractHash
    ledger: LedgerClaim
    certificates: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check_lengths(self)


def _check_lengths(request: KeyRequest | LedgerReport) -> None:
    if len(request.nonce) != NONCE_BYTES:
        raise KeyRequestError(f"a nonce has {NONCE_BYTES} bytes", where="nonce")
    if len(request.public_key) != PUBLIC_KEY_BYTES:
        raise KeyRequestError(f"a public key has {PUBLIC_KEY_BYTES} bytes", where="public_key")


@dataclass(frozen=True)
class KeyGrant:
    """A data key for one attested key. `log_hash`: the newest hash of the broker's log, the grant's own entry."""

    owner: PartyName
    dataset_id: DatasetId
    contract_hash: ContractHash
    nonce: bytes
    wrapped_key: bytes
    platform: Platform
    measurement: str
    log_hash: str

    def as_json(self) -> dict[str, Json]:
        return {
            "owner": str(self.owner),
            "dataset_id": str(self.dataset_id),
            "contract_hash": str(self.contract_hash),
            "nonce": self.nonce.hex(),
            "wrapped_key": self.wrapped_key.hex(),
            "platform": self.platform.value,
            "measurement": self.measurement,
            "log_hash": self.log_hash,
        }


class KeyBroker:
    """One owner's broker.

    reference: what the owner holds to check evidence with: revocation lists, Intel collateral, enrolled TPM keys, a
    token audience. Its nonce, binding, measurements, time and `allow_dev` are replaced at each request.
    """

    def __init__(
        self,
        owner: PartyName,
        store: BrokerStore,
        active_contracts: ActiveContracts,
        data_keys: DataKeys,
        *,
        clock: Clock | None = None,
        random: RandomSource | None = None,
        reference: Expected | None = None,
        nonce_life_ms: int = NONCE_LIFE_MS,
    ) -> None:
        self.owner = owner
        self._store = store
        self._active_contracts = active_contracts
        self._data_keys = data_keys
        self._clock = clock or SystemClock()
        self._random = random or OsRandom()
        self._reference = reference or Expected(at_ms=0)
        self._nonce_life_ms = nonce_life_ms

    def issue_nonce(self) -> bytes:
        """32 fresh bytes, good for one request within `nonce_life_ms`. Raises BrokerUnavailableError."""
        nonce = self._random.token(NONCE_BYTES)
        self._store.add_nonce(nonce, self._clock.now_ms(), life_ms=self._nonce_life_ms, most_open=MOST_OPEN_NONCES)
        return nonce

    def release(self, request: KeyRequest) -> KeyGrant:
        """The data key wrapped to the attested key, if every rule and every named check says yes.

        Raises ReplayedNonceError, StaleNonceError, UnknownNonceError, ContractNotActiveError, ContractExpiredError,
        DatasetNotOwnedError, EvidenceRefusedError (naming the checks), LedgerNotContinuedError, LedgerMovedError (ask
        again), KeyRequestError (a public key that cannot be used); each of them is in the log. Nothing is released if
        the log cannot be written.
        """
        at_ms = self._clock.now_ms()
        try:
            verdict, wrapped = self._decide(request, at_ms)
        except (RefusedError, KeyRequestError) as refusal:
            body = {"dataset_id": str(request.dataset_id), **_refusal_body(request, refusal)}
            self._store.append(at_ms=at_ms, kind="refused", body=body)
            raise
        assert verdict.measurement is not None, "a verdict that holds has a measurement"
        entry = self._store.append(at_ms=at_ms, kind="granted", body=_grant_body(request, verdict))
        return KeyGrant(
            owner=self.owner,
            dataset_id=request.dataset_id,
            contract_hash=request.contract_hash,
            nonce=request.nonce,
            wrapped_key=wrapped,
            platform=request.platform,
            measurement=verdict.measurement,
            log_hash=entry.entry_hash,
        )

    def settled(self, report: LedgerReport) -> str:
        """Remember where the ledger stands; gives the newest hash of the log.

        Raises as `release` does; then the enclave lets nothing out.
        """
        at_ms = self._clock.now_ms()
        try:
            self._use_nonce(report.nonce, at_ms)
            require(self._verified(report, self._terms(report.contract_hash, at_ms), at_ms))
            self._take_ledger(report.ledger)
        except (RefusedError, KeyRequestError) as refusal:
            self._store.append(at_ms=at_ms, kind="refused", body=_refusal_body(report, refusal))
            raise
        return self._store.append(at_ms=at_ms, kind="settled", body=_request_body(report)).entry_hash

    def ledger_head(self) -> CounterValue | None:
        """What an enclave has to go on from; None where this broker was told of no ledger yet."""
        return self._store.ledger_head()

    def log(self) -> tuple[AuditEntry, ...]:
        """Every grant and refusal, oldest first."""
        return self._store.log()

    def _decide(self, request: KeyRequest, at_ms: int) -> tuple[Verdict, bytes]:
        self._use_nonce(request.nonce, at_ms)
        terms = self._terms(request.contract_hash, at_ms)
        data_key = None
        if request.dataset_id in terms.dataset_ids:
            data_key = self._data_keys(DatasetId(terms.key_names.get(request.dataset_id, request.dataset_id)))
        if data_key is None:
            raise DatasetNotOwnedError(
                "this owner has no such dataset in the contract", where=f"broker of {self.owner}"
            )
        with data_key:
            verdict = require(self._verified(request, terms, at_ms))
            wrapped = self._wrapped(data_key, request)
        # Last, since it is remembered: only what measured code says of its ledger counts.
        self._take_ledger(request.ledger)
        return verdict, wrapped

    def _terms(self, contract_hash: ContractHash, at_ms: int) -> ContractTerms:
        terms = self._active_contracts(contract_hash)
        if terms is None or terms.contract_hash != contract_hash:
            raise ContractNotActiveError("no active contract with this hash", where=f"broker of {self.owner}")
        if at_ms >= terms.expires_at_ms:
            raise ContractExpiredError("the contract has expired", where=f"broker of {self.owner}")
        return terms

    def _verified(self, request: KeyRequest | LedgerReport, terms: ContractTerms, at_ms: int) -> Verdict:
        statement = request.ledger.statement() if request.ledger is not None else b""
        expected = replace(
            self._reference,
            at_ms=at_ms,
            nonce=request.nonce,
            binding=binding_hash(request.nonce, request.contract_hash, request.public_key, statement),
            allowed_measurements=terms.measurements,
            allow_dev=terms.allow_dev,
            certificates=(*self._reference.certificates, *request.certificates),
        )
        return verify(request.platform, request.evidence, expected=expected)

    def _take_ledger(self, claim: LedgerClaim | None) -> None:
        where = f"broker of {self.owner}"
        check_claim(claim, self._store.ledger_head(), where)
        if claim is not None and not self._store.move_ledger_head(claim.known, claim.head):
            raise LedgerMovedError("another enclave settled meanwhile", where=where, hint="ask for a new nonce")

    def _wrapped(self, data_key: SecretBytes, request: KeyRequest) -> bytes:
        try:
            return wrap_key(data_key.data, request.public_key, _grant_info(request))
        except ValueError as error:
            raise KeyRequestError("the attested X25519 key cannot be used", where="public_key") from error

    def _use_nonce(self, nonce: bytes, at_ms: int) -> None:
        use = self._store.use_nonce(nonce, at_ms, life_ms=self._nonce_life_ms)
        where = f"broker of {self.owner}"
        match use:
            case NonceUse.UNKNOWN:
                raise UnknownNonceError("this broker never issued that nonce", where=where, hint="ask it for a nonce")
            case NonceUse.REPLAYED:
                raise ReplayedNonceError("the nonce was used before", where=where, hint="ask for a new nonce")
            case NonceUse.STALE:
                raise StaleNonceError("the nonce is past its life", where=where, hint="ask for a new nonce")
            case NonceUse.FIRST:
                pass


def unwrap_grant(
    private_key: X25519PrivateKey, grant: KeyGrant, *, dataset_id: DatasetId, contract_hash: ContractHash, nonce: bytes
) -> bytes:
    """The 32-byte data key, for the holder of the attested private key.

    The caller says which dataset, contract and nonce it asked for; a grant for anything else does not open.
    Raises cleanroom SealBrokenError.
    """
    return unwrap_key(grant.wrapped_key, private_key, _info(dataset_id, contract_hash, nonce))


def _grant_info(request: KeyRequest) -> bytes:
    return _info(request.dataset_id, request.contract_hash, request.nonce)


def _info(dataset_id: DatasetId, contract_hash: ContractHash, nonce: bytes) -> bytes:
    context: Mapping[str, Json] = {
        "contract_hash": str(contract_hash),
        "nonce": nonce.hex(),
        "dataset_id": str(dataset_id),
    }
    return wrap_info(GRANT_DOMAIN, context)


def _request_body(request: KeyRequest | LedgerReport) -> dict[str, Json]:
    return {
        "contract_hash": str(request.contract_hash),
        "platform": request.platform.value,
        "public_key": request.public_key.hex(),
        "nonce": request.nonce.hex(),
        "ledger": request.ledger.head.as_json() if request.ledger is not None else None,
    }


def _grant_body(request: KeyRequest, verdict: Verdict) -> dict[str, Json]:
    return {
        "dataset_id": str(request.dataset_id),
        **_request_body(request),
        "development": request.platform.is_development,
        "measurement": verdict.measurement,
        "checks": [check.as_json() for check in verdict.complete],
    }


def _refusal_body(request: KeyRequest | LedgerReport, refusal: RefusedError | KeyRequestError) -> dict[str, Json]:
    failed: list[Json] = list(refusal.failed) if isinstance(refusal, EvidenceRefusedError) else []
    return {**_request_body(request), "error": type(refusal).__name__, "what": refusal.what, "failed": failed}
