"""What a process tells about itself: health of each service, reflection, metrics; and that it cannot run without V8."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

BIDDING_AUCTION = "privacy_sandbox.bidding_auction_servers"
SELLER = {f"{BIDDING_AUCTION}.SellerFrontEnd", f"{BIDDING_AUCTION}.Auction"}
BUYER = {f"{BIDDING_AUCTION}.BuyerFrontEnd", f"{BIDDING_AUCTION}.Bidding", "kv_server.v2.KeyValueService"}
COMMON = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_each_process_names_its_services_and_their_health(running: Callable[..., Any]) -> None:
    async def told(address: str) -> tuple[set[str], dict[str, int], bytes]:
        async with grpc.aio.insecure_channel(address) as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            listed = {service.name for service in (await call.read()).list_services_response.service}
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=sorted(listed - COMMON)[0]))
            (descriptor, *_) = (await call.read()).file_descriptor_response.file_descriptor_proto
            await call.done_writing()
            health = health_pb2_grpc.HealthStub(channel)
            states = {}
            for name in ("", *listed - {"grpc.reflection.v1alpha.ServerReflection"}):
                reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
                states[name] = reply.status
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        return listed, states, descriptor

    async def scenario() -> None:
        async with running() as stack:
            for party, services in ((stack.seller, SELLER), (stack.buyers["buyer1.example"], BUYER)):
                listed, states, descriptor = await told(party.addresses.grpc)
                assert listed == services | COMMON
                assert set(states.values()) == {health_pb2.HealthCheckResponse.SERVING}
                assert descriptor
            async with httpx.AsyncClient(base_url=f"http://{stack.seller.addresses.http}") as client:
                assert (await client.get("/healthz")).json() == {"status": "SERVING"}
                metrics = (await client.get("/metrics")).text
            families = set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
            assert families >= {
                "adyton_auction_calls_total",
                "adyton_auction_latency_seconds",
                "adyton_auction_events_total",
            }

    asyncio.run(scenario())


def test_bytes_that_are_no_message_are_the_callers_fault_and_no_class_of_ours_is_named(
    running: Callable[..., Any],
) -> None:
    async def refused(address: str, method: str) -> tuple[grpc.StatusCode, str | None]:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(method)(b"\xff\xff", timeout=20)
        return caught.value.code(), caught.value.details()

    async def scenario() -> None:
        async with running() as stack:
            for party, methods in (
                (stack.seller, ("SellerFrontEnd/SelectAd", "Auction/ScoreAds")),
                (stack.buyers["buyer1.example"], ("BuyerFrontEnd/GetBids", "Bidding/GenerateProtectedAppSignalsBids")),
            ):
                for method in (*(f"/{BIDDING_AUCTION}.{name}" for name in methods), "/grpc.health.v1.Health/Check"):
                    expected = (grpc.StatusCode.INVALID_ARGUMENT, "Malformed request.")
                    assert await refused(party.addresses.grpc, method) == expected
                missing = f"/{BIDDING_AUCTION}.{methods[0].partition('/')[0]}/NoSuchMethod"
                assert (await refused(party.addresses.grpc, missing))[0] is grpc.StatusCode.UNIMPLEMENTED
            for name in ("GetValues", "GetValuesHttp", "ObliviousGetValues"):
                address = stack.buyers["buyer1.example"].addresses.grpc
                assert await refused(address, f"/kv_server.v2.KeyValueService/{name}") == expected

    asyncio.run(scenario())


def test_without_the_deno_engine_nothing_is_served_and_the_way_through_is_said() -> None:
    program = (
        "import sys; sys.modules['deno'] = None; sys.argv = ['adyton', 'auction', 'serve', '--all']\n"
        "from adyton.cli.main import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PATH": "/nonexistent"}, capture_output=True, text=True, timeout=120
    )

    assert (done.returncode, done.stdout) == (13, "")
    assert "error: the Deno engine is not installed" in done.stderr
    assert "hint: pip install 'deno" in done.stderr
