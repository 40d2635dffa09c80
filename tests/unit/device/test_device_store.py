"""The store: atomic, sealed, and honest about damage."""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
from pathlib import Path

import pytest

from adyton.device.device import Device
from adyton.device.errors import DeviceStoreError
from adyton.device.records import EncodedPayload
from adyton.device.signals import Change, Signal
from adyton.device.store import DeviceStore
from adyton.device.vault import Vault, load_device_key
from adyton.device.web import Web
from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.ids import BuyerId
from adyton.protocol.errors import SignalUpdateError
from adyton.protocol.keys import TEST_MODE_KEY

KEY = b"\x05" * 32
BUYER = BuyerId("buyer.example")
SECRET = b"signal-value-9f31"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def put(value: bytes, key: int = 1) -> str:
    return json.dumps({"put": {b64(key.to_bytes(4, "big")): b64(value)}})


def device_at(path: Path | None) -> Device:
    return Device.open(path, device_key=KEY, web=Web(), public_keys=[TEST_MODE_KEY.public_key])


def test_signals_survive_closing_and_opening(tmp_path: Path) -> None:
    device = device_at(tmp_path / "device.sqlite")
    device.apply_update(BUYER, "com.news", put(SECRET))
    device.close()

    store = DeviceStore(tmp_path / "device.sqlite", Vault(KEY))

    assert [(s.key, s.value, s.package) for s in store.signals(BUYER)] == [(b"\0\0\0\1", SECRET, "com.news")]


def test_no_file_holds_a_signal_or_a_payload_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "device.sqlite"
    device = device_at(path)
    for n in range(20):
        device.apply_update(BUYER, "com.news", put(SECRET, n))
    store = DeviceStore(path, Vault(KEY))
    store.store_payload(EncodedPayload(BUYER, b"payload-" + SECRET, 1, 1, 1, 1))
    device.get_ad_selection_data("seller.example", package="com.news")

    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())

    assert b"buyer.example" in written
    for form in (SECRET, b64(SECRET).encode(), SECRET.hex().encode()):
        assert form not in written


def test_no_log_error_or_repr_shows_a_signal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = DeviceStore(None, Vault(KEY))
    signal = Signal(b"kkkk", SECRET, "com.news", 1)
    change = Change((), (signal,), 0)
    store.write_change(BUYER, change)
    device = device_at(None)
    with pytest.raises(SignalUpdateError) as caught:
        device.apply_update(BUYER, "com.news", put(SECRET * 10))
    payload = EncodedPayload(BUYER, SECRET, 1, 1, 1, 1)

    shown = [repr(signal), repr(change), repr(store.signals(BUYER)), repr(payload), repr(caught.value), caplog.text]
    shown += [repr(store.signal_facts()), repr(device.list_apps()), str(caught.value)]

    for text in shown:
        assert SECRET.decode() not in text
        assert b64(SECRET) not in text
        assert "kkkk" not in text


def test_a_failing_update_changes_nothing() -> None:
    device = device_at(None)
    device.apply_update(BUYER, "com.news", put(b"old"))
    before = device.list_signals()

    bad = json.dumps({"put": {"AAAAAQ==": b64(b"new"), "AAAAAg==": "!"}})
    with pytest.raises(SignalUpdateError):
        device.apply_update(BUYER, "com.news", bad)

    assert device.list_signals() == before


def test_a_transaction_that_fails_half_way_is_undone() -> None:
    store = DeviceStore(None, Vault(KEY))

    def write_and_fail() -> None:
        with store.transaction():
            store.write_change(BUYER, Change((), (Signal(bytes(4), b"x", "com.news", 1),), 0))
            store.set_blocked("com.news", True)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_and_fail()

    assert store.signals(BUYER) == []
    assert store.signal_revision(BUYER) == 0
    assert not store.is_blocked("com.news")


def test_another_device_key_opens_nothing(tmp_path: Path) -> None:
    device_at(tmp_path / "device.sqlite").close()

    with pytest.raises(DeviceStoreError, match="does not open"):
        DeviceStore(tmp_path / "device.sqlite", Vault(b"\x06" * 32))


def test_a_sealed_value_moved_to_another_place_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "device.sqlite"
    device = device_at(path)
    device.apply_update(BUYER, "com.news", put(SECRET))
    device.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE signal SET buyer = 'thief.example'")

    with pytest.raises(DeviceStoreError, match="does not open"):
        DeviceStore(path, Vault(KEY)).signals(BuyerId("thief.example"))


@pytest.mark.parametrize("content", [b"this is not a database at all, but longer than a header of SQLite is" * 20])
def test_a_damaged_file_is_reported_as_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "device.sqlite"
    path.write_bytes(content)

    with pytest.raises(DeviceStoreError, match="the store cannot be used"):
        DeviceStore(path, Vault(KEY))


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "device.sqlite"
    DeviceStore(path, Vault(KEY)).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")

    with pytest.raises(DeviceStoreError, match="version 99"):
        DeviceStore(path, Vault(KEY))


def test_the_device_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "device.key"

    key = load_device_key(path, InsecureFixedRandom(1))

    assert load_device_key(path) == key
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(b"short")
    with pytest.raises(DeviceStoreError, match="not a device key"):
        load_device_key(path)
    with pytest.raises(DeviceStoreError, match="cannot be read"):
        load_device_key(tmp_path / "missing" / "device.key")


def test_two_devices_in_memory_share_nothing() -> None:
    first, second = device_at(None), device_at(None)

    first.apply_update(BUYER, "com.news", put(SECRET))

    assert len(first.list_signals()) == 1
    assert second.list_signals() == []
