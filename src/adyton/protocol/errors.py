"""What can be wrong with bytes and documents that cross a trust boundary.

MalformedMessageError    a frame, compressed body or document that is none
EncapsulationError       an encapsulated request or response: format, key id, ciphertext (protected-auction §5.4)
  ├── UnknownKeyError    no private key for the key id
  └── DecryptionError    the ciphertext does not open: wrong key, label or context, or changed bytes
KeyListError             a public key list that is none
TestKeyRefusedError      the published test key outside TEST_MODE
SignalUpdateError        an update JSON that breaks protected-auction §2.2 or §2.3
EgressSchemaError        an egress schema that is none
EgressPayloadError       a payload that does not fit its schema
  └── EgressTooLargeError    more bits than the limit
EgressWireError          wire bytes that do not fit their schema
"""

from __future__ import annotations

from collections.abc import Sequence

from adyton.kernel.errors import BadInputError, RefusedError


class MalformedMessageError(BadInputError):
    """A frame, a compressed body or a document cannot be read."""


class EncapsulationError(BadInputError):
    """An encapsulated message cannot be used."""


class UnknownKeyError(EncapsulationError):
    """There is no private key for the key id of a request."""


class DecryptionError(EncapsulationError):
    """A ciphertext does not open."""


class KeyListError(BadInputError):
    """A key or a list of public keys cannot be read."""


class TestKeyRefusedError(RefusedError):
    """The published test key was offered outside TEST_MODE."""

    __test__ = False


class SignalUpdateError(BadInputError):
    """An update JSON breaks a rule; the whole update is refused."""


class EgressSchemaError(BadInputError):
    """An egress schema is malformed; it is not loaded."""


class EgressPayloadError(BadInputError):
    """An egress payload does not fit its schema. `problems` lists every finding, without values."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, problems: Sequence[str] = ()):
        super().__init__(what, where=where, hint=hint)
        self.problems = tuple(problems)


class EgressTooLargeError(EgressPayloadError):
    """A payload has more bits than it may have."""


class EgressWireError(BadInputError):
    """Wire bytes are not a payload of this schema."""
