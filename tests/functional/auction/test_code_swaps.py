"""New code under a steady load: every request is answered, by the code that was current when it came or later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adyton.auction.config import ScriptSource
from adyton.auction.services.code_store import BlobFetcher, ScriptStore
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfKind

N_VERSIONS = 6
N_CALLERS = 4


def script(version: int) -> str:
    """A few milliseconds of work, so that swaps fall into calls."""
    return (
        "async function generateBid() { let sum = 0; for (let i = 0; i < 1e6; i += 1) sum += i % 7; await null;"
        f" return {version} + (sum < 0 ? 1 : 0); }}"
    )


@pytest.mark.parametrize("grace_s", [0.0, 60.0])
def test_swaps_under_load_drop_no_request_and_never_go_back(tmp_path: Path, grace_s: float) -> None:
    place = tmp_path / "bid.js"
    place.write_text(script(0))

    async def scenario() -> None:
        async with SandboxPool(spares=1) as pool:
            store = ScriptStore(
                pool,
                BlobFetcher(timeout_ms=10_000),
                owner="b",
                kind=UdfKind.GENERATE_BID,
                source=ScriptSource(default=str(place)),
                grace_s=grace_s,
            )
            await store.refresh()
            current, answered = 0, set[int]()

            async def call_until_the_last_version() -> list[int]:
                seen: list[int] = []
                while not seen or seen[-1] < N_VERSIONS - 1:
                    at_start = current
                    result = await pool.call(store.handle(), "generateBid", [], deadline_ms=60_000)
                    assert isinstance(result.value, int)
                    assert at_start <= result.value <= current + 1  # the swap is done before it is noted
                    seen.append(result.value)
                    answered.add(result.value)
                return seen

            callers = [asyncio.create_task(call_until_the_last_version()) for _ in range(N_CALLERS)]
            for version in range(1, N_VERSIONS):
                place.write_text(script(version))
                await store.refresh()
                current = version
                while version not in answered and not any(caller.done() for caller in callers):
                    await asyncio.sleep(0.01)
            answers = await asyncio.gather(*callers)
            await store.close()

        assert all(seen == sorted(seen) for seen in answers)
        assert answered == set(range(N_VERSIONS)) or answered == set(range(1, N_VERSIONS))

    asyncio.run(scenario())
