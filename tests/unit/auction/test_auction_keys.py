"""Keys from files, split keys, and that the published test key is refused outside of test mode."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from pathlib import Path

import pytest

from adyton.auction.config import KeysConfig
from adyton.auction.errors import ConfigError
from adyton.auction.services.code_store import BlobFetcher
from adyton.auction.services.key_source import load_keys, parse_private_keys, refresh_keys, write_new_keys
from adyton.auction.split_keys import join_shares, split_key
from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.protocol.errors import KeyListError, TestKeyRefusedError
from adyton.protocol.keys import TEST_MODE_KEY
from adyton.protocol.tee import open_request, seal_request


def test_written_keys_open_what_the_list_seals_and_are_replaced_by_a_refresh(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = KeysConfig(private_keys=str(tmp_path / "private"), public_keys=str(tmp_path / "public"))
        write_new_keys(tmp_path / "private", tmp_path / "public", n_keys=3)
        fetcher = BlobFetcher(timeout_ms=1000)
        material = await load_keys(config, fetcher)
        key = material.sealing_key()
        sealed, _ = seal_request(key, b"hello")

        assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
        assert open_request(material.ring, sealed, key.key_id)[0] == b"hello"
        before = material.public_keys
        (tmp_path / "private").unlink()
        write_new_keys(tmp_path / "private", tmp_path / "public")
        await refresh_keys(material, config, fetcher)
        assert material.public_keys != before
        assert len(material.public_keys) == 1

    asyncio.run(scenario())


def test_a_private_key_file_is_never_overwritten(tmp_path: Path) -> None:
    write_new_keys(tmp_path / "private", tmp_path / "public")
    with pytest.raises(ConfigError, match="exists"):
        write_new_keys(tmp_path / "private", tmp_path / "public")


def test_the_published_test_key_is_refused(tmp_path: Path) -> None:
    write_new_keys(tmp_path / "private", tmp_path / "public")
    entry = {"id": "4000000000000000", "private": base64.b64encode(TEST_MODE_KEY.private).decode()}
    (tmp_path / "test").write_text(json.dumps({"keys": [entry]}))
    config = KeysConfig(private_keys=str(tmp_path / "test"), public_keys=str(tmp_path / "public"))

    with pytest.raises(TestKeyRefusedError):
        asyncio.run(load_keys(config, BlobFetcher(timeout_ms=1000)))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys":[]}', b'{"keys":[{}]}', b'{"keys":[{"id":"40","private":"c2hvcnQ="}]}']
)
def test_bad_key_files_are_refused_without_quoting_them(text: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_private_keys(text)
    assert "c2hvcnQ" not in str(caught.value)


def test_two_shares_give_the_key_and_one_is_just_noise() -> None:
    secret = bytes(range(32))
    first, second = split_key(secret, OsRandom())

    assert join_shares(first, second) == join_shares(second, first) == secret
    assert split_key(secret, InsecureFixedRandom(1))[0] == split_key(b"\0" * 32, InsecureFixedRandom(1))[0]
    for bad in (b"", first[:-1]):
        with pytest.raises(ConfigError):
            join_shares(bad, second)


def test_keys_that_cannot_be_published_are_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_new_keys(tmp_path / "private", tmp_path / "missing" / "public")
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_key_file_names_the_file(tmp_path: Path) -> None:
    private, public = tmp_path / "private", tmp_path / "public"
    write_new_keys(private, public)
    config = KeysConfig(private_keys=str(private), public_keys=str(public))
    for broken in (public, private):
        broken.write_text("{}")
        with pytest.raises((ConfigError, KeyListError)) as caught:
            asyncio.run(load_keys(config, BlobFetcher(timeout_ms=1000)))
        assert str(caught.value).startswith(str(broken))
