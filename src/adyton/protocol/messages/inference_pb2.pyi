from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictBatchRequest(_message.Message):
    __slots__ = ("predict_requests",)
    PREDICT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    predict_requests: _containers.RepeatedCompositeFieldContainer[PredictRequest]
    def __init__(self, predict_requests: _Optional[_Iterable[_Union[PredictRequest, _Mapping]]] = ...) -> None: ...

class PredictBatchResponse(_message.Message):
    __slots__ = ("predict_responses",)
    PREDICT_RESPONSES_FIELD_NUMBER: _ClassVar[int]
    predict_responses: _containers.RepeatedCompositeFieldContainer[PredictResponse]
    def __init__(self, predict_responses: _Optional[_Iterable[_Union[PredictResponse, _Mapping]]] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("input", "proto_input", "is_consented")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PROTO_INPUT_FIELD_NUMBER: _ClassVar[int]
    IS_CONSENTED_FIELD_NUMBER: _ClassVar[int]
    input: bytes
    proto_input: bytes
    is_consented: bool
    def __init__(self, input: _Optional[bytes] = ..., proto_input: _Optional[bytes] = ..., is_consented: _Optional[bool] = ...) -> None: ...

class InferenceDebugInfo(_message.Message):
    __slots__ = ("logs",)
    LOGS_FIELD_NUMBER: _ClassVar[int]
    logs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, logs: _Optional[_Iterable[str]] = ...) -> None: ...

class MetricValue(_message.Message):
    __slots__ = ("value_int32", "value_double", "partition")
    VALUE_INT32_FIELD_NUMBER: _ClassVar[int]
    VALUE_DOUBLE_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    value_int32: int
    value_double: float
    partition: str
    def __init__(self, value_int32: _Optional[int] = ..., value_double: _Optional[float] = ..., partition: _Optional[str] = ...) -> None: ...

class MetricValueList(_message.Message):
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricValue]
    def __init__(self, metrics: _Optional[_Iterable[_Union[MetricValue, _Mapping]]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("output", "proto_output", "debug_info", "metrics_list")
    class MetricsListEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetricValueList
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetricValueList, _Mapping]] = ...) -> None: ...
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PROTO_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
    METRICS_LIST_FIELD_NUMBER: _ClassVar[int]
    output: bytes
    proto_output: bytes
    debug_info: InferenceDebugInfo
    metrics_list: _containers.MessageMap[str, MetricValueList]
    def __init__(self, output: _Optional[bytes] = ..., proto_output: _Optional[bytes] = ..., debug_info: _Optional[_Union[InferenceDebugInfo, _Mapping]] = ..., metrics_list: _Optional[_Mapping[str, MetricValueList]] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("model_path",)
    MODEL_PATH_FIELD_NUMBER: _ClassVar[int]
    model_path: str
    def __init__(self, model_path: _Optional[str] = ...) -> None: ...

class RegisterModelRequest(_message.Message):
    __slots__ = ("model_spec", "model_files", "warm_up_batch_request_json")
    class ModelFilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    MODEL_FILES_FIELD_NUMBER: _ClassVar[int]
    WARM_UP_BATCH_REQUEST_JSON_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    model_files: _containers.ScalarMap[str, bytes]
    warm_up_batch_request_json: str
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., model_files: _Optional[_Mapping[str, bytes]] = ..., warm_up_batch_request_json: _Optional[str] = ...) -> None: ...

class RegisterModelResponse(_message.Message):
    __slots__ = ("metrics_list",)
    class MetricsListEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MetricValueList
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MetricValueList, _Mapping]] = ...) -> None: ...
    METRICS_LIST_FIELD_NUMBER: _ClassVar[int]
    metrics_list: _containers.MessageMap[str, MetricValueList]
    def __init__(self, metrics_list: _Optional[_Mapping[str, MetricValueList]] = ...) -> None: ...

class DeleteModelRequest(_message.Message):
    __slots__ = ("model_spec",)
    MODEL_SPEC_FIELD_NUMBER: _ClassVar[int]
    model_spec: ModelSpec
    def __init__(self, model_spec: _Optional[_Union[ModelSpec, _Mapping]] = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelPathsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelPathsResponse(_message.Message):
    __slots__ = ("model_specs",)
    MODEL_SPECS_FIELD_NUMBER: _ClassVar[int]
    model_specs: _containers.RepeatedCompositeFieldContainer[ModelSpec]
    def __init__(self, model_specs: _Optional[_Iterable[_Union[ModelSpec, _Mapping]]] = ...) -> None: ...
