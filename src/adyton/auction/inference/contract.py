"""The JSON contract of inference (protected-auction §9): requests in, responses out. No models, no I/O.

    request   {"request":[{"model_path", "tensors":[{"tensor_name","data_type","tensor_shape","tensor_content"}]}]}
    response  {"response":[{"model_path", "tensors":[...]} or {"model_path", "error":{"error_type","description"}}]}

Numbers are strings in a request and numbers in a response. The answer has one entry for each request, in order; only
when the batch as a whole cannot be read is there one entry without `model_path`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import orjson

Tensor = npt.NDArray[np.generic]

MAX_ELEMENTS = 16 * 1024 * 1024
_BARE_NUMBER = "All numbers within the tensor_content must be enclosed in quotes"


class ErrorType(Enum):
    """`error_type` of a response."""

    UNKNOWN = "UNKNOWN"
    INPUT_PARSING = "INPUT_PARSING"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_EXECUTION = "MODEL_EXECUTION"
    OUTPUT_PARSING = "OUTPUT_PARSING"
    GRPC = "GRPC"


class DataType(Enum):
    """`data_type` of a tensor."""

    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy type."""
        return _DTYPES[self]


_DTYPES: dict[DataType, np.dtype[np.generic]] = {
    DataType.FLOAT: np.dtype(np.float32),
    DataType.DOUBLE: np.dtype(np.float64),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
}
_TYPE_OF = {dtype: data_type for data_type, dtype in _DTYPES.items()}


class ContractError(Exception):
    """One request of a batch failed. Becomes an `error` entry; never leaves the model process."""

    def __init__(self, kind: ErrorType, description: str) -> None:
        super().__init__(description)
        self.kind = kind
        self.description = description


@dataclass(frozen=True)
class NamedTensor:
    """A tensor with its name ("" where none was given)."""

    name: str
    values: Tensor


@dataclass(frozen=True)
class ModelRequest:
    """One entry of a batch: a model and its input tensors in order."""

    model_path: str
    tensors: tuple[NamedTensor, ...]


@dataclass(frozen=True)
class FailedRequest:
    """One entry of a batch that could not be read."""

    model_path: str
    error: ContractError


def parse_batch(text: bytes) -> list[ModelRequest | FailedRequest]:
    """The entries of a request. Raises ContractError (INPUT_PARSING) if the batch as a whole cannot be read."""
    try:
        batch = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ContractError(ErrorType.INPUT_PARSING, "INVALID_ARGUMENT: Failed to parse request from Json") from None
    entries = batch.get("request") if isinstance(batch, dict) else None
    if not isinstance(entries, list):
        raise ContractError(ErrorType.INPUT_PARSING, "INVALID_ARGUMENT: Missing request in the JSON document")
    if not entries:
        raise ContractError(ErrorType.INPUT_PARSING, "INVALID_ARGUMENT: The request has no entries")
    paths = [entry.get("model_path") if isinstance(entry, dict) else None for entry in entries]
    if not all(isinstance(path, str) and path for path in paths):
        raise ContractError(ErrorType.INPUT_PARSING, "INVALID_ARGUMENT: Missing model_path in the JSON document")
    return [_parse_entry(str(path), entry) for path, entry in zip(paths, entries, strict=True)]


def success_entry(model_path: str, tensors: Sequence[NamedTensor]) -> dict[str, object]:
    """The entry of a prediction. Raises ContractError (OUTPUT_PARSING) for values that the contract cannot carry."""
    return {"model_path": model_path, "tensors": [_output(tensor) for tensor in tensors]}


def error_entry(error: ContractError, model_path: str | None) -> dict[str, object]:
    """The entry of a failure."""
    body: dict[str, object] = {"error": {"error_type": error.kind.value, "description": error.description}}
    return body if model_path is None else {"model_path": model_path, **body}


def response_json(entries: Sequence[dict[str, object]]) -> bytes:
    """The response document."""
    return orjson.dumps({"response": list(entries)}, option=orjson.OPT_SERIALIZE_NUMPY)


def batch_error_json(kind: ErrorType, description: str) -> str:
    """The response when nothing of the batch could be done."""
    return response_json([error_entry(ContractError(kind, description), None)]).decode()


def not_found(model_path: str) -> ContractError:
    """The error of a model that is not registered."""
    return ContractError(ErrorType.MODEL_NOT_FOUND, f"NOT_FOUND: Requested model {model_path} not found")


def _parse_entry(model_path: str, entry: dict[str, object]) -> ModelRequest | FailedRequest:
    tensors = entry.get("tensors")
    try:
        if not isinstance(tensors, list) or not tensors:
            raise _input_error("Missing tensors in the JSON document")
        return ModelRequest(model_path, tuple(_parse_tensor(tensor) for tensor in tensors))
    except ContractError as error:
        return FailedRequest(model_path, error)


def _parse_tensor(tensor: object) -> NamedTensor:
    if not isinstance(tensor, dict):
        raise _input_error("A tensor must be an object")
    name = tensor.get("tensor_name", "")
    if not isinstance(name, str):
        raise _input_error("tensor_name must be a string")
    try:
        data_type = DataType(tensor.get("data_type"))
    except ValueError:
        raise _input_error("Unsupported or missing data_type") from None
    shape = tensor.get("tensor_shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise _input_error("Missing or malformed tensor_shape")
    if any(size < 1 for size in shape):
        raise _input_error("Invalid tensor dimension: it has to be greater than 0")
    content = tensor.get("tensor_content")
    if not isinstance(content, list):
        raise _input_error("Missing or malformed tensor_content")
    if not all(type(number) is str for number in content):
        raise _input_error(_BARE_NUMBER)
    n_elements = math.prod(shape)
    if n_elements > MAX_ELEMENTS:
        raise _input_error("The tensor is too large")
    if n_elements != len(content):
        raise _input_error(f"Mismatched size: the shape has {n_elements} elements, tensor_content has {len(content)}")
    return NamedTensor(name, _numbers(content, data_type).reshape(shape))


def _numbers(content: Sequence[str], data_type: DataType) -> Tensor:
    try:
        if data_type in (DataType.FLOAT, DataType.DOUBLE):
            if any("_" in text for text in content):
                raise _input_error("Error in converting a number of tensor_content")
            with np.errstate(over="ignore"):
                return np.array(list(map(float, content)), dtype=np.float64).astype(data_type.dtype)
        numbers = [int(text) if text.lstrip("+-").isdigit() else None for text in content]
    except ValueError:
        raise _input_error("Error in converting a number of tensor_content") from None
    limits = np.iinfo(np.dtype(data_type.dtype).str)
    if any(number is None or not limits.min <= number <= limits.max for number in numbers):
        raise _input_error("Error in converting a number of tensor_content")
    return np.array(numbers, dtype=data_type.dtype)


def _output(tensor: NamedTensor) -> dict[str, object]:
    data_type = _TYPE_OF.get(tensor.values.dtype)
    if data_type is None:
        raise ContractError(ErrorType.OUTPUT_PARSING, f"INVALID_ARGUMENT: Unsupported data type {tensor.values.dtype}")
    flat = np.ascontiguousarray(tensor.values).reshape(-1)
    if not np.isfinite(flat).all():
        raise ContractError(ErrorType.OUTPUT_PARSING, "INVALID_ARGUMENT: The output is not finite")
    return {
        "tensor_name": tensor.name,
        "data_type": data_type.value,
        "tensor_shape": list(tensor.values.shape),
        "tensor_content": flat,
    }


def _input_error(description: str) -> ContractError:
    return ContractError(ErrorType.INPUT_PARSING, f"INVALID_ARGUMENT: {description}")
