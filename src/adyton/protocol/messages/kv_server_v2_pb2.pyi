from adyton.protocol.messages import http_body_pb2 as _http_body_pb2
from adyton.protocol.messages import kv_server_pb2 as _kv_server_pb2
from adyton.protocol.messages import rpc_status_pb2 as _rpc_status_pb2
from adyton.protocol.messages import server_common_pb2 as _server_common_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetValuesHttpRequest(_message.Message):
    __slots__ = ("raw_body",)
    RAW_BODY_FIELD_NUMBER: _ClassVar[int]
    raw_body: _http_body_pb2.HttpBody
    def __init__(self, raw_body: _Optional[_Union[_http_body_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class ObliviousGetValuesRequest(_message.Message):
    __slots__ = ("raw_body",)
    RAW_BODY_FIELD_NUMBER: _ClassVar[int]
    raw_body: _http_body_pb2.HttpBody
    def __init__(self, raw_body: _Optional[_Union[_http_body_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class RequestPartition(_message.Message):
    __slots__ = ("id", "compression_group_id", "metadata", "arguments")
    ID_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    id: int
    compression_group_id: int
    metadata: _struct_pb2.Struct
    arguments: _containers.RepeatedCompositeFieldContainer[_kv_server_pb2.UDFArgument]
    def __init__(self, id: _Optional[int] = ..., compression_group_id: _Optional[int] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., arguments: _Optional[_Iterable[_Union[_kv_server_pb2.UDFArgument, _Mapping]]] = ...) -> None: ...

class GetValuesRequest(_message.Message):
    __slots__ = ("client_version", "metadata", "partitions", "log_context", "consented_debug_config", "accept_compression")
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LOG_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONSENTED_DEBUG_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    client_version: str
    metadata: _struct_pb2.Struct
    partitions: _containers.RepeatedCompositeFieldContainer[RequestPartition]
    log_context: _server_common_pb2.LogContext
    consented_debug_config: _server_common_pb2.ConsentedDebugConfiguration
    accept_compression: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, client_version: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., partitions: _Optional[_Iterable[_Union[RequestPartition, _Mapping]]] = ..., log_context: _Optional[_Union[_server_common_pb2.LogContext, _Mapping]] = ..., consented_debug_config: _Optional[_Union[_server_common_pb2.ConsentedDebugConfiguration, _Mapping]] = ..., accept_compression: _Optional[_Iterable[str]] = ...) -> None: ...

class ResponsePartition(_message.Message):
    __slots__ = ("id", "string_output", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    STRING_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: int
    string_output: str
    status: _rpc_status_pb2.Status
    def __init__(self, id: _Optional[int] = ..., string_output: _Optional[str] = ..., status: _Optional[_Union[_rpc_status_pb2.Status, _Mapping]] = ...) -> None: ...

class CompressionGroup(_message.Message):
    __slots__ = ("compression_group_id", "ttl_ms", "content")
    COMPRESSION_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    compression_group_id: int
    ttl_ms: int
    content: bytes
    def __init__(self, compression_group_id: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., content: _Optional[bytes] = ...) -> None: ...

class GetValuesResponse(_message.Message):
    __slots__ = ("single_partition", "compression_groups", "debug_info")
    SINGLE_PARTITION_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_GROUPS_FIELD_NUMBER: _ClassVar[int]
    DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
    single_partition: ResponsePartition
    compression_groups: _containers.RepeatedCompositeFieldContainer[CompressionGroup]
    debug_info: _server_common_pb2.DebugInfo
    def __init__(self, single_partition: _Optional[_Union[ResponsePartition, _Mapping]] = ..., compression_groups: _Optional[_Iterable[_Union[CompressionGroup, _Mapping]]] = ..., debug_info: _Optional[_Union[_server_common_pb2.DebugInfo, _Mapping]] = ...) -> None: ...
