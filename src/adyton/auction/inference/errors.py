"""Errors of the inference service towards its operator. A script never sees these: it gets JSON (protected-auction §9).

ModelListError         BadInputError     a model list cannot be used
ModelLoadError         BadInputError     the files are not a model this machine can run, or the warm-up failed
ChecksumMismatchError  BadInputError     the files are not those the list names
ModelExistsError       RefusedError      registered models are immutable
ModelNotFoundError     RefusedError      no such model to delete
InferenceDownError     UnavailableError  the model process does not start, or ended
ModelStoreError        UnavailableError  this machine cannot hold a model's files
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, RefusedError, UnavailableError


class ModelListError(BadInputError):
    """The model list is not what the specification says."""


class ModelLoadError(BadInputError):
    """The files cannot be loaded as a model."""


class ChecksumMismatchError(BadInputError):
    """The files of a model do not have the checksum of the list."""


class ModelExistsError(RefusedError):
    """A model is already registered under this path."""


class ModelNotFoundError(RefusedError):
    """No model is registered under this path."""


class InferenceDownError(UnavailableError):
    """The model process is not running."""


class ModelStoreError(UnavailableError):
    """A model's files cannot be written here."""
