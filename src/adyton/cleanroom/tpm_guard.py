"""A ledger's counter whose file is itself guarded by a TPM's monotonic counter (`attestation.tpm_counter`).

The file holds the ledger's length and newest hash, and the TPM's value at that moment. Every change writes the file
with the value to come and then increments the TPM. An older copy of the file shows a smaller value than the TPM and is
refused; a file that is one ahead is the trace of a crash between the two and is completed. With ledger and file both
put back, a `FileCounter` sees nothing; this one does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from adyton.cleanroom.attestation.tpm_counter import TpmCounter
from adyton.cleanroom.errors import LedgerRollbackError, LedgerUnavailableError
from adyton.cleanroom.ledger_store import NO_ENTRIES, CounterValue


class TpmGuardedCounter:
    """A `MonotonicCounter` in a file that a TPM vouches for. The TPM's counter must exist (`TpmCounter.create`)."""

    def __init__(self, path: Path, tpm: TpmCounter) -> None:
        """A new file is tied to the TPM's value now, and may be made only once: see `start`."""
        self._path, self._tpm = path, tpm

    def start(self) -> None:
        """Write the first file, for an empty ledger. Raises LedgerRollbackError if there is one."""
        if self._path.exists():
            raise LedgerRollbackError("the ledger's counter was started before", where=self._path.name)
        self._write(NO_ENTRIES, self._tpm.value())

    def read(self) -> CounterValue:
        """Raises LedgerRollbackError if the file is older than the TPM, LedgerUnavailableError if it is not there."""
        try:
            record = json.loads(self._path.read_text())
            value = CounterValue(int(record["entries"]), str(record["newest_hash"]))
            recorded = int(record["tpm"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerUnavailableError("the ledger's counter cannot be read", where=self._path.name) from error
        now = self._tpm.value()
        if recorded == now + 1:
            now = self._tpm.increment()
        if recorded != now:
            raise LedgerRollbackError(
                f"the ledger's counter was written at {recorded}, the TPM stands at {now}",
                where=self._path.name,
                hint="an older copy was put back; restore the newest one",
            )
        return value

    def advance(self, value: CounterValue) -> None:
        """Raises LedgerRollbackError for fewer entries than before."""
        if value.entries < self.read().entries:
            raise LedgerRollbackError("the ledger's counter does not go back")
        self._write(value, self._tpm.value() + 1)
        self._tpm.increment()

    def _write(self, value: CounterValue, tpm: int) -> None:
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            with partial.open("w") as file:
                json.dump({**value.as_json(), "tpm": tpm}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            raise LedgerUnavailableError("the ledger's counter cannot be written", where=self._path.name) from error
