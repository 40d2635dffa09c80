"""The broker's HTTP bodies, parsed once at each edge. Bytes are lower-case hex in JSON.

    POST /nonce    {}                                     -> {"nonce", "ledger": the head to go on from, or null}
    POST /release  a key request                          -> a key grant
    POST /settled  a ledger report                        -> {"log_hash"}
    GET  /log                                             -> {"owner", "entries": [...], "newest_hash"}

Errors are `AdytonError.as_json()` with the names of failed checks beside it.
"""

from __future__ import annotations

from typing import Annotated, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.errors import (
    BrokerProtocolError,
    BrokerUnavailableError,
    ContractExpiredError,
    ContractNotActiveError,
    DatasetNotOwnedError,
    EvidenceRefusedError,
    KeyRequestError,
    LedgerMovedError,
    LedgerNotContinuedError,
    ReplayedNonceError,
    StaleNonceError,
    UnknownNonceError,
)
from adyton.cleanroom.broker import KeyGrant, KeyRequest, LedgerReport
from adyton.cleanroom.ledger_claim import LedgerClaim
from adyton.cleanroom.ledger_store import CounterValue
from adyton.kernel.audit import AuditEntry
from adyton.kernel.canonical import Json
from adyton.kernel.errors import AdytonError, BadInputError, RefusedError, UnavailableError
from adyton.kernel.ids import ContractHash, DatasetId, PartyName

MAX_BODY_BYTES = 1 << 20
_Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})*$")]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Head(_Body):
    entries: Annotated[int, Field(ge=0, lt=1 << 53)]
    newest_hash: _Sha256


class _Claim(_Body):
    head: _Head
    known: _Head
    hash_at_known: _Sha256 | None


class _Report(_Body):
    platform: _Name
    evidence: _Hex
    nonce: _Sha256
    public_key: _Sha256
    contract_hash: _Sha256
    certificates: list[_Hex] = []
    ledger: _Claim


class _Request(_Report):
    dataset_id: _Name
    ledger: _Claim | None = None  # type: ignore[assignment]  # keys without a ledger are asked for, reports not made


_Attested = TypeVar("_Attested", bound=_Report)


class _Nonce(_Body):
    nonce: _Sha256
    ledger: _Head | None = None


class _Noted(_Body):
    log_hash: _Sha256


class _Grant(_Body):
    owner: _Name
    dataset_id: _Name
    contract_hash: _Sha256
    nonce: _Sha256
    wrapped_key: _Hex
    platform: _Name
    measurement: _Hex
    log_hash: _Sha256


class _Entry(_Body):
    sequence: int
    at_ms: int
    kind: str
    body: dict[str, object]
    previous_hash: _Sha256
    entry_hash: _Sha256


class _Log(_Body):
    owner: _Name
    entries: list[_Entry]
    newest_hash: _Sha256


class _Error(BaseModel):
    model_config = ConfigDict(frozen=True)

    error: str
    what: str
    where: str | None = None
    hint: str | None = None
    failed: list[str] = []


def request_to_json(request: KeyRequest) -> dict[str, Json]:
    return {"dataset_id": str(request.dataset_id), **report_to_json(request)}


def report_to_json(request: KeyRequest | LedgerReport) -> dict[str, Json]:
    return {
        "platform": request.platform.value,
        "evidence": request.evidence.hex(),
        "nonce": request.nonce.hex(),
        "public_key": request.public_key.hex(),
        "contract_hash": str(request.contract_hash),
        "certificates": [certificate.hex() for certificate in request.certificates],
        "ledger": request.ledger.as_json() if request.ledger is not None else None,
    }


def request_from_bytes(body: bytes) -> KeyRequest:
    """The request in an HTTP body. Raises KeyRequestError naming the field, never its value."""
    parsed = _parsed(_Request, body, "key request")
    return KeyRequest(
        dataset_id=DatasetId(parsed.dataset_id),
        ledger=_claim(parsed.ledger) if parsed.ledger is not None else None,
        **_evidence(parsed),
    )


def report_from_bytes(body: bytes) -> LedgerReport:
    """The report in an HTTP body. Raises KeyRequestError naming the field, never its value."""
    parsed = _parsed(_Report, body, "ledger report")
    return LedgerReport(ledger=_claim(parsed.ledger), **_evidence(parsed))


def challenge_from_bytes(body: bytes) -> tuple[bytes, CounterValue | None]:
    """The 32 bytes in a broker's answer, and the ledger's head to go on from. Raises BrokerProtocolError."""
    try:
        parsed = _Nonce.model_validate_json(body)
    except ValidationError as error:
        raise BrokerProtocolError("the broker's nonce is malformed", where=_fields(error)) from None
    return bytes.fromhex(parsed.nonce), _value(parsed.ledger) if parsed.ledger is not None else None


