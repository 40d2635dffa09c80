"""What an allocator is. To add one: one new module in this folder with a subclass; `registry` finds it by itself.

One of your own need not lie here: `module:Class` names it wherever Python finds the module.

An allocator may assume that a day is valid and that its arrays are not to be changed. It must give back a schedule that
obeys the rules of `engine.moves` (the simulator audits it), and a decision in minute t must not depend on ads that
arrive after t (a test replays days with another future). Its chance comes from `day.arrays.ticket` alone. A policy that
needs something worked out beforehand (prices from a forecast) does that in `prepare`; its time is not simulation time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from adyton.review.day import Day
from adyton.review.engine.moves import Schedule


class Allocator(ABC):
    """Decides which moderator reviews which ad, and when."""

    name: ClassVar[str]
    """snake_case, as on the command line."""
    summary: ClassVar[str]
    """One line for people."""

    def prepare(self, day: Day) -> None:  # noqa: B027
        """Work out beforehand what the policy knows about days like this one. May read the roster, not the ads."""

    @abstractmethod
    def allocate(self, day: Day) -> Schedule:
        """The schedule of this day."""
