"""When keys are made, listed and forgotten; keysets in Tink's bytes; shares that only together are a key."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from adyton.auction.errors import ConfigError
from adyton.auction.keys.attestation import Admission, Proof, proof_from_header, proof_to_header
from adyton.auction.keys.errors import (
    KeyServiceAnswerError,
    KeyServiceDownError,
    KeyServiceRequestError,
    NotAttestedError,
)
from adyton.auction.keys.exchange import open_share, seal_share
from adyton.auction.keys.rotation import KeyShare, KeyType, RotationPolicy, keys_missing, list_max_age_s, make_shares
from adyton.auction.keys.store import KeyStore
from adyton.auction.keys.tink import key_of_keyset, private_keyset, public_keyset
from adyton.auction.keys.wire import keys_to_json, shares_from_bytes
from adyton.auction.split_keys import join_shares
from adyton.kernel.chance import InsecureFixedRandom
from adyton.protocol.keys import PrivateKey

HOUR_MS = 3_600_000
POLICY = RotationPolicy(n_published=2, publish_ms=10 * HOUR_MS, grace_ms=4 * HOUR_MS, list_age_ms=4 * HOUR_MS)
SOURCE = InsecureFixedRandom(5)


def make(now_ms: int = 0, key_type: KeyType = KeyType.SPLIT, taken: tuple[KeyShare, ...] = ()) -> tuple[KeyShare, ...]:
    return make_shares(taken, POLICY, now_ms, key_type=key_type, source=SOURCE)


def test_a_list_never_runs_empty_and_no_client_holds_a_key_that_is_gone() -> None:
    shares: list[KeyShare] = []
    for now_ms in range(0, 100 * HOUR_MS, HOUR_MS // 2):
        for _ in range(keys_missing(shares, POLICY, now_ms)):
            shares += make(now_ms, taken=tuple(shares))[:1]
        listed = [share for share in shares if share.is_published(now_ms)]
        assert POLICY.n_published <= len(listed) <= POLICY.n_published + 2
        kept_until_ms = now_ms + 1000 * list_max_age_s(shares, POLICY, now_ms)
        assert kept_until_ms > now_ms
        assert all(share.is_live(kept_until_ms - 1) for share in listed)
        live = [share.key_id for share in shares if share.is_live(now_ms)]
        assert len(set(live)) == len(live)
    assert len(shares) > 15


def test_a_policy_that_would_strand_clients_is_refused() -> None:
    with pytest.raises(ConfigError, match="as long as clients may keep"):
        replace(POLICY, grace_ms=POLICY.list_age_ms - 1)
    with pytest.raises(ConfigError, match="one byte"):
        RotationPolicy(n_published=100, publish_ms=HOUR_MS, grace_ms=2 * HOUR_MS, list_age_ms=0)


def test_all_numbers_in_use_is_an_error_and_not_a_repeat() -> None:
    (share,) = make(key_type=KeyType.SINGLE)
    taken = tuple(replace(share, kms_id=f"{number:02x}" + "0" * 14) for number in range(256))
    with pytest.raises(ConfigError, match="256"):
        make(taken=taken)
    assert make(taken=taken[:255])[0].key_id == 255


def test_keyset_bytes_are_those_of_tinks_schema() -> None:
    key = PrivateKey.from_private(6, bytes(range(32)))
    keyset = private_keyset(key)

    params = bytes.fromhex("0801 1001 1802".replace(" ", ""))
    public = b"\x12\x06" + params + b"\x1a\x20" + key.public
    private = b"\x12" + bytes([len(public)]) + public + b"\x1a\x20" + key.private
    url = b"type.googleapis.com/google.crypto.tink.HpkePrivateKey"
    data = b"\x0a" + bytes([len(url)]) + url + b"\x12" + bytes([len(private)]) + private + b"\x18\x02"
    entry = b"\x0a" + len(data).to_bytes(1, "big") + b"\x01" + data  # 160 <= length < 256: a two-byte varint
    body = entry + b"\x10\x01\x18\x07\x20\x03"
    assert len(data) >= 128
    assert len(body) < 256
    assert keyset == b"\x08\x07\x12" + len(body).to_bytes(1, "big") + b"\x01" + body
    assert key_of_keyset(keyset, key_id=6) == key


@pytest.mark.parametrize("bad", [b"", b"\xff\xff", bytes(40)])
def test_bytes_that_are_no_keyset_are_the_one_error(bad: bytes) -> None:
    with pytest.raises(KeyServiceAnswerError):
        key_of_keyset(bad, key_id=1)


def test_a_public_keyset_is_no_private_key() -> None:
    with pytest.raises(KeyServiceAnswerError, match="no HPKE private key"):
        key_of_keyset(public_keyset(PrivateKey.generate(1)), key_id=1)


def test_two_shares_are_a_key_and_one_is_none() -> None:
    first, second = make()

    key = key_of_keyset(join_shares(first.material, second.material), key_id=first.key_id)
    assert key.public == first.public_key == second.public_key
    assert (first.index, second.index, first.kms_id) == (0, 1, second.kms_id)
    for share in (first, second):
        with pytest.raises(KeyServiceAnswerError):
            key_of_keyset(share.material, key_id=first.key_id)


def test_a_store_survives_a_restart_and_forgets_expired_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    store = KeyStore(path)
    old, new = make(0)[0], make(POLICY.publish_ms)[0]
    store.add(old, now_ms=0)
    store.add(new, now_ms=POLICY.publish_ms)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyStore(path).shares() == (old, new)
    store.add(replace(new, material=b"another"), now_ms=old.expires_at_ms)
    assert KeyStore(path).shares() == (new,), "a share that is held is never replaced"
    path.write_text('{"keys": [{"id": "zz"}]}')
    with pytest.raises(KeyServiceDownError):
        KeyStore(path)


def test_a_share_travels_sealed_and_any_change_is_refused() -> None:
    _, share = make()
    secret = bytes(range(32))
    body = seal_share(share, secret, SOURCE)

    assert open_share(body, secret) == share
    assert share.material not in body
    for bad in (b"", body[:-1], body + b"\0", bytes([body[0] ^ 1]) + body[1:]):
        with pytest.raises(KeyServiceRequestError):
            open_share(bad, secret)
    with pytest.raises(KeyServiceRequestError):
        open_share(body, bytes(32))


def test_the_answer_has_the_documented_members_and_opens_with_the_admissions_key_only() -> None:
    admission = Admission(bytes(range(32)), b"grant")
    for share, n_entries in ((make()[1], 2), (make(key_type=KeyType.SINGLE)[0], 1)):
        document = keys_to_json([share], admission, encryption_uri="adyton-broker://a", source=SOURCE)
        body = json.dumps(document).encode()

        (entry,) = json.loads(body)["keys"]
        assert entry["name"] == f"encryptionKeys/{share.kms_id}"
        assert entry["encryptionKeyType"] == share.key_type.value
        assert entry["creationTime"] == str(share.created_at_ms)
        assert len(entry["keyData"]) == n_entries
        assert [bool(data["keyMaterial"]) for data in entry["keyData"]].index(True) == share.index
        (released,) = shares_from_bytes(body, admission.key)
        assert (released.material, released.index) == (share.material, share.index)
        renamed = body.replace(share.kms_id.encode(), b"00" * 8)
        for bad, key in ((body, bytes(32)), (renamed, admission.key), (b"{}", admission.key), (b"[1", admission.key)):
            with pytest.raises(KeyServiceAnswerError):
                shares_from_bytes(bad, key)


def test_a_proof_survives_the_header_and_other_headers_are_refused() -> None:
    proof = Proof("dev-sim", b"evidence", bytes(32), bytes(range(32)), (b"certificate",))
    header = proof_to_header(proof)

    assert proof_from_header(header) == proof
    for missing in (None, "", "Bearer abc"):
        with pytest.raises(NotAttestedError):
            proof_from_header(missing)
    for bad in (header[:-5], "Adyton-Evidence !", "Adyton-Evidence e30=", header + "A" * 200_000):
        with pytest.raises(KeyServiceRequestError):
            proof_from_header(bad)
