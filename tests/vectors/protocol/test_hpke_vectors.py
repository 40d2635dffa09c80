"""HPKE against RFC 9180 appendix A.2 (base mode) and against an independent implementation."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from adyton.protocol.errors import DecryptionError, KeyListError
from adyton.protocol.hpke import Aead, public_of, setup_recipient, setup_sender

# RFC 9180 A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode.
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
SKE = bytes.fromhex("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
SKR = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
PKR = bytes.fromhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
ENC = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
PLAINTEXT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
AAD = bytes.fromhex("436f756e742d30")
CIPHERTEXT = bytes.fromhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")
EXPORTED = bytes.fromhex("4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e")
SUITES = {Aead.AES_256_GCM: AEAD.AES_256_GCM, Aead.CHACHA20_POLY1305: AEAD.CHACHA20_POLY1305}


def test_rfc_9180_base_mode_vector() -> None:
    sender = setup_sender(PKR, info=INFO, aead=Aead.CHACHA20_POLY1305, ephemeral_private=SKE)
    recipient = setup_recipient(ENC, SKR, info=INFO, aead=Aead.CHACHA20_POLY1305)

    assert sender.enc == ENC
    assert public_of(SKR) == PKR
    assert sender.seal(PLAINTEXT, aad=AAD) == CIPHERTEXT
    assert recipient.open(CIPHERTEXT, aad=AAD) == PLAINTEXT
    assert sender.export(b"", 32) == EXPORTED
    assert recipient.export(b"", 32) == EXPORTED


@pytest.mark.parametrize("aead", list(Aead))
def test_the_other_implementation_opens_what_we_seal(aead: Aead) -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, SUITES[aead])
    sender = setup_sender(PKR, info=INFO, aead=aead)

    opened = suite.decrypt(sender.enc + sender.seal(PLAINTEXT), X25519PrivateKey.from_private_bytes(SKR), INFO)

    assert opened == PLAINTEXT


@pytest.mark.parametrize("aead", list(Aead))
def test_we_open_what_the_other_implementation_seals(aead: Aead) -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, SUITES[aead])
    sealed = suite.encrypt(PLAINTEXT, X25519PublicKey.from_public_bytes(PKR), INFO)

    assert setup_recipient(sealed[:32], SKR, info=INFO, aead=aead).open(sealed[32:]) == PLAINTEXT


@pytest.mark.parametrize(
    ("private", "info", "aead", "aad"),
    [
        (b"\x11" * 32, INFO, Aead.CHACHA20_POLY1305, AAD),
        (SKR, INFO + b"x", Aead.CHACHA20_POLY1305, AAD),
        (SKR, INFO, Aead.AES_256_GCM, AAD),
        (SKR, INFO, Aead.CHACHA20_POLY1305, b""),
    ],
    ids=["another key", "another info", "another AEAD", "another aad"],
)
def test_anything_else_does_not_open(private: bytes, info: bytes, aead: Aead, aad: bytes) -> None:
    recipient = setup_recipient(ENC, private, info=info, aead=aead)

    with pytest.raises(DecryptionError):
        recipient.open(CIPHERTEXT, aad=aad)


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(KeyListError):
        setup_sender(PKR[:-1], info=b"", aead=Aead.AES_256_GCM)
    with pytest.raises(KeyListError):
        setup_sender(bytes(32), info=b"", aead=Aead.AES_256_GCM)
    with pytest.raises(DecryptionError):
        setup_recipient(ENC[:-1], SKR, info=b"", aead=Aead.AES_256_GCM)
