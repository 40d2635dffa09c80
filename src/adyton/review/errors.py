"""Everything that review refuses or cannot use.

BadInputError
├── WorkbookError            a file of ads or moderators cannot be used (a bad *row* is a `RowFault`)
├── DayConfigError           a day was asked for that cannot be drawn
└── UnknownAllocatorError    no allocator or estimator has this name
InternalError
└── ScheduleError            an allocator broke a rule of the simulation (found by the audit of its schedule)
"""

from __future__ import annotations

from adyton.kernel.errors import BadInputError, InternalError


class WorkbookError(BadInputError):
    """A workbook is missing, unreadable, or lacks a sheet or heading that review needs."""


class DayConfigError(BadInputError):
    """A simulated day cannot be drawn from what was asked."""


class UnknownAllocatorError(BadInputError):
    """There is no allocator, estimator or pattern of this name."""


class ScheduleError(InternalError):
    """A schedule serves an ad before it arrives, twice, by the wrong moderator, or outside a shift."""
