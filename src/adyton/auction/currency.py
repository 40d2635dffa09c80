"""Currency rules of the auction (protected-auction §7.1 steps 4 and 9, §7.4)."""

from __future__ import annotations

import re

_CODE = re.compile(r"[A-Z]{3}")
UNKNOWN_CURRENCY = "???"


def is_currency_code(text: str) -> bool:
    """True for three upper-case letters."""
    return _CODE.fullmatch(text) is not None


def is_bid_currency_allowed(bid_currency: str, buyer_currency: str) -> bool:
    """False only if both are set and differ: a bid without a currency, or a buyer without one, agrees with all."""
    return not bid_currency or not buyer_currency or bid_currency == buyer_currency
