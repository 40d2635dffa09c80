"""Errors of the egress experiment."""

from __future__ import annotations

from adyton.kernel.errors import BadInputError


class EgressInputError(BadInputError):
    """Features, sizes or rows on which the experiment cannot run."""
