"""Errors of synthesis. Messages name columns and limits, never a value of a row."""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, RefusedError


class SynthesisInputError(BadInputError):
    """A table, schema, domain or parameter from which nothing can be synthesized."""


class PrivacySpendError(RefusedError):
    """A mechanism asked for more privacy loss than its plan allows."""


class SynthesizerFailedError(BadInputError):
    """A user's own synthesizer raised, or gave something that the contract does not allow."""
