"""The privacy ledger's rules: what was spent, by whom, on whose users. Pure; `cleanroom` stores it durably.

One account per (owner, population). A job *reserves* before it runs, then *commits* (at most what it reserved) or
*cancels*. Reserved budget counts as spent until it is settled, so two concurrent jobs can never overspend together.
There is no refresh: a budget that renews itself bounds nothing about rows that stay the same.

Epsilon and delta are exact `Fraction`s and compose by addition (basic composition, Dwork & Roth 2014, Theorem 3.16),
which holds for any mechanisms chosen adaptively. The unit of protection is one user's whole contribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from types import MappingProxyType

from adyton.kernel.errors import BadInputError, RefusedError

_MOST_CHARACTERS = 200
_LEAST = Fraction(1, 10**100)


class OverBudgetError(RefusedError):
    """A reservation would pass the owner's budget."""


class LedgerStateError(RefusedError):
    """A reservation id is unknown, used twice or already settled."""


@dataclass(frozen=True)
class PrivacyLoss:
    """An (epsilon, delta) pair. Exact: built from int, str or Fraction, never from a float."""

    epsilon: Fraction
    delta: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        for name in ("epsilon", "delta"):
            value = getattr(self, name)
            if not isinstance(value, Fraction):
                raise BadInputError(f"{name} must be an exact Fraction, got {type(value).__name__}")
            if value < 0:
                raise BadInputError(f"{name} must not be negative")
        if self.delta > 1:
            raise BadInputError("delta must be at most 1")

    @classmethod
    def of(cls, epsilon: str | int | Fraction, delta: str | int | Fraction = 0) -> PrivacyLoss:
        """From exact text: `PrivacyLoss.of("0.5", "1e-6")`. Raises BadInputError."""
        return cls(exact_number(epsilon, "epsilon"), exact_number(delta, "delta"))

    def __add__(self, other: PrivacyLoss) -> PrivacyLoss:
        return PrivacyLoss(self.epsilon + other.epsilon, self.delta + other.delta)

    def fits_in(self, budget: PrivacyLoss) -> bool:
        return self.epsilon <= budget.epsilon and self.delta <= budget.delta

    def as_json(self) -> dict[str, str]:
        return {"epsilon": str(self.epsilon), "delta": str(self.delta)}


def exact_number(value: str | int | Fraction, what: str) -> Fraction:
    """`value` as it is written: a whole number, a decimal such as 0.5 or 1e-6, or a fraction such as 1/2.

    Raises BadInputError for anything else, also for a number of more than 200 characters or beyond 1e100 and 1e-100:
    a few characters can name one that takes hours to write out, and nobody's budget lies there.
    """
    text = str(value)
    exponent = text.lower().partition("e")[2]
    if len(text) > _MOST_CHARACTERS or len(exponent) > len("-100"):
        raise BadInputError(f"{what} is written with too many digits")
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise BadInputError(f"{what} is not a number such as 3, 1/2 or 1e-6") from None
    if number and not _LEAST <= abs(number) <= 1 / _LEAST:
        raise BadInputError(f"{what} lies beyond 1e100 or 1e-100")
    return number


ZERO_LOSS = PrivacyLoss(Fraction(0), Fraction(0))


@dataclass(frozen=True)
class Account:
    """Whose budget: an owner and the population of users that the rows describe."""

    owner: str
    population: str


class ReservationState(Enum):
    """Life of one reservation; only RESERVED may change."""

    RESERVED = "reserved"
    COMMITTED = "committed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Reservation:
    """`loss` is what is held (RESERVED), what was really spent (COMMITTED) or nothing (CANCELLED)."""

    reservation_id: str
    account: Account
    purpose: str
    loss: PrivacyLoss
    state: ReservationState


@dataclass(frozen=True)
class Ledger:
    """All budgets and reservations. Every method gives a new ledger; none changes this one."""

    budgets: Mapping[Account, PrivacyLoss]
    reservations: Mapping[str, Reservation]

    @classmethod
    def open(cls, budgets: Mapping[Account, PrivacyLoss]) -> Ledger:
        return cls(MappingProxyType(dict(budgets)), MappingProxyType({}))

    def spent(self, account: Account) -> PrivacyLoss:
        """Committed and reserved losses together."""
        total = ZERO_LOSS
        for reservation in self.reservations.values():
            if reservation.account == account and reservation.state is not ReservationState.CANCELLED:
                total = total + reservation.loss
        return total

    def left(self, account: Account) -> PrivacyLoss:
        budget, spent = self._budget(account), self.spent(account)
        return PrivacyLoss(budget.epsilon - spent.epsilon, budget.delta - spent.delta)

    def reserve(self, reservation_id: str, account: Account, purpose: str, loss: PrivacyLoss) -> Ledger:
        """Hold `loss` of the account.

        Raises OverBudgetError if it does not fit, LedgerStateError if the id was used before.
        """
        if reservation_id in self.reservations:
            raise LedgerStateError(
                "this reservation id was used before", where=reservation_id, hint="give the job another id"
            )
        budget = self._budget(account)
        if not (self.spent(account) + loss).fits_in(budget):
            left = self.left(account)
            raise OverBudgetError(
                f"{purpose} needs epsilon {float(loss.epsilon):g}, delta {float(loss.delta):g}; "
                f"left are epsilon {float(left.epsilon):g}, delta {float(left.delta):g}",
                where=f"{account.owner}/{account.population}",
                hint="ask for less, or let the owner sign a contract with a larger budget",
            )
        reservation = Reservation(reservation_id, account, purpose, loss, ReservationState.RESERVED)
        return self._with(reservation)

    def commit(self, reservation_id: str, spent: PrivacyLoss | None = None) -> Ledger:
        """Settle a reservation at `spent` (all of it if None), which may not pass what was reserved."""
        reservation = self._open_reservation(reservation_id)
        final = reservation.loss if spent is None else spent
        if not final.fits_in(reservation.loss):
            raise OverBudgetError("a job spent more than it reserved", where=reservation_id)
        return self._with(replace(reservation, loss=final, state=ReservationState.COMMITTED))

    def cancel(self, reservation_id: str) -> Ledger:
        """Give back a reservation whose job released nothing at all."""
        reservation = self._open_reservation(reservation_id)
        return self._with(replace(reservation, loss=ZERO_LOSS, state=ReservationState.CANCELLED))

    def open_reservations(self) -> Iterable[Reservation]:
        return [r for r in self.reservations.values() if r.state is ReservationState.RESERVED]

    def _budget(self, account: Account) -> PrivacyLoss:
        if account not in self.budgets:
            raise LedgerStateError("no budget was opened", where=f"{account.owner}/{account.population}")
        return self.budgets[account]

    def _open_reservation(self, reservation_id: str) -> Reservation:
        reservation = self.reservations.get(reservation_id)
        if reservation is None:
            raise LedgerStateError("unknown reservation", where=reservation_id)
        if reservation.state is not ReservationState.RESERVED:
            raise LedgerStateError(f"reservation is already {reservation.state.value}", where=reservation_id)
        return reservation

    def _with(self, reservation: Reservation) -> Ledger:
        reservations = {**self.reservations, reservation.reservation_id: reservation}
        return Ledger(self.budgets, MappingProxyType(reservations))
