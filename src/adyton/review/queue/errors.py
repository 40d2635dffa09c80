"""Everything that the live queue refuses or cannot use.

BadInputError
├── QueueInputError          a value that cannot be used
└── UnknownRecordError       no such ad, person, policy or golden item that the caller may know of
RefusedError
├── NotSignedInError         no token, or one that is unknown, revoked or past its end
├── NotPermittedError        this role may not do this
├── TransitionError          this cannot happen to an ad in this state
├── ClaimError               the claim is over, or somebody else's
├── AlreadySubmittedError    the same creative was submitted with other content
├── NothingToPriceError      no ads or no moderators to find prices from
└── CannotServeError         this ad has no approval that the auction could be given
UnavailableError
└── StoreUnavailableError    the database is missing, busy, of another version, or did not answer
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, RefusedError, UnavailableError


class QueueInputError(BadInputError):
    """A value that the queue cannot use."""


class UnknownRecordError(BadInputError):
    """There is no such thing, or the caller may not know of it: both look the same from outside."""


class NotSignedInError(RefusedError):
    """The request carries no valid token."""


class NotPermittedError(RefusedError):
    """The caller's role does not allow this."""


class TransitionError(RefusedError):
    """The state table has no such move."""


class ClaimError(RefusedError):
    """The claim is over, was never given, or belongs to somebody else."""


class AlreadySubmittedError(RefusedError):
    """The same creative of the same buyer was submitted before, with other content."""


class NothingToPriceError(RefusedError):
    """There are no ads or no moderators to find prices from."""


class CannotServeError(RefusedError):
    """The ad is not approved, or its limits cannot be told to the auction."""


class StoreUnavailableError(UnavailableError):
    """The database is missing, busy, of another version, or did not answer."""
