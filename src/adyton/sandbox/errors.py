"""Errors of the sandbox.

    UdfLoadError             BadInputError    the script has a syntax error or throws while it is loaded
    UdfArgumentError         BadInputError    the call cannot be made
    UdfThrewError            PeerError        the function threw, rejected, or does not exist
    UdfTimeoutError          PeerError        no answer before the deadline
    UdfCrashedError          PeerError        the worker process ended: memory limit, CPU limit
    UdfOutputError           PeerError        the answer is too large or is not a well-formed frame
    OwnerBackedOffError      RefusedError     this owner's scripts failed too often a moment ago
    SandboxUnavailableError  UnavailableError no worker can be started on this machine

The text of a script's own exception may hold signals, so no message repeats it: it is in
`UdfThrewError.script_message`, for consented debugging only.
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, PeerError, RefusedError, UnavailableError
from adyton.sandbox.values import NO_EFFECTS, UdfEffects


class UdfLoadError(BadInputError):
    """The script cannot be loaded."""

    def __init__(self, what: str, *, where: str, script_message: str = "") -> None:
        super().__init__(what, where=where, hint="run the script in a JavaScript engine to see the error")
        self.script_message = script_message


class UdfThrewError(PeerError):
    """The function threw, its promise was rejected, or there is no such function.

    effects: what the script had registered before it threw (protected-auction §8.6 keeps these URLs).
    """

    def __init__(
        self,
        what: str,
        *,
        where: str,
        script_message: str = "",
        effects: UdfEffects = NO_EFFECTS,
        console: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, where=where)
        self.script_message = script_message
        self.effects = effects
        self.console = console


class UdfTimeoutError(PeerError):
    """The function did not answer before its deadline; its process was killed."""


class UdfCrashedError(PeerError):
    """The worker process ended before it answered."""


class UdfOutputError(PeerError):
    """The answer is too large, or its bytes are not what the protocol allows."""


class OwnerBackedOffError(RefusedError):
    """The owner's scripts failed repeatedly, so they are not run for a while."""


class SandboxUnavailableError(UnavailableError):
    """This machine cannot run the sandbox, or all workers are taken."""


class UdfArgumentError(BadInputError):
    """The call itself cannot be made: arguments too large, a bad name, a script that is not loaded."""
