"""Errors of the clean room.

BadInputError
├── ContractError            a contract says something that cannot hold
├── KeyFileError             a party's key file cannot be read
└── TableRejectedError       a file does not fit its declared schema; names row and column, never a value
RefusedError
├── WrongPassphraseError     a key file does not open
├── ContractStateError       the contract's state forbids this
├── ContractSignatureError   a signature is missing or false
├── DatasetReusedError       a dataset id and version were sealed before
├── SealBrokenError          sealed bytes were changed, cut, swapped or opened with another key
├── TemplateRefusedError     the job asks for what the contract does not allow
├── GateRefusedError         an output did not pass the release gate
├── LedgerRollbackError      the ledger's file is older than its counter
├── PsiRefusedError          a match-rate exchange is not answered
├── StateRefusedError        what an incremental run carried on is damaged, another's or not the newest
└── ReceiptRefusedError      a receipt does not verify
UnavailableError
├── LedgerUnavailableError   the ledger cannot be read or written
├── SealWriteError           the sealed file cannot be written
└── EnclaveUnavailableError  the enclave's process did not start or was killed
PeerError
└── EnclaveProtocolError     the enclave or a broker said something unexpected
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, PeerError, RefusedError, UnavailableError


class ContractError(BadInputError):
    """A contract contradicts itself or names something unknown."""


class KeyFileError(BadInputError):
    """A party's key file is missing, damaged or of another format."""


class TableRejectedError(BadInputError):
    """A file does not fit its declared schema."""


class WrongPassphraseError(RefusedError):
    """A key file does not open with this passphrase."""


class ContractStateError(RefusedError):
    """The contract's state forbids this."""


class ContractSignatureError(RefusedError):
    """A signature is missing, false or of a stranger."""


class DatasetReusedError(RefusedError):
    """This dataset id and version were sealed before."""


class SealBrokenError(RefusedError):
    """Sealed bytes were changed, cut, swapped, or opened with another key."""


class TemplateRefusedError(RefusedError):
    """A job asks for what the contract does not allow."""


class GateRefusedError(RefusedError):
    """An output did not pass the release gate."""


class LedgerRollbackError(RefusedError):
    """The ledger's file is older than the counter that guards it."""


class PsiRefusedError(RefusedError):
    """An exchange about shared users is not answered, since the answer would tell too much."""


class StateRefusedError(RefusedError):
    """What an incremental run would continue from is damaged, another contract's or code's, or not the newest."""


class ReceiptRefusedError(RefusedError):
    """A receipt does not verify."""


class LedgerUnavailableError(UnavailableError):
    """The ledger cannot be read or written."""


class SealWriteError(UnavailableError):
    """A sealed file cannot be written."""


class EnclaveUnavailableError(UnavailableError):
    """The enclave's process did not start, was killed or ran out of memory."""


class EnclaveProtocolError(PeerError):
    """The enclave or a broker said something unexpected."""
