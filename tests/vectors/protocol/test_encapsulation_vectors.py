"""Known answers of protected-auction §16.1 and §16.2, each with siblings that must fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adyton.protocol.errors import DecryptionError, EncapsulationError, UnknownKeyError
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing, PrivateKey
from adyton.protocol.ohttp import Label, Receiver, decapsulate_request, encapsulate_request
from adyton.protocol.tee import open_request, seal_request

EPHEMERAL = b"\x77" * 32
NONCE = b"\x6c" * 32
ENC = "1cf579aba45a10ba1d1ef06d91fca2aa9ed0a1150515653155405d0b18cb9a67"
PUBLISHED_KEY = PrivateKey(
    4,
    bytes.fromhex("b77431ecfa8f4cfc30d6e467aafa06944dffe28cb9dd1409e33a3045f5adc8a1"),
    bytes.fromhex("6d21cfe09fbea5122f9ebc2eb2a69fcc4f06408cd54aac934f012e76fcdcef62"),
)
PUBLISHED = [
    (
        Label.SFE_CURRENT,
        "0004002000010002" + ENC + "70fbc40afc43d174f4b43cad7157d7b82b42f00aba7333d5f6c998918cca",
        "a13903afb02a309d166f727cf2dd0dbd3c06dde7a508e817cd29e83d5fd173",
    ),
    (
        Label.SFE_LEGACY,
        "04002000010002" + ENC + "2ef2da3b97acee493624b9959f0fc6df008a6f0701c923c5a60ed0ed2c34",
        "f623a32dba30cdf1a011543bdd7e95ace60be30b029574dc3be9abee478df9",
    ),
]
TEST_KEY = [
    (
        Label.SFE_CURRENT,
        Receiver.SELLER_FRONT_END,
        "020000000568656c6c6f",
        "0040002000010002" + ENC + "71461b23df74e5915d6805418b5084abdab4e5c3f43e8a9dd764",
        "30f4b0ea8dc33b039e2d2b1d7769183877ae25f421cfa2f10e94",
    ),
    (
        Label.KEY_VALUE,
        Receiver.KEY_VALUE,
        "000000000568656c6c6f",
        "40002000010002" + ENC + "5a31404f04e0b519af10012be6dd3cd81bd63dfcba5bb86ef351",
        "61a024241d7141b64c9acf74262273a644d9467a46e17d6f83b5",
    ),
]


@pytest.mark.parametrize(("label", "request_hex", "response_hex"), PUBLISHED)
def test_published_request_and_response_come_out_byte_for_byte(
    label: Label, request_hex: str, response_hex: str
) -> None:
    body, client = encapsulate_request(PUBLISHED_KEY.public_key, b"test request 1", label, ephemeral_private=EPHEMERAL)
    plaintext, server = decapsulate_request(KeyRing([PUBLISHED_KEY]), bytes.fromhex(request_hex))
    response = server.encapsulate_response(b"test response 1", NONCE)

    assert body.hex() == request_hex
    assert plaintext == b"test request 1"
    assert server.label is label
    assert server.key_id == 4
    assert response == NONCE + bytes.fromhex(response_hex)
    assert client.decapsulate_response(response) == b"test response 1"


@pytest.mark.parametrize(("label", "receiver", "plaintext_hex", "request_hex", "response_hex"), TEST_KEY)
def test_test_key_request_and_response_come_out_byte_for_byte(
    label: Label, receiver: Receiver, plaintext_hex: str, request_hex: str, response_hex: str
) -> None:
    plaintext = bytes.fromhex(plaintext_hex)

    body, client = encapsulate_request(TEST_MODE_KEY.public_key, plaintext, label, ephemeral_private=EPHEMERAL)
    opened, server = decapsulate_request(KeyRing.test_mode(), body, expect=receiver)
    response = server.encapsulate_response(plaintext, NONCE)

    assert body.hex() == request_hex
    assert opened == plaintext
    assert response == NONCE + bytes.fromhex(response_hex)
    assert client.decapsulate_response(response) == plaintext


def test_tee_request_and_response_come_out_byte_for_byte() -> None:
    ciphertext, client = seal_request(TEST_MODE_KEY.public_key, b"hello", ephemeral_private=EPHEMERAL)
    plaintext, server = open_request(KeyRing.test_mode(), ciphertext, "64")
    response = server.seal_response(b"world", bytes(12))

    assert ciphertext.hex() == ENC + "038f768dd9a2c7c0b466d30266f4ce4e15caedbdaf"
    assert plaintext == b"hello"
    assert client.secret.hex() == "01d92c72496dc5e7e438beaab6e7f3f3b39e929a673d0d733890dfdd46a3bd5d"
    assert server.secret == client.secret
    assert response.hex() == "00" * 12 + "156cc53aa07d24fc844b3d32a445a2e16d67c9126e"
    assert client.open_response(response) == b"world"


@pytest.mark.parametrize(("label", "request_hex", "response_hex"), PUBLISHED)
def test_any_flipped_bit_of_a_request_is_refused(label: Label, request_hex: str, response_hex: str) -> None:
    body = bytes.fromhex(request_hex)
    ring = KeyRing([PUBLISHED_KEY])

    for changed in every_bit_flipped(body):
        with pytest.raises(EncapsulationError):
            decapsulate_request(ring, changed)


@pytest.mark.parametrize(("label", "request_hex", "response_hex"), PUBLISHED)
def test_any_flipped_bit_of_a_response_is_refused(label: Label, request_hex: str, response_hex: str) -> None:
    _, client = encapsulate_request(PUBLISHED_KEY.public_key, b"x", label, ephemeral_private=EPHEMERAL)
    response = NONCE + bytes.fromhex(response_hex)

    assert client.decapsulate_response(response) == b"test response 1"
    for changed in every_bit_flipped(response):
        with pytest.raises(DecryptionError):
            client.decapsulate_response(changed)


@pytest.mark.parametrize("length", range(55 + 15))
def test_every_cut_of_a_request_is_refused(length: int) -> None:
    body = bytes.fromhex(PUBLISHED[0][1])[:length]

    with pytest.raises(EncapsulationError):
        decapsulate_request(KeyRing([PUBLISHED_KEY]), body)


def test_another_private_key_under_the_same_number_is_refused() -> None:
    other = PrivateKey.from_private(4, b"\x01" * 32)

    with pytest.raises(DecryptionError, match="Malformed OHTTP encapsulated request provided"):
        decapsulate_request(KeyRing([other]), bytes.fromhex(PUBLISHED[0][1]))


def test_an_unknown_key_number_is_named_as_the_reference_names_it() -> None:
    ring = KeyRing([PrivateKey.from_private(5, PUBLISHED_KEY.private)])

    with pytest.raises(UnknownKeyError) as caught:
        decapsulate_request(ring, bytes.fromhex(PUBLISHED[0][1]))

    assert caught.value.what == ("Unable to get private key for the key ID in OHTTP encapsulated request. Key ID: 4")


def test_a_legacy_request_with_a_zero_in_front_is_not_a_current_one() -> None:
    with pytest.raises(DecryptionError):
        decapsulate_request(KeyRing([PUBLISHED_KEY]), b"\0" + bytes.fromhex(PUBLISHED[1][1]))


def test_a_key_value_request_is_not_a_legacy_request() -> None:
    body = bytes.fromhex(TEST_KEY[1][3])

    with pytest.raises(DecryptionError):
        decapsulate_request(KeyRing.test_mode(), body)


def test_an_unknown_format_and_a_broken_key_id_have_the_reference_texts() -> None:
    with pytest.raises(EncapsulationError, match=r"^Unrecognized encapsulated request format$"):
        decapsulate_request(KeyRing.test_mode(), b"\x01" * 80)
    with pytest.raises(EncapsulationError, match=r"^Invalid key ID provided in OHTTP encapsulated request$"):
        decapsulate_request(KeyRing.test_mode(), b"\x01" * 80, expect=Receiver.KEY_VALUE)


def test_a_response_opens_only_with_the_context_of_its_own_request() -> None:
    key = TEST_MODE_KEY.public_key
    first, _ = encapsulate_request(key, b"same", Label.SFE_CURRENT)
    _, second_client = encapsulate_request(key, b"same", Label.SFE_CURRENT)
    _, first_server = decapsulate_request(KeyRing.test_mode(), first)

    with pytest.raises(DecryptionError):
        second_client.decapsulate_response(first_server.encapsulate_response(b"answer"))


def test_any_flipped_bit_between_services_is_refused() -> None:
    ciphertext, client = seal_request(TEST_MODE_KEY.public_key, b"hello", ephemeral_private=EPHEMERAL)
    _, server = open_request(KeyRing.test_mode(), ciphertext, b"64")
    response = server.seal_response(b"world", bytes(12))

    for changed in every_bit_flipped(ciphertext):
        with pytest.raises(DecryptionError, match=r"Malformed request ciphertext\."):
            open_request(KeyRing.test_mode(), changed, "64")
    for changed in every_bit_flipped(response):
        with pytest.raises(DecryptionError):
            client.open_response(changed)


@pytest.mark.parametrize("key_id", ["", "x", "-1", "256", "64 ", b"\xff", "٦٤"])
def test_a_key_id_that_is_no_number_is_refused(key_id: str | bytes) -> None:
    ciphertext, _ = seal_request(TEST_MODE_KEY.public_key, b"hello")

    with pytest.raises(EncapsulationError, match=r"^Invalid key_id\.$"):
        open_request(KeyRing.test_mode(), ciphertext, key_id)


@pytest.mark.parametrize("opener", [lambda c: open_request(KeyRing.test_mode(), c, "64")])
def test_a_low_order_encapsulated_key_is_refused(opener: Callable[[bytes], object]) -> None:
    for point in (bytes(32), bytes([1]) + bytes(31)):
        with pytest.raises(DecryptionError):
            opener(point + bytes(48))


def every_bit_flipped(data: bytes) -> list[bytes]:
    """Every byte string that differs from `data` in one bit, except in the bit that X25519 ignores.

    RFC 7748 §5 masks the top bit of a public key, so `enc` is one of two encodings; HPKE binds `enc` into the key
    schedule, and the flipped one fails all the same.
    """
    flipped = []
    for i in range(len(data) * 8):
        changed = bytearray(data)
        changed[i // 8] ^= 1 << (i % 8)
        flipped.append(bytes(changed))
    return flipped


def test_a_key_number_without_a_key_is_refused_between_services() -> None:
    ciphertext, _ = seal_request(PUBLISHED_KEY.public_key, b"hello")

    with pytest.raises(UnknownKeyError, match=r"^Invalid key_id\.$"):
        open_request(KeyRing([PUBLISHED_KEY]), ciphertext, "5")
    with pytest.raises(UnknownKeyError):
        open_request(KeyRing.test_mode(), ciphertext, 256)
