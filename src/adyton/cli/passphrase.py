"""Where a party's passphrase comes from: a file, or the environment. Never an argument, which other users can see."""

from __future__ import annotations

import os
from pathlib import Path

from adyton.cleanroom.party import Party, load_party
from adyton.kernel.errors import BadInputError

PASSPHRASE_VARIABLE = "ADYTON_PASSPHRASE"  # noqa: S105  # a name, not a secret


def read_passphrase(file: Path | None) -> bytes:
    """The passphrase. Raises BadInputError if there is none."""
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    value = os.environ.get(PASSPHRASE_VARIABLE)
    if not value:
        raise BadInputError("no passphrase", hint=f"give --passphrase-file or set {PASSPHRASE_VARIABLE}")
    return value.encode()


def open_party(key_file: Path, passphrase_file: Path | None) -> Party:
    """The party in a key file. Raises what `load_party` raises."""
    return load_party(key_file, read_passphrase(passphrase_file))
