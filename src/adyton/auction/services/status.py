"""Which gRPC status an error is, and what text of it may leave."""

from __future__ import annotations

from adyton.auction.errors import DownstreamError, RequestError, UnsupportedError
from adyton.kernel.errors import AdytonError
from adyton.protocol.errors import EncapsulationError, MalformedMessageError

INTERNAL_TEXT = "Internal server error."


def status_name(error: AdytonError) -> str:
    """The name of the gRPC status code, such as "INVALID_ARGUMENT"."""
    if isinstance(error, DownstreamError):
        return error.code
    if isinstance(error, RequestError | EncapsulationError | MalformedMessageError):
        return "INVALID_ARGUMENT"
    if isinstance(error, UnsupportedError):
        return "UNIMPLEMENTED"
    return "INTERNAL"
