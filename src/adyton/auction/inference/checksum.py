"""The checksum of a model's files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def model_checksum(files: Mapping[str, bytes]) -> str:
    """SHA-256 hex of the concatenated lower-case hex SHA-256 of every file, ordered by path.

    Source: protected-auction §9.
    """
    digests = [hashlib.sha256(files[path]).hexdigest() for path in sorted(files)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
