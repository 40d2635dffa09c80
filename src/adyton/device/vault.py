"""Encryption at rest: what a device stores about a person is unreadable without the device key."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adyton.device.errors import DeviceStoreError
from adyton.kernel.chance import OsRandom, RandomSource

DEVICE_KEY_BYTES = 32
_NONCE_BYTES = 12


class Vault:
    """AES-256-GCM under the device key. `place` binds a sealed value to where it is stored."""

    def __init__(self, device_key: bytes, source: RandomSource | None = None) -> None:
        if len(device_key) != DEVICE_KEY_BYTES:
            raise DeviceStoreError(f"a device key has {DEVICE_KEY_BYTES} bytes, got {len(device_key)}")
        self._cipher = AESGCM(device_key)
        self._source = source or OsRandom()

    def seal(self, plaintext: bytes, place: str) -> bytes:
        """nonce || ciphertext || tag."""
        nonce = self._source.token(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for the same place.

        Raises DeviceStoreError if the key, the place or the bytes are others.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise DeviceStoreError(
                "a stored value does not open",
                hint="the device key is another one, or the store was changed; reset the device to start over",
            ) from error


def load_device_key(path: Path, source: RandomSource | None = None) -> bytes:
    """The 32-byte key in the file at `path`, which is made, for its owner only, if it is missing.

    Keep it apart from the store: a phone would hold it in its key store.   Raises DeviceStoreError.
    """
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
        else:
            key = (source or OsRandom()).token(DEVICE_KEY_BYTES)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
    except OSError as error:
        raise DeviceStoreError(f"the device key cannot be read or made ({error.strerror})", where=str(path)) from error
    if len(key) != DEVICE_KEY_BYTES:
        raise DeviceStoreError("this is not a device key", where=str(path))
    return key
