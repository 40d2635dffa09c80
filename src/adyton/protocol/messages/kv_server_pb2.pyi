from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UDFArgument(_message.Message):
    __slots__ = ("tags", "data")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    tags: _struct_pb2.ListValue
    data: _struct_pb2.Value
    def __init__(self, tags: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., data: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class UDFExecutionMetadata(_message.Message):
    __slots__ = ("udf_interface_version", "request_metadata", "partition_metadata")
    UDF_INTERFACE_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_METADATA_FIELD_NUMBER: _ClassVar[int]
    PARTITION_METADATA_FIELD_NUMBER: _ClassVar[int]
    udf_interface_version: int
    request_metadata: _struct_pb2.Struct
    partition_metadata: _struct_pb2.Struct
    def __init__(self, udf_interface_version: _Optional[int] = ..., request_metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., partition_metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...
