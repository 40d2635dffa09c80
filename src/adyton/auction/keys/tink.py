"""A key pair as Tink writes it: a serialized `Keyset` with one HPKE key (protected-auction §14.2)."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from adyton.auction.keys.errors import KeyServiceAnswerError
from adyton.protocol.errors import KeyListError
from adyton.protocol.keys import PrivateKey
from adyton.protocol.messages import tink_pb2 as tink

PRIVATE_TYPE_URL = "type.googleapis.com/google.crypto.tink.HpkePrivateKey"
PUBLIC_TYPE_URL = "type.googleapis.com/google.crypto.tink.HpkePublicKey"
# The suite of client requests; the services choose the AEAD of their own hops themselves (§5.1).
_PARAMS = tink.HpkeParams(kem=tink.DHKEM_X25519_HKDF_SHA256, kdf=tink.HKDF_SHA256, aead=tink.AES_256_GCM)


def private_keyset(key: PrivateKey) -> bytes:
    """The keyset of a pair; its one key has the pair's number and no output prefix."""
    value = tink.HpkePrivateKey(public_key=_public(key), private_key=key.private)
    return _keyset(key.key_id, PRIVATE_TYPE_URL, value.SerializeToString(), tink.KeyData.ASYMMETRIC_PRIVATE)


def public_keyset(key: PrivateKey) -> bytes:
    """The keyset of the public half."""
    return _keyset(key.key_id, PUBLIC_TYPE_URL, _public(key).SerializeToString(), tink.KeyData.ASYMMETRIC_PUBLIC)


def key_of_keyset(keyset: bytes, *, key_id: int) -> PrivateKey:
    """The pair of a serialized keyset that holds exactly one enabled HPKE private key, under the number `key_id`.

    Raises KeyServiceAnswerError, never quoting what it read.
    """
    try:
        parsed = tink.Keyset.FromString(keyset)
        if len(parsed.key) != 1 or parsed.key[0].status != tink.ENABLED:
            raise KeyServiceAnswerError("a keyset must hold one enabled key", where=f"key {key_id}")
        data = parsed.key[0].key_data
        if data.type_url != PRIVATE_TYPE_URL:
            raise KeyServiceAnswerError("the keyset holds no HPKE private key", where=f"key {key_id}")
        value = tink.HpkePrivateKey.FromString(data.value)
        params = value.public_key.params
        if params.kem != tink.DHKEM_X25519_HKDF_SHA256 or params.kdf != tink.HKDF_SHA256:
            raise KeyServiceAnswerError("the key is for another HPKE suite", where=f"key {key_id}")
        return PrivateKey(key_id, value.private_key, value.public_key.public_key)
    except (DecodeError, KeyListError, ValueError) as error:
        raise KeyServiceAnswerError("the keyset cannot be read: are both shares of the same key?") from error


def _public(key: PrivateKey) -> tink.HpkePublicKey:
    return tink.HpkePublicKey(params=_PARAMS, public_key=key.public)


def _keyset(key_id: int, type_url: str, value: bytes, material: tink.KeyData.KeyMaterialType) -> bytes:
    data = tink.KeyData(type_url=type_url, value=value, key_material_type=material)
    # Tink reserves key id 0; the number of a request's key may be 0.
    key = tink.Keyset.Key(key_data=data, status=tink.ENABLED, key_id=key_id + 1, output_prefix_type=tink.RAW)
    return tink.Keyset(primary_key_id=key_id + 1, key=[key]).SerializeToString(deterministic=True)
