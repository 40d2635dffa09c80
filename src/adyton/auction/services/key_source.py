"""Where a process's keys come from outside of test mode: a key file of its own or coordinators, and a public list.

    private key file   {"keys": [{"id": "<hex KMS id>", "private": "<base64, 32 bytes>"}]}     mode 0600
    public key list    {"keys": [{"id": "<hex KMS id>", "key": "<base64, 32 bytes>"}]}         file or URL (§14.1)

Rotation: add the new key to the files of all who decrypt, then to the list; take the old one off the list, and out of
the files when the clients' caches (14 days by default) have ended. Files and list are read again every refresh period.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path

from adyton.auction.config import KeysConfig
from adyton.auction.errors import ConfigError
from adyton.auction.keys.attestation import AttestedCaller
from adyton.auction.services.code_store import BlobFetcher
from adyton.auction.services.key_material import KeyMaterial
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.protocol.errors import KeyListError, TestKeyRefusedError
from adyton.protocol.keys import KeyRing, PrivateKey, key_id_of, kms_id_of, parse_public_key_list, print_public_key_list


async def load_keys(config: KeysConfig, fetcher: BlobFetcher, *, caller: AttestedCaller | None = None) -> KeyMaterial:
    """The keys that the configuration names.

    caller: proves to coordinators what code runs here; without one they are not asked.
    Raises ConfigError, KeyListError, TestKeyRefusedError (the published test key is never accepted here),
    CodeFetchError, and what `fetch_private_keys` raises.
    """
    if config.private_keys is not None:
        text = await fetcher.fetch(config.private_keys)
        try:
            ring = KeyRing(parse_private_keys(text))
        except (ConfigError, KeyListError, TestKeyRefusedError) as error:
            raise error.inside(config.private_keys) from error.__cause__
    elif caller is None:
        raise ConfigError(
            "coordinators release keys to attested services only", where="keys.coordinators", hint="give --evidence"
        )
    else:
        from adyton.auction.keys.client import fetch_private_keys  # its HTTP client loads slowly

        private = await fetch_private_keys(config.coordinators, caller, max_age_s=config.max_age_s)
        if not private:
            raise ConfigError("the coordinators hold no key that is whole", where="keys.coordinators")
        ring = KeyRing(private)
    text = await fetcher.fetch(config.public_keys)
    try:
        public = parse_public_key_list(text)
    except (KeyListError, TestKeyRefusedError) as error:
        raise error.inside(config.public_keys) from error.__cause__
    return KeyMaterial(ring, public)


async def refresh_keys(
    material: KeyMaterial, config: KeysConfig, fetcher: BlobFetcher, *, caller: AttestedCaller | None = None
) -> None:
    """Read both again; raises as `load_keys`, and then the old keys stay in use."""
    fresh = await load_keys(config, fetcher, caller=caller)
    material.replace(fresh.ring, fresh.public_keys)


def parse_private_keys(text: bytes) -> tuple[PrivateKey, ...]:
    """The pairs of a private key file.

    Raises ConfigError naming the entry, never its content.
    """
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError("the private key file is not the documented JSON") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError("the private key file holds no keys")
    keys = []
    for number, entry in enumerate(entries):
        try:
            private = base64.b64decode(entry["private"], validate=True)
            keys.append(PrivateKey.from_private(key_id_of(entry["id"]), private))
        except (KeyError, TypeError, AttributeError, ValueError, binascii.Error, KeyListError) as error:
            raise ConfigError("a private key cannot be read", where=f"keys[{number}]") from error
    return tuple(keys)


def write_new_keys(
    private_file: Path, public_file: Path, *, n_keys: int = 1, source: RandomSource | None = None
) -> None:
    """Make `n_keys` (1...255) new pairs and write both documents; the private one is readable by its owner only.

    Raises ConfigError if one of them cannot be written; then neither is there. Also if there is a private file already:
    keys in use must not vanish.
    """
    source = source or OsRandom()
    numbers = sorted({1 + byte % 255 for byte in source.token(64 * n_keys)})[:n_keys]
    keys = [PrivateKey.generate(number, source) for number in numbers]
    entries = [{"id": kms_id_of(key.key_id), "private": base64.b64encode(key.private).decode()} for key in keys]
    try:
        descriptor = os.open(private_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError("the private key file exists", where=str(private_file), hint="choose another name") from error
    except OSError as error:
        raise ConfigError("the private key file cannot be written", where=str(private_file)) from error
    with os.fdopen(descriptor, "w") as file:
        json.dump({"keys": entries}, file)
    try:
        public_file.write_text(print_public_key_list(key.public_key for key in keys))
    except OSError as error:
        private_file.unlink()  # keys that nobody can be told are of no use
        raise ConfigError(
            f"the public key list cannot be written ({error.strerror})", where=str(public_file)
        ) from error
