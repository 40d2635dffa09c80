"""Errors of `learning`: who is at fault follows from the kernel class.

BadInputError   SchemaError      a declared schema is inconsistent
                FeatureError     a column was asked for in a role that it may not play
                TableError       a table or file does not fit its schema; says row and column, never the value
                MetricError      a metric is not defined on what was given
                ModelError       a model was asked for something it was not made for
UnavailableError DataMissingError shipped data is not on this machine
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib

from adyton.kernel.errors import BadInputError, UnavailableError

DAMAGED_ARCHIVE = (
    KeyError, ValueError, TypeError, RuntimeError, OSError, EOFError, zipfile.BadZipFile, zlib.error,
    tokenize.TokenError,
)  # fmt: skip
"""What reading a damaged or foreign .npz raises, in numpy and in what restores a model from it."""


class SchemaError(BadInputError):
    """A declared table schema is inconsistent."""


class FeatureError(BadInputError):
    """A column was asked for in a role that it may not play, such as an outcome as a feature."""


class TableError(BadInputError):
    """A table or file does not fit its schema."""


class MetricError(BadInputError):
    """A metric is not defined on what was given, such as an AUC of one class."""


class ModelError(BadInputError):
    """A model was asked for something it was not made for."""


class DataMissingError(UnavailableError):
    """Data that the package ships is not on this machine."""
