"""A party: who it is in public, and its keys at rest.

Public: a name, an Ed25519 key that checks its signatures and an X25519 key that things are sealed to.
Private keys lie in one file, encrypted with AES-256-GCM under a key that scrypt makes from a passphrase; the public
identity is the associated data, so a key file cannot be passed off as another party's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from adyton.cleanroom.errors import KeyFileError, WrongPassphraseError
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.whole_file import write_whole
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.errors import BadInputError, UnavailableError
from adyton.kernel.ids import PartyName

IDENTITY_FORMAT = "adyton-party/1"
KEY_FORMAT = "adyton-party-key/1"
# OWASP's floor for scrypt: 2^17 x 8 x 1 takes 128 MiB and a few tenths of a second.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 17, 8, 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def party_name(text: str) -> PartyName:
    """`text` as a party name: lower case letters, digits, dot, dash and underscore, at most 63.

    Raises BadInputError otherwise; a name becomes part of file names.
    """
    if not _NAME.fullmatch(text):
        raise BadInputError(
            "a party name has 1 to 63 of a-z, 0-9, dot, dash, underscore and starts with a letter or digit",
            hint="for example 'publisher'",
        )
    return PartyName(text)


@dataclass(frozen=True)
class PartyIdentity:
    """What others need to know of a party. Keys are raw 32-byte public keys."""

    name: PartyName
    signing_public: bytes
    receiving_public: bytes

    def __post_init__(self) -> None:
        party_name(self.name)
        for label, key in (("signing", self.signing_public), ("receiving", self.receiving_public)):
            if len(key) != 32:
                raise BadInputError(f"the {label} key must have 32 bytes", where=str(self.name))

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """True if `signature` is this party's Ed25519 signature of `message`."""
        return signature_holds(self.signing_public, message, signature)

    def as_json(self) -> dict[str, Json]:
        return {
            "format": IDENTITY_FORMAT,
            "name": str(self.name),
            "signing_public": self.signing_public.hex(),
            "receiving_public": self.receiving_public.hex(),
        }

    @classmethod
    def from_json(cls, value: object) -> PartyIdentity:
        """Parse `as_json()`. Raises BadInputError."""
        if not isinstance(value, Mapping) or value.get("format") != IDENTITY_FORMAT:
            raise BadInputError(f"this is no party record (wanted format {IDENTITY_FORMAT})")
        try:
            return cls(
                PartyName(str(value["name"])),
                bytes.fromhex(str(value["signing_public"])),
                bytes.fromhex(str(value["receiving_public"])),
            )
        except (KeyError, ValueError) as error:
            raise BadInputError("a field of the party record is missing or not hexadecimal") from error

    def fingerprint(self) -> str:
        """64 hex digits that two people can read to each other: SHA-256 of the canonical record."""
        return hashlib.sha256(canonical_bytes(self.as_json())).hexdigest()