def noted_from_bytes(body: bytes) -> str:
    """The log's newest hash in a broker's answer to a report. Raises BrokerProtocolError."""
    try:
        return _Noted.model_validate_json(body).log_hash
    except ValidationError as error:
        raise BrokerProtocolError("the broker's answer is malformed", where=_fields(error)) from None


def grant_from_bytes(body: bytes) -> KeyGrant:
    """The grant in a broker's answer. Raises BrokerProtocolError."""
    try:
        parsed = _Grant.model_validate_json(body)
        platform = Platform(parsed.platform)
    except ValidationError as error:
        raise BrokerProtocolError("the broker's grant is malformed", where=_fields(error)) from None
    except ValueError:
        raise BrokerProtocolError("the broker's grant names an unknown platform") from None
    return KeyGrant(
        owner=PartyName(parsed.owner),
        dataset_id=DatasetId(parsed.dataset_id),
        contract_hash=ContractHash(parsed.contract_hash),
        nonce=bytes.fromhex(parsed.nonce),
        wrapped_key=bytes.fromhex(parsed.wrapped_key),
        platform=platform,
        measurement=parsed.measurement,
        log_hash=parsed.log_hash,
    )


def log_from_bytes(body: bytes) -> tuple[AuditEntry, ...]:
    """The entries of a broker's log, as sent; whoever needs them whole calls `verify_chain`."""
    try:
        parsed = _Log.model_validate_json(body)
    except ValidationError as error:
        raise BrokerProtocolError("the broker's log is malformed", where=_fields(error)) from None
    return tuple(
        AuditEntry(
            entry.sequence,
            entry.at_ms,
            entry.kind,
            entry.body,  # type: ignore[arg-type]  # pydantic has no recursive JSON type without Any
            entry.previous_hash,
            entry.entry_hash,
        )
        for entry in parsed.entries
    )


def error_to_json(error: AdytonError) -> dict[str, Json]:
    failed: list[Json] = list(error.failed) if isinstance(error, EvidenceRefusedError) else []
    return {**error.as_json(), "failed": failed}


_ERRORS: dict[str, type[AdytonError]] = {
    kind.__name__: kind
    for kind in (
        KeyRequestError,
        UnknownNonceError,
        ReplayedNonceError,
        StaleNonceError,
        ContractNotActiveError,
        ContractExpiredError,
        DatasetNotOwnedError,
        LedgerNotContinuedError,
        LedgerMovedError,
        BrokerUnavailableError,
    )
}


def error_from_bytes(body: bytes, status: int) -> AdytonError:
    """The error that a broker reported, as the class it raised there."""
    try:
        parsed = _Error.model_validate_json(body)
    except ValidationError:
        return BrokerProtocolError(f"the broker answered {status} without saying why")
    if parsed.error == EvidenceRefusedError.__name__:
        return EvidenceRefusedError(parsed.what, where=parsed.where, hint=parsed.hint, failed=tuple(parsed.failed))
    kind = _ERRORS.get(parsed.error)
    if kind is None:
        return BrokerProtocolError(f"the broker answered {status}: {parsed.what}", where=parsed.where)
    return kind(parsed.what, where=parsed.where, hint=parsed.hint)


def status_of(error: AdytonError) -> int:
    """The HTTP status that says whose fault it is."""
    for kind, status in ((BadInputError, 400), (RefusedError, 403), (UnavailableError, 503)):
        if isinstance(error, kind):
            return status
    return 500


def _value(head: _Head) -> CounterValue:
    return CounterValue(head.entries, head.newest_hash)


def _claim(claim: _Claim) -> LedgerClaim:
    return LedgerClaim(_value(claim.head), _value(claim.known), claim.hash_at_known)


def _parsed(model: type[_Attested], body: bytes, what: str) -> _Attested:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise KeyRequestError(f"the {what} is malformed", where=_fields(error)) from None


class _Evidence(TypedDict):
    """What a key request and a ledger report have in common."""

    platform: Platform
    evidence: bytes
    nonce: bytes
    public_key: bytes
    contract_hash: ContractHash
    certificates: tuple[bytes, ...]


def _evidence(parsed: _Report) -> _Evidence:
    try:
        platform = Platform(parsed.platform)
    except ValueError:
        raise KeyRequestError("the platform is unknown", where="platform") from None
    return {
        "platform": platform,
        "evidence": bytes.fromhex(parsed.evidence),
        "nonce": bytes.fromhex(parsed.nonce),
        "public_key": bytes.fromhex(parsed.public_key),
        "contract_hash": ContractHash(parsed.contract_hash),
        "certificates": tuple(bytes.fromhex(certificate) for certificate in parsed.certificates),
    }


def _fields(error: ValidationError) -> str:
    return ", ".join(sorted({".".join(str(part) for part in item["loc"]) or "body" for item in error.errors()}))
