"""Running party processes until a signal: one line of JSON says that they are ready."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from adyton.auction.config import ProcessConfig
from adyton.auction.keys.attestation import AttestedCaller
from adyton.auction.services.process import PartyProcess


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve_processes(
    configs: Sequence[ProcessConfig], *, announce: Callable[[str], None], caller: AttestedCaller | None = None
) -> None:
    """Serve all `configs` in this process until SIGTERM or SIGINT.

    caller: as for `PartyProcess`.
    announce: gets one JSON line `{"ready": true, "processes": {name: {"grpc": ..., "http": ...}}}`.
    """
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        parties = [await stack.enter_async_context(PartyProcess(config, caller=caller)) for config in configs]
        addresses = {party.config.name: party.addresses.as_json() for party in parties}
        # What is loaded now stays: without it a full collection no longer stops all requests for tens of milliseconds.
        gc.collect()
        gc.freeze()
        announce(json.dumps({"ready": True, "processes": addresses}))
        await stop.wait()
