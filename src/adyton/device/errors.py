"""What a device refuses, what it cannot do, and what others did wrong. Never a signal, key or payload in a text.

The comment names the Android exception that the reference device throws (protected-auction §2.1).
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, PeerError, RefusedError, UnavailableError


class NotAllowedError(RefusedError):
    """The caller, the ad tech or the app may not do this. (SecurityException)"""


class RateExceededError(RefusedError):
    """More than one update a second from one app. (LimitExceededException)"""


class BackgroundCallerError(RefusedError):
    """An app in the background, where only those in the foreground may call. (IllegalStateException)"""


class UpdateUriError(BadInputError):
    """An update URI that may not be fetched. (IllegalArgumentException)"""


class DelegationError(RefusedError):
    """A partner's update without a valid verification token or acknowledgement. (SecurityException)"""


class AdTechServerError(PeerError):
    """An ad tech's server gave no usable answer. (IllegalStateException)"""


class EncodingError(PeerError):
    """A buyer's encoding script failed or gave a malformed payload. (IllegalStateException)"""


class AuctionResultError(PeerError):
    """An auction result that may not be kept. (IllegalArgumentException)"""


class UnknownSelectionError(BadInputError):
    """No such ad selection on this device, or one in another state."""


class NoPublicKeyError(UnavailableError):
    """There is no key to encrypt a request to."""


class DeviceStoreError(UnavailableError):
    """The device's store cannot be used: damaged, another version, another key."""


class EnrolmentFileError(BadInputError):
    """An enrolment registry cannot be read."""
