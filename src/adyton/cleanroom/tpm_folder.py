"""A software TPM for the enclaves of one machine: made once, started for each run. DEVELOPMENT ONLY.

    FOLDER/state/                 what swtpm keeps: keys and the counter
    FOLDER/attestation-key.pem    what an owner's broker trusts (`adyton broker serve --trust`)

Making it enrols the attestation key by credential activation and starts the ledger's counter. Each run starts the TPM
afresh, which resets PCR 14, and measures the code before the enclave's process begins. Whoever can write FOLDER can put
an older copy of it back: on a real TPM nobody can, and a real one counts the same way (`TpmWire` takes its device).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from adyton.cleanroom.attestation import dev_tpm
from adyton.cleanroom.attestation.errors import TpmUnavailableError
from adyton.cleanroom.attestation.tpm_counter import TpmCounter
from adyton.cleanroom.attestation.tpm_tools import software_tpm
from adyton.cleanroom.attestation.tpm_wire import TpmWire
from adyton.cleanroom.tpm_guard import TpmGuardedCounter
from adyton.kernel.errors import BadInputError

KEY_FILE = "attestation-key.pem"


def make_tpm_folder(folder: Path, counter: Path) -> Path:
    """Make keys and counter, and write the ledger's counter file; gives the path of the attestation key.

    counter: the file that will guard the ledger, not there yet.   Raises BadInputError if the folder holds a TPM,
    TpmUnavailableError without swtpm and tpm2-tools, LedgerRollbackError if the counter file exists.
    """
    if (folder / KEY_FILE).exists() or (folder / "state").exists():
        raise BadInputError("this folder holds a TPM already", where=str(folder), hint="choose a new one")
    with software_tpm(folder) as tpm:
        dev_tpm.create_keys(tpm)
        key = load_der_public_key(dev_tpm.enrol(tpm))
        nv_counter = TpmCounter(tpm.wire)
        nv_counter.create()
        TpmGuardedCounter(counter, nv_counter).start()
    path = folder / KEY_FILE
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@contextmanager
def started_tpm(folder: Path, code: bytes | None = None) -> Iterator[TpmWire]:
    """The TPM of a folder, for the length of a `with` block.

    code: a measurement of 32 bytes that is extended into PCR 14, for a run.   Raises TpmUnavailableError.
    """
    if not (folder / KEY_FILE).exists():
        raise TpmUnavailableError(
            "there is no TPM in this folder", where=str(folder), hint="make one: adyton cleanroom tpm FOLDER"
        )
    with software_tpm(folder) as tpm:
        if code is not None:
            dev_tpm.extend(tpm.wire, code)
        yield tpm.wire
