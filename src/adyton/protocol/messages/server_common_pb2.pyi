from google.protobuf import any_pb2 as _any_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConsentedDebugConfiguration(_message.Message):
    __slots__ = ("is_consented", "token", "is_debug_info_in_response")
    IS_CONSENTED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    IS_DEBUG_INFO_IN_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    is_consented: bool
    token: str
    is_debug_info_in_response: bool
    def __init__(self, is_consented: _Optional[bool] = ..., token: _Optional[str] = ..., is_debug_info_in_response: _Optional[bool] = ...) -> None: ...

class LogContext(_message.Message):
    __slots__ = ("generation_id", "adtech_debug_id")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    ADTECH_DEBUG_ID_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    adtech_debug_id: str
    def __init__(self, generation_id: _Optional[str] = ..., adtech_debug_id: _Optional[str] = ...) -> None: ...

class DebugInfo(_message.Message):
    __slots__ = ("server_name", "logs", "downstream_servers", "event_message")
    SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_SERVERS_FIELD_NUMBER: _ClassVar[int]
    EVENT_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    server_name: str
    logs: _containers.RepeatedScalarFieldContainer[str]
    downstream_servers: _containers.RepeatedCompositeFieldContainer[DebugInfo]
    event_message: _any_pb2.Any
    def __init__(self, server_name: _Optional[str] = ..., logs: _Optional[_Iterable[str]] = ..., downstream_servers: _Optional[_Iterable[_Union[DebugInfo, _Mapping]]] = ..., event_message: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...
