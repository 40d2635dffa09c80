"""Padding sizes, compression bounds, and keys by number."""

from __future__ import annotations

import gzip
import json

import pytest

from adyton.kernel.chance import InsecureFixedRandom
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.errors import KeyListError, MalformedMessageError, TestKeyRefusedError
from adyton.protocol.frames import (
    PaddingFormat,
    decode_client_frame,
    encode_client_frame,
    padded_key_value_response_size,
    padded_request_size,
    padded_response_size,
)
from adyton.protocol.keys import (
    TEST_MODE_KEY,
    KeyRing,
    PrivateKey,
    PublicKey,
    key_id_of,
    key_list_lifetime_s,
    kms_id_of,
    parse_public_key_list,
    print_public_key_list,
)


@pytest.mark.parametrize(
    ("n_payload", "v0", "v1"),
    [
        (0, 1024, 1024),
        (1019, 1024, 1024),
        (1020, 2048, 2048),
        (65531, 65536, 65536),
    ],
)
def test_request_sizes_step_up_where_header_and_payload_pass_a_bucket(n_payload: int, v0: int, v1: int) -> None:
    assert padded_request_size(n_payload, PaddingFormat.V0) == v0
    assert padded_request_size(n_payload, PaddingFormat.V1) == v1


def test_v0_ends_at_64_kib_and_v1_does_not() -> None:
    with pytest.raises(MalformedMessageError, match=r"^Payload exceeds maximum size of 64KB$"):
        padded_request_size(65532, PaddingFormat.V0)
    assert padded_request_size(65532, PaddingFormat.V1) == 131072


def test_v2_is_the_sellers_maximum_or_nothing() -> None:
    assert padded_request_size(100, PaddingFormat.V2, max_size=105) == 105
    with pytest.raises(MalformedMessageError):
        padded_request_size(101, PaddingFormat.V2, max_size=105)
    with pytest.raises(MalformedMessageError):
        padded_request_size(100, PaddingFormat.V2)


@pytest.mark.parametrize(
    ("n_payload", "response", "key_value"), [(0, 512, 8), (3, 512, 8), (4, 512, 16), (507, 512, 512), (508, 1024, 1024)]
)
def test_response_sizes_are_powers_of_two(n_payload: int, response: int, key_value: int) -> None:
    assert padded_response_size(n_payload) == response
    assert padded_key_value_response_size(n_payload) == key_value


@pytest.mark.parametrize("frame", [b"", b"\x02\0\0\0", b"\x02\0\0\0\x01", b"\x02\xff\xff\xff\xffabc"])
def test_a_frame_that_ends_too_early_is_refused(frame: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_client_frame(frame)


def test_a_frame_that_does_not_fit_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        encode_client_frame(b"123456", size=10)
    with pytest.raises(MalformedMessageError):
        encode_client_frame(b"", version=8)


def test_gzip_is_the_same_on_every_run_and_bounded() -> None:
    bomb = gzip_compress(bytes(1_000_000))

    assert gzip_compress(b"abc") == gzip_compress(b"abc")
    assert gzip.decompress(gzip_compress(b"abc")) == b"abc"
    assert len(gzip_decompress(bomb, max_bytes=1_000_000)) == 1_000_000
    with pytest.raises(MalformedMessageError, match="larger than 999999"):
        gzip_decompress(bomb, max_bytes=999_999)
    assert gzip_decompress(gzip_compress(b""), max_bytes=0) == b""
    with pytest.raises(MalformedMessageError, match="larger than 0"):
        gzip_decompress(gzip_compress(b"a"), max_bytes=0)


@pytest.mark.parametrize("body", [b"", b"abc", gzip_compress(b"abc")[:-1], gzip_compress(b"abc") + b"x"])
def test_what_is_not_one_whole_gzip_member_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        gzip_decompress(body)


def test_the_key_number_is_the_first_two_hex_digits() -> None:
    assert key_id_of("4000000000000000") == 64
    assert key_id_of("ff") == 255
    assert kms_id_of(64) == "4000000000000000"
    for wrong in ("", "4", "xyz", "4g", "-1"):
        with pytest.raises(KeyListError):
            key_id_of(wrong)


def test_the_test_key_is_refused_outside_test_mode() -> None:
    listed = print_public_key_list([TEST_MODE_KEY.public_key])

    with pytest.raises(TestKeyRefusedError):
        KeyRing([TEST_MODE_KEY])
    with pytest.raises(TestKeyRefusedError):
        KeyRing([PrivateKey(7, TEST_MODE_KEY.private, TEST_MODE_KEY.public)])
    with pytest.raises(TestKeyRefusedError):
        parse_public_key_list(listed)
    assert parse_public_key_list(listed, test_mode=True) == (TEST_MODE_KEY.public_key,)
    assert KeyRing.test_mode().private_key(200).private == TEST_MODE_KEY.private


def test_the_printed_test_key_is_the_published_base64() -> None:
    entry = json.loads(print_public_key_list([TEST_MODE_KEY.public_key]))["keys"][0]

    assert entry == {"id": "4000000000000000", "key": "87ey8XZPXAd+/+ytKv2GFUWW5j9zdepSJ2G4gebDwyM="}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys":[]}',
        '{"keys":[1]}',
        '{"keys":[{"id":"40","key":1}]}',
        '{"keys":[{"id":"40","key":"AA=="}]}',
        '{"keys":[{"id":"zz","key":"87ey8XZPXAd+/+ytKv2GFUWW5j9zdepSJ2G4gebDwyM="}]}',
    ],
)
def test_a_list_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(KeyListError):
        parse_public_key_list(text, test_mode=True)


def test_a_private_key_never_shows_itself_and_must_fit_its_public_key() -> None:
    key = PrivateKey.generate(9, InsecureFixedRandom(1))

    assert key.private.hex() not in repr(key)
    assert repr(key.private) not in repr(key)
    with pytest.raises(KeyListError):
        PrivateKey(9, key.private, TEST_MODE_KEY.public)
    with pytest.raises(KeyListError):
        PublicKey(256, key.public)
    with pytest.raises(KeyListError):
        KeyRing([key, key])


@pytest.mark.parametrize(
    ("cache_control", "age", "lifetime_s"),
    [
        (None, None, 14 * 24 * 3600),
        ("no-transform", "5", 14 * 24 * 3600),
        ("public, max-age=100", "40", 60),
        ("max-age=100", "140", 0),
        ("max-age=100", "x", 100),
        ("s-max-age=9, max-age=7", None, 7),
    ],
)
def test_a_key_list_lives_max_age_minus_age(cache_control: str | None, age: str | None, lifetime_s: int) -> None:
    assert key_list_lifetime_s(cache_control=cache_control, age=age) == lifetime_s
