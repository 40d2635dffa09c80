"""Key pairs by number, the public key list and the test key (protected-auction §5.2, §14)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from adyton.kernel.chance import OsRandom, RandomSource
from adyton.protocol.errors import KeyListError, TestKeyRefusedError, UnknownKeyError
from adyton.protocol.hpke import KEY_BYTES, public_of

DEFAULT_KEY_LIFETIME_S = 14 * 24 * 3600
"""How long a client keeps a public key list that names no lifetime (§14.1)."""
_KMS_ID = re.compile(r"[0-9a-fA-F]{2,}")
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,10})\"?\s*(?=,|$)", re.IGNORECASE)


def _check_key(key_id: int, public: bytes) -> None:
    if not 0 <= key_id <= 255:
        raise KeyListError("a key number must be 0 to 255", where=f"key {key_id}")
    if len(public) != KEY_BYTES:
        raise KeyListError(f"an X25519 public key has {KEY_BYTES} bytes, got {len(public)}", where=f"key {key_id}")


@dataclass(frozen=True)
class PublicKey:
    """A 32-byte X25519 public key and the number (0...255) that requests name it by."""

    key_id: int
    public: bytes

    def __post_init__(self) -> None:
        _check_key(self.key_id, self.public)

    @property
    def decimal_id(self) -> str:
        """The number as the services write it: `"64"`."""
        return str(self.key_id)


@dataclass(frozen=True)
class PrivateKey:
    """A key pair. Its repr never shows the private half."""

    key_id: int
    private: bytes = field(repr=False)
    public: bytes

    def __post_init__(self) -> None:
        _check_key(self.key_id, self.public)
        if public_of(self.private) != self.public:
            raise KeyListError("the private key does not belong to the public key", where=f"key {self.key_id}")

    @classmethod
    def from_private(cls, key_id: int, private: bytes) -> PrivateKey:
        """The pair of a 32-byte private key."""
        return cls(key_id, private, public_of(private))

    @classmethod
    def generate(cls, key_id: int, source: RandomSource | None = None) -> PrivateKey:
        """A new pair; from the operating system's generator unless a source is given."""
        return cls.from_private(key_id, (source or OsRandom()).token(KEY_BYTES))

    @property
    def public_key(self) -> PublicKey:
        return PublicKey(self.key_id, self.public)


TEST_MODE_KEY = PrivateKey.from_private(
    64, bytes.fromhex("e7b292f49df28b8065992cdeadbc9d032a0e09e8476cb6d8d507212e7be3b9b4")
)
"""The published key pair of TEST_MODE (§14.3). Everyone has it: it protects nothing."""


class KeyRing:
    """Private keys by number. Refuses the test key unless the ring was made for test mode."""

    def __init__(self, keys: Iterable[PrivateKey]) -> None:
        by_id: dict[int, PrivateKey] = {}
        for key in keys:
            if key.private == TEST_MODE_KEY.private:
                raise TestKeyRefusedError(
                    "the published test key is not accepted", where=f"key {key.key_id}", hint="set TEST_MODE"
                )
            if key.key_id in by_id:
                raise KeyListError("two keys have the same number", where=f"key {key.key_id}")
            by_id[key.key_id] = key
        self._by_id = by_id
        self.is_test_mode = False

    @classmethod
    def test_mode(cls) -> KeyRing:
        """A ring that answers every number with the test key pair (§14.3)."""
        ring = cls(())
        ring.is_test_mode = True
        return ring

    def private_key(self, key_id: int) -> PrivateKey:
        """The pair with this number.

        Raises UnknownKeyError with the text of §5.4.
        """
        key = self._by_id.get(key_id)
        if key is None and self.is_test_mode and 0 <= key_id <= 255:
            key = self._by_id[key_id] = PrivateKey(key_id, TEST_MODE_KEY.private, TEST_MODE_KEY.public)
        if key is None:
            raise UnknownKeyError(
                f"Unable to get private key for the key ID in OHTTP encapsulated request. Key ID: {key_id}"
            )
        return key

    def public_keys(self) -> tuple[PublicKey, ...]:
        """What a key service publishes; in test mode only the one number that the spec names."""
        if self.is_test_mode:
            return (TEST_MODE_KEY.public_key,)
        return tuple(key.public_key for key in self._by_id.values())


def key_id_of(kms_id: str) -> int:
    """The number of a key from the first two hex digits of its KMS id: `"4000000000000000"` gives 64 (§5.2).

    Raises KeyListError if the id does not start with two hex digits.
    """
    if not _KMS_ID.fullmatch(kms_id):
        raise KeyListError("a key id must be hex digits, at least two")
    return int(kms_id[:2], 16)


def kms_id_of(key_id: int) -> str:
    """A KMS id of 16 hex digits whose number is `key_id` (0...255)."""
    return f"{key_id:02x}".ljust(16, "0")


def parse_public_key_list(text: bytes | str, *, test_mode: bool = False) -> tuple[PublicKey, ...]:
    """The keys of `{"keys": [{"id": hex, "key": base64}]}` (§14.1), in their order.

    Raises KeyListError for anything else or an empty list, TestKeyRefusedError for the test key outside test mode.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeyListError("the public key list is not JSON") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise KeyListError("a public key list needs a non-empty array of keys", where="$.keys")
    return tuple(_public_key(entry, f"$.keys[{i}]", test_mode=test_mode) for i, entry in enumerate(entries))


def print_public_key_list(keys: Iterable[PublicKey]) -> str:
    """The list as a key service answers it."""
    entries = [{"id": kms_id_of(k.key_id), "key": base64.b64encode(k.public).decode()} for k in keys]
    return json.dumps({"keys": entries}, separators=(",", ":"))


def key_list_lifetime_s(*, cache_control: str | None, age: str | None) -> int:
    """Seconds for which a client may keep a key list: max-age minus age, never negative; 14 days by default (§14.1)."""
    match = _MAX_AGE.search(cache_control or "")
    lifetime_s = int(match.group(1)) if match else DEFAULT_KEY_LIFETIME_S
    age_s = int(age) if match and age is not None and re.fullmatch(r"[0-9]{1,10}", age) else 0
    return max(0, lifetime_s - age_s)


def _public_key(entry: object, where: str, *, test_mode: bool) -> PublicKey:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not isinstance(entry.get("key"), str):
        raise KeyListError("a key needs the texts id and key", where=where)
    try:
        public = base64.b64decode(entry["key"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyListError("a public key must be base64", where=where) from error
    key = PublicKey(key_id_of(entry["id"]), public)
    if public == TEST_MODE_KEY.public and not test_mode:
        raise TestKeyRefusedError("the published test key is not accepted", where=where, hint="set TEST_MODE")
    return key
