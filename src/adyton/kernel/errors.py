"""One error tree for the whole project.

    AdytonError
    ├── BadInputError        the caller gave something that cannot be used
    ├── RefusedError         the request was understood and a rule says no
    ├── PeerError            another party or service misbehaved
    ├── UnavailableError     something outside is missing, full, read-only or too slow; try again later
    └── InternalError        our fault; carries a traceback for us

A caller decides by class, never by text. Every capability derives its own errors from one of these, so that `fault`
and `exit_code` hold everywhere. No message may contain a row value, a signal, a key or the id of a person.
"""

from __future__ import annotations

from enum import Enum
from typing import Self


class Fault(Enum):
    """Whose fault a failure is, in the words a person reads."""

    CALLER = "the input"
    RULE = "a rule refused it"
    PEER = "the other party"
    PLATFORM = "this machine"
    INTERNAL = "adyton itself"


class AdytonError(Exception):
    """Base of all errors that a caller is meant to catch.

    what: one sentence, lower case, no full stop.   where: file, row, column, field or service, if known.
    hint: what to do next.   `exit_code` is the process exit code that the command line uses.
    """

    fault: Fault = Fault.INTERNAL
    exit_code: int = 70

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def inside(self, place: str) -> Self:
        """The same error, whose `where` now begins with `place`, such as the file that holds a wrong member."""
        self.where = f"{place}, {self.where}" if self.where else place
        return self

    def as_json(self) -> dict[str, str | None]:
        """The one JSON error shape: {"error", "what", "where", "fault", "hint"}."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "fault": self.fault.value,
            "hint": self.hint,
        }


class BadInputError(AdytonError):
    """What was given cannot be used: wrong format, type, range or combination."""

    fault = Fault.CALLER
    exit_code = 10


class RefusedError(AdytonError):
    """Understood and refused by a rule: a check, a budget, a permission, a state."""

    fault = Fault.RULE
    exit_code = 11


class PeerError(AdytonError):
    """Another party or service broke the protocol or failed."""

    fault = Fault.PEER
    exit_code = 12


class UnavailableError(AdytonError):
    """Something this machine should provide is missing, full, read-only or too slow."""

    fault = Fault.PLATFORM
    exit_code = 13


class InternalError(AdytonError):
    """A condition that only a defect of ours can cause."""

    fault = Fault.INTERNAL
    exit_code = 70
