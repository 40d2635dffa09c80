from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeyStatusType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN_STATUS: _ClassVar[KeyStatusType]
    ENABLED: _ClassVar[KeyStatusType]
    DISABLED: _ClassVar[KeyStatusType]
    DESTROYED: _ClassVar[KeyStatusType]

class OutputPrefixType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN_PREFIX: _ClassVar[OutputPrefixType]
    TINK: _ClassVar[OutputPrefixType]
    LEGACY: _ClassVar[OutputPrefixType]
    RAW: _ClassVar[OutputPrefixType]
    CRUNCHY: _ClassVar[OutputPrefixType]

class HpkeKem(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEM_UNKNOWN: _ClassVar[HpkeKem]
    DHKEM_X25519_HKDF_SHA256: _ClassVar[HpkeKem]

class HpkeKdf(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KDF_UNKNOWN: _ClassVar[HpkeKdf]
    HKDF_SHA256: _ClassVar[HpkeKdf]

class HpkeAead(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AEAD_UNKNOWN: _ClassVar[HpkeAead]
    AES_128_GCM: _ClassVar[HpkeAead]
    AES_256_GCM: _ClassVar[HpkeAead]
    CHACHA20_POLY1305: _ClassVar[HpkeAead]
UNKNOWN_STATUS: KeyStatusType
ENABLED: KeyStatusType
DISABLED: KeyStatusType
DESTROYED: KeyStatusType
UNKNOWN_PREFIX: OutputPrefixType
TINK: OutputPrefixType
LEGACY: OutputPrefixType
RAW: OutputPrefixType
CRUNCHY: OutputPrefixType
KEM_UNKNOWN: HpkeKem
DHKEM_X25519_HKDF_SHA256: HpkeKem
KDF_UNKNOWN: HpkeKdf
HKDF_SHA256: HpkeKdf
AEAD_UNKNOWN: HpkeAead
AES_128_GCM: HpkeAead
AES_256_GCM: HpkeAead
CHACHA20_POLY1305: HpkeAead

class KeyData(_message.Message):
    __slots__ = ("type_url", "value", "key_material_type")
    class KeyMaterialType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN_KEYMATERIAL: _ClassVar[KeyData.KeyMaterialType]
        SYMMETRIC: _ClassVar[KeyData.KeyMaterialType]
        ASYMMETRIC_PRIVATE: _ClassVar[KeyData.KeyMaterialType]
        ASYMMETRIC_PUBLIC: _ClassVar[KeyData.KeyMaterialType]
        REMOTE: _ClassVar[KeyData.KeyMaterialType]
    UNKNOWN_KEYMATERIAL: KeyData.KeyMaterialType
    SYMMETRIC: KeyData.KeyMaterialType
    ASYMMETRIC_PRIVATE: KeyData.KeyMaterialType
    ASYMMETRIC_PUBLIC: KeyData.KeyMaterialType
    REMOTE: KeyData.KeyMaterialType
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KEY_MATERIAL_TYPE_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    value: bytes
    key_material_type: KeyData.KeyMaterialType
    def __init__(self, type_url: _Optional[str] = ..., value: _Optional[bytes] = ..., key_material_type: _Optional[_Union[KeyData.KeyMaterialType, str]] = ...) -> None: ...

class Keyset(_message.Message):
    __slots__ = ("primary_key_id", "key")
    class Key(_message.Message):
        __slots__ = ("key_data", "status", "key_id", "output_prefix_type")
        KEY_DATA_FIELD_NUMBER: _ClassVar[int]
        STATUS_FIELD_NUMBER: _ClassVar[int]
        KEY_ID_FIELD_NUMBER: _ClassVar[int]
        OUTPUT_PREFIX_TYPE_FIELD_NUMBER: _ClassVar[int]
        key_data: KeyData
        status: KeyStatusType
        key_id: int
        output_prefix_type: OutputPrefixType
        def __init__(self, key_data: _Optional[_Union[KeyData, _Mapping]] = ..., status: _Optional[_Union[KeyStatusType, str]] = ..., key_id: _Optional[int] = ..., output_prefix_type: _Optional[_Union[OutputPrefixType, str]] = ...) -> None: ...
    PRIMARY_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    primary_key_id: int
    key: _containers.RepeatedCompositeFieldContainer[Keyset.Key]
    def __init__(self, primary_key_id: _Optional[int] = ..., key: _Optional[_Iterable[_Union[Keyset.Key, _Mapping]]] = ...) -> None: ...

class HpkeParams(_message.Message):
    __slots__ = ("kem", "kdf", "aead")
    KEM_FIELD_NUMBER: _ClassVar[int]
    KDF_FIELD_NUMBER: _ClassVar[int]
    AEAD_FIELD_NUMBER: _ClassVar[int]
    kem: HpkeKem
    kdf: HpkeKdf
    aead: HpkeAead
    def __init__(self, kem: _Optional[_Union[HpkeKem, str]] = ..., kdf: _Optional[_Union[HpkeKdf, str]] = ..., aead: _Optional[_Union[HpkeAead, str]] = ...) -> None: ...

class HpkePublicKey(_message.Message):
    __slots__ = ("version", "params", "public_key")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    version: int
    params: HpkeParams
    public_key: bytes
    def __init__(self, version: _Optional[int] = ..., params: _Optional[_Union[HpkeParams, _Mapping]] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class HpkePrivateKey(_message.Message):
    __slots__ = ("version", "public_key", "private_key")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    version: int
    public_key: HpkePublicKey
    private_key: bytes
    def __init__(self, version: _Optional[int] = ..., public_key: _Optional[_Union[HpkePublicKey, _Mapping]] = ..., private_key: _Optional[bytes] = ...) -> None: ...
