"""A pool on each engine: what scripts see is the same on both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from adyton.sandbox.engines import Engine
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import SandboxLimits


@pytest.fixture(params=[Engine.V8, pytest.param(Engine.QUICKJS, marks=pytest.mark.slow)], ids=["v8", "quickjs"])
def in_a_pool(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs `work` with an open pool of the engine under test."""
    if request.param is Engine.QUICKJS:
        pytest.importorskip("_quickjs", reason="the extra `quickjs` is not installed")

    def run(work: Callable[[SandboxPool], Awaitable[None]], limits: SandboxLimits | None = None) -> None:
        async def inside() -> None:
            async with SandboxPool(limits=limits, spares=0, engine=request.param) as pool:
                await work(pool)

        asyncio.run(inside())

    return run
