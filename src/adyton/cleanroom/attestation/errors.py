"""Errors of attestation and key release.

BadInputError
├── EvidenceFormatError      bytes are not evidence of this platform (a verifier turns it into a failed `format` check)
├── ExpectationError         what a caller expects of evidence cannot be meant
└── KeyRequestError          a request to a broker is malformed
RefusedError
├── EvidenceRefusedError     one or more named checks failed; `failed` names them
├── UnknownNonceError        this broker never issued that nonce
├── ReplayedNonceError       the nonce was used before
├── StaleNonceError          the nonce is past its minutes
├── ContractNotActiveError   the broker's owner has no active contract with that hash
├── ContractExpiredError     the contract's last day is over
├── DatasetNotOwnedError     the dataset is not this owner's, or not part of the contract
├── LedgerNotContinuedError  the enclave's privacy ledger is not the one that the broker was told of, grown
├── LedgerMovedError         the enclave answered for a head that is no longer the newest; it may ask again
└── CounterRefusedError      a TPM counter would not count as asked
UnavailableError
├── BrokerUnavailableError   a broker, or its store, does not answer
└── TpmUnavailableError      there is no TPM, or its tools are not installed
PeerError
└── BrokerProtocolError      a broker answered something that is not its protocol
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adyton.kernel.errors import BadInputError, PeerError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from adyton.cleanroom.attestation.checks import Verdict


class EvidenceFormatError(BadInputError):
    """The bytes are not evidence of this platform."""


class ExpectationError(BadInputError):
    """What a caller expects of evidence cannot be meant."""


class KeyRequestError(BadInputError):
    """A request to a broker is malformed."""


class EvidenceRefusedError(RefusedError):
    """Named checks failed. `failed`: their names. `verdict`: all checks, where the verifier ran in this process."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        failed: tuple[str, ...] = (),
        verdict: Verdict | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.failed = failed
        self.verdict = verdict


class UnknownNonceError(RefusedError):
    """This broker never issued that nonce."""


class ReplayedNonceError(RefusedError):
    """The nonce was used before."""


class StaleNonceError(RefusedError):
    """The nonce is past its life of minutes."""


class ContractNotActiveError(RefusedError):
    """The broker's owner has no active contract with that hash."""


class ContractExpiredError(RefusedError):
    """The contract's time is over."""


class DatasetNotOwnedError(RefusedError):
    """The dataset is not this owner's, or not part of the contract."""


class LedgerNotContinuedError(RefusedError):
    """The enclave's privacy ledger does not go on from where it was when an enclave last spoke of it."""


class LedgerMovedError(RefusedError):
    """The ledger's head that the enclave answered for is no longer the newest."""


class CounterRefusedError(RefusedError):
    """A TPM counter would not count as asked."""


class BrokerUnavailableError(UnavailableError):
    """A broker or its store does not answer, or has too many nonces out."""


class TpmUnavailableError(UnavailableError):
    """There is no TPM here, or its tools are not installed."""


class BrokerProtocolError(PeerError):
    """A broker answered something that is not its protocol."""
