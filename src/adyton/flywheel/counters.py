"""What the loop's models may know of a past: counters that a device can compute from its own events.

A subset of the learning recipe: hours since the last event are left out, since an encoder runs hourly and not at the
auction, and play time, since an event signal is a set of bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from adyton.flywheel.held_out import EVENT_BITS
from adyton.learning.ctr.features import Counter, Statistic
from adyton.learning.ctr.recipe import FEED_COUNTERS, OWN_COUNTERS, STATIC_FEATURES
from adyton.learning.schema import Role


def _on_device(counters: Sequence[Counter]) -> tuple[Counter, ...]:
    kept = (Statistic.IMPRESSIONS, Statistic.TOTAL, Statistic.RATE)
    return tuple(
        counter
        for counter in counters
        if counter.role is Role.AD
        or (counter.statistic in kept and (counter.column is None or counter.column in EVENT_BITS))
    )


OWN: tuple[Counter, ...] = _on_device(OWN_COUNTERS)
"""Over the advertiser's own earlier impressions."""
PARTNER: tuple[Counter, ...] = _on_device(FEED_COUNTERS)
"""Over the user's earlier impressions in the publisher's feed."""
STATIC: tuple[str, ...] = STATIC_FEATURES
"""Columns of the advertiser's own rows."""
