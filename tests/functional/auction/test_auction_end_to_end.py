"""A client's ciphertext goes through a seller and two buyers over real sockets, and the best bid comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.ohttp import Label

ONE, TWO = "buyer1.example", "buyer2.example"
SIGNALS = {ONE: bytes([7]), TWO: bytes([7])}
Running = Callable[..., Any]


async def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details()


def test_highest_scored_bid_wins_and_both_sides_report(running: Running, parts: ModuleType) -> None:
    async def scenario() -> None:
        async with running() as stack:
            result = await stack.auction(parts.client_input(SIGNALS))

            assert not result.is_chaff
            assert result.interest_group_owner == TWO
            assert result.ad_render_url == parts.ad_url(TWO, 7)
            assert result.score == pytest.approx(30.0)
            assert result.bid == 0
            assert result.ad_type == ba.AD_TYPE_PROTECTED_APP_SIGNALS_AD
            urls = result.win_reporting_urls
            assert urls.top_level_seller_reporting_urls.reporting_url == "https://seller.example/result?bid=3"
            assert urls.buyer_reporting_urls.reporting_url == (
                f"https://{TWO}/win?egress=BUA%3D&seen=https%3A%2F%2Fcdn.{TWO}%2Fad-7&request=r1"
            )
            assert dict(urls.buyer_reporting_urls.interaction_reporting_urls) == {"click": f"https://{TWO}/click"}

            legacy, context = parts.encrypt(parts.client_input(SIGNALS), Label.SFE_LEGACY)
            response = await stack.stub.SelectAd(parts.select_ad_request(legacy), timeout=30)
            assert parts.decrypt(response, context).interest_group_owner == TWO

    asyncio.run(scenario())


@pytest.mark.slow
def test_contextual_and_hybrid_ads_reach_the_right_script(running: Running, parts: ModuleType) -> None:
    async def scenario() -> None:
        async with running() as stack:
            for is_hybrid in (False, True):
                ciphertext, context = parts.encrypt(parts.client_input(SIGNALS))
                request = parts.select_ad_request(ciphertext)
                for buyer in (ONE, TWO):
                    contextual = request.auction_config.per_buyer_config[buyer].contextual_protected_app_signals_data
                    contextual.ad_render_ids.append("ad-0")
                    contextual.fetch_ads_from_retrieval_service = is_hybrid
                result = parts.decrypt(await stack.stub.SelectAd(request, timeout=30), context)

                # The retrieval script of these buyers needs prepared data, so contextual requests find no ads in it.
                if is_hybrid:
                    assert result.ad_render_url == parts.ad_url(TWO, 0)
                else:
                    assert result.is_chaff

    asyncio.run(scenario())


def test_what_is_wrong_is_told_to_the_one_whose_fault_it_is(running: Running, parts: ModuleType) -> None:
    async def scenario() -> None:
        async with running() as stack:
            ciphertext = parts.encrypt(parts.client_input(SIGNALS))[0]
            tampered = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
            code, text = await refusal(stack.stub.SelectAd(parts.select_ad_request(tampered)))
            assert code == "INVALID_ARGUMENT"
            assert text.startswith(
                "Error while decrypting protected_auction_ciphertext: Malformed OHTTP encapsulated request provided"
            )

            assert await refusal(stack.stub.SelectAd(parts.select_ad_request(b"\x07" + ciphertext[1:]))) == (
                "INVALID_ARGUMENT",
                "Unrecognized encapsulated request format",
            )
            assert await refusal(stack.stub.SelectAd(parts.select_ad_request(b""))) == (
                "INVALID_ARGUMENT",
                "protected_auction_ciphertext must be non-null.",
            )
            spoiled = parts.select_ad_request(ciphertext)
            spoiled.auction_config.seller = "other.example"
            spoiled.auction_config.auction_signals = ""
            assert await refusal(stack.stub.SelectAd(spoiled)) == (
                "INVALID_ARGUMENT",
                "Auction signals missing in auction config; "
                "Seller domain passed in request does not match this server's domain",
            )
            nameless = await stack.auction(parts.client_input(SIGNALS, generation_id=""))
            assert (nameless.error.code, nameless.error.message) == (400, "Request is missing generation ID")
            assert not nameless.is_chaff

    asyncio.run(scenario())


HOSTILE = {
    "endless loop": "while (true) {}",
    "array bomb": "const all = []; while (true) { all.push(new Array(1e6).fill(1.5)); }",
    "buffer bomb": "const all = []; while (true) { all.push(new Uint8Array(1e8).fill(1)); }",
    "deep recursion": "const down = (n) => 1 + down(n + 1); return { bid: down(0), render: 'https://x' };",
    "endless promise": "return new Promise(() => {});",
}


@pytest.mark.slow
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_script_costs_its_own_buyers_bid_only(
    running: Running, parts: ModuleType, tmp_path: Path, body: str
) -> None:
    async def scenario() -> None:
        hostile_js = tmp_path / "hostile.js"
        hostile_js.write_text(f"function generateBid() {{ {body} }}")
        bidding = {TWO: {"generate_bid": str(hostile_js), "udf_timeout_ms": 1000}}
        async with running(bidding=bidding) as stack:
            for _ in range(2):
                result = await stack.auction(parts.client_input(SIGNALS))
                assert result.interest_group_owner == ONE

    asyncio.run(scenario())


def test_an_endless_script_costs_its_own_buyers_bid_only(running: Running, parts: ModuleType, tmp_path: Path) -> None:
    async def scenario() -> None:
        loop_js = tmp_path / "endless.js"
        loop_js.write_text(parts.LOOP)
        bidding = {TWO: {"generate_bid": str(loop_js), "udf_timeout_ms": 400}}
        async with running(bidding=bidding) as stack:
            result = await stack.auction(parts.client_input(SIGNALS))
            assert result.interest_group_owner == ONE

            alone = parts.encrypt(parts.client_input({TWO: bytes([7])}))[0]
            assert await refusal(stack.stub.SelectAd(parts.select_ad_request(alone))) == (
                "INTERNAL",
                "Internal server error.",
            )
            again = await stack.auction(parts.client_input(SIGNALS))
            assert again.interest_group_owner == ONE

    asyncio.run(scenario())


def test_chaff_is_sent_and_ignored(running: Running, parts: ModuleType) -> None:
    async def scenario() -> None:
        async with running() as stack:
            one_of_many = next(
                str(i) for i in range(2000) if parts.plans_chaff(str(i), real=(ONE,), candidates=(TWO,), n_configured=2)
            )
            result = await stack.auction(parts.client_input({ONE: bytes([7])}, generation_id=one_of_many))

            assert result.interest_group_owner == ONE
            assert (
                stack.seller.metrics.registry.get_sample_value("adyton_auction_events_total", {"event": "chaff_sent"})
                == 1
            )
            assert (
                stack.buyers[TWO].metrics.registry.get_sample_value(
                    "adyton_auction_events_total", {"event": "chaff_answered"}
                )
                == 1
            )

            nobody = await stack.auction(parts.client_input({"stranger.example": b"\x01"}))
            assert nobody.is_chaff
            assert not nobody.ad_render_url

    asyncio.run(scenario())


def test_consented_debugging_needs_the_token_and_shows_every_hop(running: Running, parts: ModuleType) -> None:
    async def scenario() -> None:
        async with running() as stack:
            for token, is_shown in (("debug-me", True), ("guess", False)):
                message = parts.client_input(SIGNALS)
                message.consented_debug_config.is_consented = True
                message.consented_debug_config.is_debug_info_in_response = True
                message.consented_debug_config.token = token
                request = parts.select_ad_request(parts.encrypt(message)[0])
                response = await stack.stub.SelectAd(request, timeout=30)

                assert response.HasField("debug_info") == is_shown
                if is_shown:
                    hops = [server.server_name for server in response.debug_info.downstream_servers]
                    assert sorted(hops) == ["auction", ONE, TWO]
                    for server in response.debug_info.downstream_servers:
                        inside = [below.server_name for below in server.downstream_servers]
                        assert inside == ([] if server.server_name == "auction" else ["app_signal_bid"])
                        for bidding in server.downstream_servers:
                            (retrieval,) = bidding.downstream_servers
                            assert retrieval.server_name == "ad_retrieval"
                            assert list(retrieval.logs) == ["HandleRequest: 2 keys"]

    asyncio.run(scenario())


def test_buyer_front_end_refuses_with_the_documented_texts(running: Running) -> None:
    async def scenario() -> None:
        async with running() as stack:
            address = stack.buyers[ONE].addresses.grpc
            async with grpc.aio.insecure_channel(address) as channel:
                stub = ba_grpc.BuyerFrontEndStub(channel)
                cases = [
                    (ba.GetBidsRequest(request_ciphertext=b"x"), "key_id must be non-null."),
                    (ba.GetBidsRequest(key_id="64"), "request_ciphertext must be non-null."),
                    (ba.GetBidsRequest(key_id="sixty", request_ciphertext=b"x"), "Invalid key_id."),
                    (ba.GetBidsRequest(key_id="64", request_ciphertext=b"x"), "Malformed request ciphertext."),
                ]
                for request, text in cases:
                    assert await refusal(stub.GetBids(request)) == ("INVALID_ARGUMENT", text)

    asyncio.run(scenario())
