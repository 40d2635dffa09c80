"""Parties: keys at rest, identities that cannot be swapped."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path

import pytest

from adyton.cleanroom.errors import KeyFileError, WrongPassphraseError
from adyton.cleanroom.party import Party, identity_path, key_path, load_identity, load_party, party_name, save_party
from adyton.kernel.errors import BadInputError

QUICK = 1 << 10
PASSPHRASE = b"correct horse"


def test_a_saved_party_comes_back_with_the_same_keys(tmp_path: Path) -> None:
    party = Party.create("publisher")
    save_party(party, tmp_path, PASSPHRASE, scrypt_n=QUICK)

    loaded = load_party(key_path(tmp_path, "publisher"), PASSPHRASE)

    assert loaded.identity == party.identity == load_identity(identity_path(tmp_path, "publisher"))
    assert party.identity.has_signed(b"m", loaded.sign(b"m"))
    assert not party.identity.has_signed(b"n", loaded.sign(b"m"))


def test_a_key_file_is_private_and_holds_no_key_in_the_clear(tmp_path: Path) -> None:
    party = Party.create("publisher")
    path = save_party(party, tmp_path, PASSPHRASE, scrypt_n=QUICK)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert party.secret_bytes().data[:32].hex() not in path.read_text()
    assert "publisher" in repr(party)
    with pytest.raises(TypeError):
        pickle.dumps(party)


def test_a_wrong_passphrase_is_refused(tmp_path: Path) -> None:
    path = save_party(Party.create("a"), tmp_path, PASSPHRASE, scrypt_n=QUICK)
    with pytest.raises(WrongPassphraseError):
        load_party(path, b"wrong")


def test_a_key_file_with_another_partys_name_is_refused(tmp_path: Path) -> None:
    """The public record is authenticated: a key file cannot be passed off as somebody else's."""
    path = save_party(Party.create("a"), tmp_path, PASSPHRASE, scrypt_n=QUICK)
    record = json.loads(path.read_text())
    record["public"]["name"] = "b"
    path.write_text(json.dumps(record))

    with pytest.raises(WrongPassphraseError):
        load_party(path, PASSPHRASE)


@pytest.mark.parametrize("damage", ["{}", "not json", '{"format": "adyton-party-key/1"}', "[]"])
def test_a_damaged_key_file_is_named_as_one(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.key.json"
    path.write_text(damage)
    with pytest.raises(KeyFileError, match=r"a\.key\.json"):
        load_party(path, PASSPHRASE)


def test_a_key_file_cannot_ask_for_endless_scrypt(tmp_path: Path) -> None:
    path = save_party(Party.create("a"), tmp_path, PASSPHRASE, scrypt_n=QUICK)
    record = json.loads(path.read_text())
    record["kdf"]["n"] = 1 << 40
    path.write_text(json.dumps(record))

    with pytest.raises(KeyFileError):
        load_party(path, PASSPHRASE)


def test_keys_are_not_overwritten(tmp_path: Path) -> None:
    save_party(Party.create("a"), tmp_path, PASSPHRASE, scrypt_n=QUICK)
    with pytest.raises(KeyFileError, match="already there"):
        save_party(Party.create("a"), tmp_path, PASSPHRASE, scrypt_n=QUICK)


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        save_party(Party.create("a"), tmp_path, b"")


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "a" * 64, "-a"])
def test_names_that_could_become_paths_are_refused(name: str) -> None:
    with pytest.raises(BadInputError):
        party_name(name)
