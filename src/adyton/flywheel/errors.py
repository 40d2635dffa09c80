"""Errors of the loop.

DemoFolderError   the output folder cannot be used (exists and is not ours, read-only, full)
StepKilledError   the process of a step was ended from outside, as where memory runs out
StepFailedError   one step of the loop failed and said why
"""

from __future__ import annotations

from adyton.kernel.errors import InternalError, UnavailableError


class DemoFolderError(UnavailableError):
    """The output folder cannot be written or replaced."""


class StepKilledError(UnavailableError):
    """The process of a step was ended from outside."""


class StepFailedError(InternalError):
    """A step of the loop ended in a way that only a defect of ours explains."""
