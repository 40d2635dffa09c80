"""Which gRPC status an error is, and what text of it may leave."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adyton.auction.errors import DownstreamError, OverloadedError, RequestError, UnsupportedError
from adyton.kernel.errors import AdytonError
from adyton.protocol.errors import EncapsulationError, MalformedMessageError

INTERNAL_TEXT = "Internal server error."
_HTTP_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "OK": 200,
        "CANCELLED": 499,
        "INVALID_ARGUMENT": 400,
        "DEADLINE_EXCEEDED": 504,
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "PERMISSION_DENIED": 403,
        "UNAUTHENTICATED": 401,
        "RESOURCE_EXHAUSTED": 429,
        "FAILED_PRECONDITION": 400,
        "ABORTED": 409,
        "OUT_OF_RANGE": 400,
        "UNIMPLEMENTED": 501,
        "UNAVAILABLE": 503,
    }
)


def status_name(error: AdytonError) -> str:
    """The name of the gRPC status code, such as "INVALID_ARGUMENT"."""
    if isinstance(error, DownstreamError):
        return error.code
    if isinstance(error, RequestError | EncapsulationError | MalformedMessageError):
        return "INVALID_ARGUMENT"
    if isinstance(error, UnsupportedError):
        return "UNIMPLEMENTED"
    if isinstance(error, OverloadedError):
        return "RESOURCE_EXHAUSTED"
    return "INTERNAL"


def http_status(name: str) -> int:
    """The HTTP status of a gRPC status, as `google/rpc/code.proto` maps them; 500 for all that it names so."""
    return _HTTP_STATUS.get(name, 500)
