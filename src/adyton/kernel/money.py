"""Money is an integer number of micros of a currency; a float price never crosses a function boundary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from adyton.kernel.errors import BadInputError

MICROS_PER_UNIT = 1_000_000
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, order=False)
class Money:
    """`micros` millionths of one unit of `currency` (ISO 4217, three upper-case letters)."""

    micros: int
    currency: str

    def __post_init__(self) -> None:
        if not _CURRENCY.fullmatch(self.currency):
            raise BadInputError(f"currency {self.currency!r} is not three upper-case letters", hint="for example 'USD'")

    @classmethod
    def from_units(cls, units: Decimal | int | str, currency: str) -> Money:
        """Round half to even to whole micros."""
        micros = (Decimal(units) * MICROS_PER_UNIT).to_integral_value(rounding=ROUND_HALF_EVEN)
        return cls(int(micros), currency)

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise BadInputError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.micros + other.micros, self.currency)

    def __str__(self) -> str:
        return f"{Decimal(self.micros) / MICROS_PER_UNIT:.2f} {self.currency}"
