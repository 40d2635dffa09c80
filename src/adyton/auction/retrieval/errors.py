"""Errors of the retrieval store.

    RecordError       BadInputError   a record or a file of records cannot be used
    SetQueryError     BadInputError   a set query does not follow the grammar
    AdFilterError     BadInputError   arguments of an embedding search cannot be used

Positions are given as file, row and offset; never a key or a value.
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError


class RecordError(BadInputError):
    """A record, or a file of records, is malformed."""


class SetQueryError(BadInputError):
    """A set query is malformed."""


class AdFilterError(BadInputError):
    """A query vector, filter or k is malformed."""
