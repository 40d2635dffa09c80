"""The clocks of an ad: from submission, from claim, and the end of the lock. Pure functions over times in ms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from adyton.review.queue.errors import QueueInputError
from adyton.review.queue.records import AdFile
from adyton.review.queue.states import QueueReason, ReviewState

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
_DUE_MINUTES = MappingProxyType(
    {
        QueueReason.NEW: 24 * 60,
        QueueReason.EDIT: 24 * 60,
        QueueReason.APPEAL: 24 * 60,
        QueueReason.REPORT: 4 * 60,
    }
)


MAX_MINUTES = 366 * 24 * 60


@dataclass(frozen=True)
class DeskRules:
    """What a deployment may set.

    claim_minutes: length of a lock.   max_hold_minutes: longest hold.   due_minutes: promised time by reason.
    golden_one_in, second_one_in: one claim in so many is a golden item, one first decision in so many gets a second
    opinion, drawn by chance; 0 is never, 1 is always.   patience_minutes, horizon_minutes, unserved_value, hold,
    punishment: parameters of the pull index (`next_ad`).   caution: factor on the prices of moderators' time, since
    others compete for it (values as tuned for the simulated `priced_pull`).   refresh_minutes: age at which what is
    known of the other moderators is read again; an ad is weighed against them.   max_appeals: for each content version.
    busy_seconds: how long a claim waits for the database before it says so.
    """

    claim_minutes: int = 10
    max_hold_minutes: int = 24 * 60
    due_minutes: Mapping[QueueReason, int] = field(default_factory=lambda: _DUE_MINUTES)
    golden_one_in: int = 0
    second_one_in: int = 0
    patience_minutes: int = 40
    horizon_minutes: int = 24 * 60
    unserved_value: float = 1.0
    hold: float = 0.5
    caution: float = 1.7
    refresh_minutes: int = 15
    punishment: float = 2.0
    max_appeals: int = 3
    busy_seconds: float = 20.0

    def __post_init__(self) -> None:
        if min(self.claim_minutes, self.max_hold_minutes, self.horizon_minutes, *self.due_minutes.values()) < 1:
            raise QueueInputError("claims, holds, promises and the horizon last at least one minute")
        if max(self.claim_minutes, self.max_hold_minutes, *self.due_minutes.values()) > MAX_MINUTES:
            raise QueueInputError(f"claims, holds and promises last at most {MAX_MINUTES} minutes, a year")
        if (
            min(self.golden_one_in, self.second_one_in, self.patience_minutes, self.refresh_minutes, self.max_appeals)
            < 0
        ):
            raise QueueInputError("rates, patience and the number of appeals must not be negative")
        if min(self.unserved_value, self.punishment, self.hold, self.caution) < 0 or self.busy_seconds <= 0:
            raise QueueInputError("weights of the pull index must not be negative, busy_seconds is positive")
        if set(self.due_minutes) != set(QueueReason):
            raise QueueInputError("every reason needs a promised time", where="due_minutes")

    def due_at_ms(self, reason: QueueReason, queued_at_ms: int) -> int:
        """When an ad that entered the queue for this reason must be decided."""
        return queued_at_ms + self.due_minutes[reason] * MINUTE_MS

    def lock_until_ms(self, now_ms: int) -> int:
        """When a claim of now ends."""
        return now_ms + self.claim_minutes * MINUTE_MS


@dataclass(frozen=True)
class AdClocks:
    """Milliseconds on every clock of an ad; None where a clock does not run.

    since_submission: of the first submission.   since_queued: of this round.   since_claim: of the current claim.
    until_due: negative when late.   until_lock_ends: negative when the claim is over.
    """

    since_submission_ms: int
    since_queued_ms: int
    since_claim_ms: int | None
    until_due_ms: int | None
    until_lock_ends_ms: int | None

    @property
    def is_late(self) -> bool:
        return self.until_due_ms is not None and self.until_due_ms < 0


def clocks_of(ad: AdFile, now_ms: int) -> AdClocks:
    """The clocks at `now_ms`. For a decided ad those of this round stand still at the decision."""
    until = ad.decided_at_ms if ad.state is ReviewState.DECIDED and ad.decided_at_ms is not None else now_ms
    return AdClocks(
        since_submission_ms=until - ad.submitted_at_ms,
        since_queued_ms=until - ad.queued_at_ms,
        since_claim_ms=None if ad.claimed_at_ms is None else until - ad.claimed_at_ms,
        until_due_ms=ad.due_at_ms - until,
        until_lock_ends_ms=None if ad.claim_expires_at_ms is None else ad.claim_expires_at_ms - now_ms,
    )


def is_claim_over(ad: AdFile, now_ms: int) -> bool:
    """Whether the lock or hold on the ad has ended."""
    return ad.claim_holder is not None and ad.claim_expires_at_ms is not None and ad.claim_expires_at_ms <= now_ms


def day_start_ms(now_ms: int, utc_offset_minutes: int) -> int:
    """The last midnight of a calendar that is `utc_offset_minutes` ahead of UTC."""
    offset_ms = utc_offset_minutes * MINUTE_MS
    return (now_ms + offset_ms) // DAY_MS * DAY_MS - offset_ms
