"""One coordinator's shares on disk: a JSON file, readable by its owner only, replaced whole at each change.

Keys are at rest in the clear: put the file on an encrypted disk of a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from adyton.auction.keys.errors import KeyServiceDownError
from adyton.auction.keys.json_members import from_base64, text, to_base64, whole_number
from adyton.auction.keys.rotation import KeyShare, KeyType


class KeyStore:
    """The shares of one coordinator, expired ones until they are dropped. For one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shares: dict[str, KeyShare] = {}
        try:
            entries = json.loads(path.read_text())["keys"] if path.exists() else []
            self._shares = {entry["id"]: share_from_json(entry) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyServiceDownError("the key store cannot be read", where=str(path)) from error

    def shares(self) -> tuple[KeyShare, ...]:
        """All shares, oldest first."""
        return tuple(sorted(self._shares.values(), key=lambda share: (share.created_at_ms, share.kms_id)))

    def add(self, share: KeyShare, *, now_ms: int) -> None:
        """Keep a share, and drop those that have expired. A share that is here already stays as it is.

        Raises KeyServiceDownError if it cannot be written; then nothing changed.
        """
        kept = {kms_id: held for kms_id, held in self._shares.items() if held.is_live(now_ms)}
        kept.setdefault(share.kms_id, share)
        unfinished = self._path.with_name(f".{self._path.name}.new")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"keys": [share_to_json(held) for held in kept.values()]}, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
        except OSError as error:
            raise KeyServiceDownError("the key store cannot be written", where=str(self._path)) from error
        self._shares = kept


def share_to_json(share: KeyShare) -> dict[str, str | int]:
    """For the store and for the other coordinator, which both must keep it secret."""
    return {
        "id": share.kms_id,
        "type": share.key_type.value,
        "index": share.index,
        "public_key": to_base64(share.public_key),
        "public_keyset": to_base64(share.public_keyset),
        "material": to_base64(share.material),
        "created_at_ms": share.created_at_ms,
        "unpublished_at_ms": share.unpublished_at_ms,
        "expires_at_ms": share.expires_at_ms,
    }


def share_from_json(entry: Mapping[str, object]) -> KeyShare:
    """Raises ValueError, KeyError or TypeError."""
    share = KeyShare(
        kms_id=text(entry["id"]),
        key_type=KeyType(text(entry["type"])),
        index=whole_number(entry["index"]),
        public_key=from_base64(entry["public_key"]),
        public_keyset=from_base64(entry["public_keyset"]),
        material=from_base64(entry["material"]),
        created_at_ms=whole_number(entry["created_at_ms"]),
        unpublished_at_ms=whole_number(entry["unpublished_at_ms"]),
        expires_at_ms=whole_number(entry["expires_at_ms"]),
    )
    if len(share.kms_id) != 16 or len(bytes.fromhex(share.kms_id)) != 8 or share.index not in (0, 1):
        raise ValueError("not a share")
    if len(share.public_key) != 32 or not share.material:
        raise ValueError("not a share")
    return share
