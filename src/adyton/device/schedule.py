"""The hourly job of many devices: encode, then maintain (protected-auction §3.1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from adyton.device.device import Device
from adyton.device.encoding import JOB_PERIOD_MS
from adyton.kernel.chance import RandomSource, randbelow
from adyton.kernel.errors import AdytonError, InternalError

FLEX_MS = 5 * 60 * 1000
"""A run may start up to five minutes before its hour is over."""
_log = logging.getLogger(__name__)


async def run_hourly(
    devices: Sequence[Device],
    source: RandomSource,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rounds: int | None = None,
) -> None:
    """Run every device's job once an hour, for ever or for `rounds` hours.

    sleep: waits that many seconds.   A device that fails is logged and tried again in an hour.
    """
    done = 0
    while rounds is None or done < rounds:
        early_ms = randbelow(source, FLEX_MS + 1)
        await sleep((JOB_PERIOD_MS - early_ms) / 1000)
        for device in devices:
            try:
                await device.encode()
                device.maintain()
            except InternalError:
                raise
            except AdytonError as error:
                _log.warning("a device's hourly job failed: %s", error.what)
        await sleep(early_ms / 1000)
        done += 1
