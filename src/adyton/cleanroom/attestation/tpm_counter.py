"""A monotonic counter in a TPM's non-volatile memory: what a ledger's file cannot do, notice that it was put back.

A ledger writes the counter's value beside its newest hash and increments both together. An older copy of the file then
shows a smaller value than the TPM. The counter survives restarts and can only go up; deleting it needs the owner's
authorisation, and a new one starts above every value the TPM ever had.
"""

from __future__ import annotations

from adyton.cleanroom.attestation.errors import CounterRefusedError, ExpectationError, TpmUnavailableError
from adyton.cleanroom.attestation.tpm_wire import TpmWire

FIRST_INDEX, LAST_INDEX = 0x01800000, 0x01BFFFFF


class TpmCounter:
    """One NV counter. `index`: 0x01800000 to 0x01BFFFFF, the owner's range."""

    def __init__(self, tpm: TpmWire, index: int = FIRST_INDEX) -> None:
        if not FIRST_INDEX <= index <= LAST_INDEX:
            raise ExpectationError("an owner's NV index lies between 0x01800000 and 0x01BFFFFF", where="index")
        self._tpm = tpm
        self._index = index

    def create(self) -> int:
        """Define the counter and give its first value. Raises CounterRefusedError if the index is taken."""
        try:
            self._tpm.define_counter(self._index)
        except TpmUnavailableError as error:
            raise CounterRefusedError(
                "the counter cannot be defined: taken, or no owner's right", where=f"{self._index:#x}"
            ) from error
        # A counter has no value before its first increment.
        return self.increment()

    def value(self) -> int:
        """The value now. Raises TpmUnavailableError if there is no counter."""
        return self._tpm.read_counter(self._index)

    def increment(self) -> int:
        """Count one up and give the new value. Raises TpmUnavailableError."""
        self._tpm.increment_counter(self._index)
        return self.value()

    def check(self, recorded: int) -> None:
        """Raises CounterRefusedError unless `recorded`, the value in a file, is the counter's value now."""
        now = self.value()
        if recorded != now:
            older = "older than" if recorded < now else "ahead of"
            raise CounterRefusedError(
                f"the record ({recorded}) is {older} the TPM's counter ({now})", where=f"{self._index:#x}"
            )
