"""Turns: in order, no more at once than allowed, no more waiting than allowed, and none lost to a cancelled caller."""

from __future__ import annotations

import asyncio

import pytest

from adyton.auction.errors import OverloadedError
from adyton.auction.services.admission import Admission
from adyton.auction.services.buyer_front_end import BuyerFrontEndService
from adyton.auction.services.ports import BiddingRawResponse, Metadata
from adyton.auction.services.status import status_name
from adyton.auction.services.telemetry import DebugPolicy, Metrics
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba


class Callers:
    """Calls that end when they are told to."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.begun: list[int] = []
        self._ends: dict[int, asyncio.Event] = {}

    async def call(self, number: int) -> None:
        self._ends[number] = asyncio.Event()
        async with self._admission.turn():
            self.begun.append(number)
            await self._ends[number].wait()

    def end(self, number: int) -> None:
        self._ends[number].set()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_turns_come_in_the_order_of_arrival_and_no_more_than_allowed_at_once() -> None:
    async def story() -> None:
        callers = Callers(Admission(2, 10))
        tasks = [asyncio.create_task(callers.call(i)) for i in range(5)]
        await settled()
        assert callers.begun == [0, 1]
        callers.end(1)
        await settled()
        assert callers.begun == [0, 1, 2]
        for i in range(5):
            callers.end(i)
            await settled()
        assert callers.begun == [0, 1, 2, 3, 4]
        await asyncio.gather(*tasks)

    asyncio.run(story())


def test_who_finds_the_queue_full_is_told_at_once() -> None:
    async def story() -> None:
        callers = Callers(Admission(1, 1))
        tasks = [asyncio.create_task(callers.call(i)) for i in range(2)]
        await settled()
        with pytest.raises(OverloadedError) as raised:
            await callers.call(2)
        assert status_name(raised.value) == "RESOURCE_EXHAUSTED"
        callers.end(0)
        await settled()
        tasks.append(asyncio.create_task(callers.call(3)))  # the queue has room again
        await settled()
        callers.end(1)
        await settled()
        callers.end(3)
        await asyncio.gather(*tasks)
        assert callers.begun == [0, 1, 3]

    asyncio.run(story())


@pytest.mark.parametrize("victim", [0, 1], ids=["while it is served", "while it waits"])
def test_a_cancelled_caller_gives_its_turn_or_its_place_back(victim: int) -> None:
    async def story() -> None:
        callers = Callers(Admission(1, 1))
        tasks = [asyncio.create_task(callers.call(i)) for i in range(2)]
        await settled()
        tasks[victim].cancel()
        await settled()
        tasks.append(asyncio.create_task(callers.call(2)))
        await settled()
        callers.end(1 - victim)
        await settled()
        callers.end(2)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert callers.begun == ([0, 1, 2] if victim == 0 else [0, 2])

    asyncio.run(story())


def test_without_a_limit_nobody_waits() -> None:
    async def story() -> None:
        callers = Callers(Admission(None, 0))
        tasks = [asyncio.create_task(callers.call(i)) for i in range(50)]
        await settled()
        assert len(callers.begun) == 50
        for i in range(50):
            callers.end(i)
        await asyncio.gather(*tasks)

    asyncio.run(story())


class SlowBidding:
    """Bidding that ends when it is told to."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def generate_bids(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        *,
        metadata: Metadata,
        timeout_s: float,
    ) -> ba.GenerateProtectedAppSignalsBidsResponse.GenerateProtectedAppSignalsBidsRawResponse:
        await self.may_end.wait()
        return BiddingRawResponse()


def test_a_buyer_at_its_limit_refuses_requests_and_still_answers_chaff() -> None:
    async def story() -> None:
        bidding = SlowBidding()
        service = BuyerFrontEndService(
            bidding=bidding, bidding_timeout_ms=1000, debug=DebugPolicy(), metrics=Metrics(), admission=Admission(1, 0)
        )
        real = ba.GetBidsRequest.GetBidsRawRequest(
            protected_app_signals_buyer_input={"protected_app_signals": {"app_install_signals": b"\x01"}}
        )
        first = asyncio.create_task(service.answer(real, metadata=()))
        await settled()
        with pytest.raises(OverloadedError):
            await service.answer(real, metadata=())
        assert await service.answer(ba.GetBidsRequest.GetBidsRawRequest(is_chaff=True), metadata=())
        bidding.may_end.set()
        assert await first
        assert await service.answer(real, metadata=())

    asyncio.run(story())
