"""What can go wrong with the key service.

KeyServiceRequestError   (BadInputError)      a request to the service is malformed
NotAttestedError         (RefusedError)       a private key was asked for without evidence
KeyServiceAnswerError    (PeerError)          a service answered something that is not its protocol, or refused
KeyServiceDownError      (UnavailableError)   a service, or its store, does not answer
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, PeerError, RefusedError, UnavailableError


class KeyServiceRequestError(BadInputError):
    """A request to a key service is malformed."""


class NotAttestedError(RefusedError):
    """A private key was asked for without evidence."""


class KeyServiceAnswerError(PeerError):
    """A key service answered with something else than its protocol, or refused."""


class KeyServiceDownError(UnavailableError):
    """A key service or its store does not answer."""
