"""What can go wrong in the auction services.

    RequestError          (BadInputError)     the caller's request cannot be used            INVALID_ARGUMENT
    UnsupportedError      (RefusedError)      understood, and not offered                    UNIMPLEMENTED
    ScriptError           (PeerError)         an ad tech's script failed                     INTERNAL
    DownstreamError       (PeerError)         a service that we called failed                its own code
    NoScorableAdError     (RefusedError)      nothing can win (§7.4)                         INTERNAL
    ConfigError           (BadInputError)     a configuration file cannot be used
    CodeFetchError        (UnavailableError)  a script or schema could not be fetched        INTERNAL
    UnknownVersionError   (BadInputError)     a request names a blob version we do not hold  INTERNAL
    OverloadedError       (UnavailableError)  more requests wait than the configuration lets RESOURCE_EXHAUSTED

`what` is the text that crosses the wire: exactly the text of protected-auction §5.4 and §7 where that names one.
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, PeerError, RefusedError, UnavailableError


class RequestError(BadInputError):
    """The caller's request cannot be used."""


class UnsupportedError(RefusedError):
    """Understood, and not offered by this service."""


class ScriptError(PeerError):
    """An ad tech's script threw, ran out of time, or returned what the contract does not allow."""


class DownstreamError(PeerError):
    """A service that this one called failed. `code` is the name of its gRPC status code, such as "INTERNAL"."""

    def __init__(self, what: str, *, code: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.code = code


class NoScorableAdError(RefusedError):
    """No ad of the request can win."""


class ConfigError(BadInputError):
    """A configuration file or environment cannot be used."""


class CodeFetchError(UnavailableError):
    """A script or schema could not be fetched."""


class UnknownVersionError(BadInputError):
    """A request names a blob version that is not loaded."""


class OverloadedError(UnavailableError):
    """More requests wait for their turn than the configuration allows."""