def signature_holds(signing_public: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` (64 bytes) is a valid Ed25519 signature of `message` by a raw public key."""
    try:
        Ed25519PublicKey.from_public_bytes(signing_public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Party:
    """A party with its private keys. Never printed, never pickled."""

    def __init__(self, name: PartyName, signing: Ed25519PrivateKey, receiving: X25519PrivateKey) -> None:
        self._signing = signing
        self.receiving_private = receiving
        self.identity = PartyIdentity(
            party_name(name), signing.public_key().public_bytes_raw(), receiving.public_key().public_bytes_raw()
        )

    @classmethod
    def create(cls, name: str, random: RandomSource | None = None) -> Party:
        """A party with fresh keys."""
        source = random or OsRandom()
        with SecretBytes(source.token(32)) as signing, SecretBytes(source.token(32)) as receiving:
            return cls(
                party_name(name),
                Ed25519PrivateKey.from_private_bytes(signing.data),
                X25519PrivateKey.from_private_bytes(receiving.data),
            )

    @property
    def name(self) -> PartyName:
        return self.identity.name

    def sign(self, message: bytes) -> bytes:
        """A 64-byte Ed25519 signature. `message` starts with a domain, so that no signature serves twice."""
        return self._signing.sign(message)

    def secret_bytes(self) -> SecretBytes:
        """Signing seed and receiving key, 64 bytes: for `save_party` only, which wipes them."""
        with (
            SecretBytes(self._signing.private_bytes_raw()) as signing,
            SecretBytes(self.receiving_private.private_bytes_raw()) as receiving,
        ):
            return SecretBytes(signing.data + receiving.data)

    def __repr__(self) -> str:
        return f"Party({self.name!r})"

    def __reduce__(self) -> str:
        raise TypeError("a party's keys are not pickled")


def identity_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.party.json"


def key_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.key.json"


def save_party(
    party: Party, folder: Path, passphrase: bytes, *, random: RandomSource | None = None, scrypt_n: int = SCRYPT_N
) -> Path:
    """Write `NAME.party.json` (public) and `NAME.key.json` (encrypted, mode 0600); gives the key file's path.

    Raises BadInputError for an empty passphrase or a public record of that name, KeyFileError if a key file is already
    there: neither is replaced. UnavailableError if they cannot be written; then neither is there.
    """
    if not passphrase:
        raise BadInputError("the passphrase is empty", hint="set ADYTON_PASSPHRASE or give --passphrase-file")
    source = random or OsRandom()
    salt, nonce = source.token(16), source.token(12)
    public = party.identity.as_json()
    with SecretBytes(_key_from(passphrase, salt, scrypt_n)) as key, party.secret_bytes() as secret:
        ciphertext = AESGCM(key.data).encrypt(nonce, secret.data, canonical_bytes(public))
    record = {
        "format": KEY_FORMAT,
        "public": public,
        "kdf": {"name": "scrypt", "n": scrypt_n, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()},
        "nonce": nonce.hex(),
        "ciphertext": base64.b64encode(ciphertext).decode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"the folder cannot be made ({error.strerror})", where=folder.name) from error
    path = key_path(folder, party.name)
    if path.exists():
        raise KeyFileError("a key file is already there", where=path.name, hint="choose another name")
    # Public first: a record without keys is of no use to anybody, and keys without a record could not be remade.
    write_whole(identity_path(folder, party.name), (json.dumps(public, indent=1) + "\n").encode())
    try:
        write_whole(path, json.dumps(record, indent=1).encode(), mode=0o600)
    except BaseException:
        identity_path(folder, party.name).unlink()
        raise
    return path


def load_party(path: Path, passphrase: bytes) -> Party:
    """The party in a key file.

    Raises KeyFileError if the file is not one, WrongPassphraseError if it does not open.
    """
    try:
        record = json.loads(path.read_text())
        identity = PartyIdentity.from_json(record["public"])
        kdf = record["kdf"]
        if record["format"] != KEY_FORMAT or kdf["name"] != "scrypt" or (kdf["r"], kdf["p"]) != (SCRYPT_R, SCRYPT_P):
            raise KeyFileError("unknown key file format", where=path.name)
        scrypt_n = cast("int", kdf["n"])
        if not isinstance(scrypt_n, int) or scrypt_n.bit_count() != 1 or not 1 << 10 <= scrypt_n <= 1 << 20:
            raise KeyFileError("the scrypt cost is out of range", where=path.name)
        salt, nonce = bytes.fromhex(kdf["salt"]), bytes.fromhex(record["nonce"])
        ciphertext = base64.b64decode(record["ciphertext"], validate=True)
    except FileNotFoundError:
        raise KeyFileError("no such key file", where=path.name, hint="make one: adyton party init NAME") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, BadInputError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError("this is no key file", where=path.name, hint="it is called NAME.key.json") from error
    try:
        with SecretBytes(_key_from(passphrase, salt, scrypt_n)) as key:
            plain = AESGCM(key.data).decrypt(nonce, ciphertext, canonical_bytes(identity.as_json()))
    except (InvalidTag, ValueError):
        raise WrongPassphraseError(
            "the key file does not open with this passphrase",
            where=path.name,
            hint="each party has its own: set ADYTON_PASSPHRASE or give --passphrase-file",
        ) from None
    with SecretBytes(plain), SecretBytes(plain[:32]) as signing, SecretBytes(plain[32:]) as receiving:
        party = Party(
            identity.name,
            Ed25519PrivateKey.from_private_bytes(signing.data),
            X25519PrivateKey.from_private_bytes(receiving.data),
        )
    if party.identity != identity:
        raise KeyFileError("the keys are not those of the public record", where=path.name)
    return party


def load_identity(path: Path) -> PartyIdentity:
    """The public record in a `.party.json` file. Raises BadInputError."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError("the party record cannot be read", where=path.name) from error
    try:
        return PartyIdentity.from_json(value)
    except BadInputError as error:
        raise error.inside(path.name) from error.__cause__


def _key_from(passphrase: bytes, salt: bytes, scrypt_n: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=scrypt_n, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase)
