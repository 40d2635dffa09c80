"""Which buyers one auction calls (protected-auction §7.1 step 6, §7.5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

MAX_BUYERS_WITH_CHAFF = 15


def select_buyers(
    *, configured: Collection[str], buyer_list: Iterable[str], with_input: Collection[str], max_buyers: int | None
) -> tuple[str, ...]:
    """Buyers with a front end, named by the ad server and with data on the device, once each, in the ad server's order.

    max_buyers: the first so many are taken; None for no limit (the reference's is a limit of its deployment only).
    """
    chosen = [buyer for buyer in dict.fromkeys(buyer_list) if buyer in configured and buyer in with_input]
    return tuple(chosen if max_buyers is None else chosen[:max_buyers])


def chaff_candidates(
    *, configured: Collection[str], buyer_list: Iterable[str], with_input: Collection[str]
) -> tuple[str, ...]:
    """Buyers with a front end and named by the ad server that have no data on the device, sorted.

    Sorted, so that a replay of the same ciphertext sends the same chaff whatever order the ad server chose.
    """
    return tuple(sorted({buyer for buyer in buyer_list if buyer in configured and buyer not in with_input}))
