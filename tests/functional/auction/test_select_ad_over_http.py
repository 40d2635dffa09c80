"""SelectAd as JSON over HTTP gives what gRPC gives, errors included."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpx
from google.protobuf import json_format

from adyton.protocol.messages import bidding_auction_servers_pb2 as ba

ONE = "buyer1.example"


def test_an_auction_over_json_has_the_winner_and_the_errors_of_grpc(
    running: Callable[..., Any], parts: ModuleType
) -> None:
    async def scenario() -> None:
        async with (
            running() as stack,
            httpx.AsyncClient(base_url=f"http://{stack.seller.addresses.http}", timeout=30) as client,
        ):

            async def post(body: bytes | str, **headers: str) -> tuple[int, dict[str, Any]]:
                response = await client.post("/v1/selectAd", content=body, headers=headers)
                return response.status_code, response.json()

            ciphertext, context = parts.encrypt(parts.client_input({ONE: b"\x07"}))
            request = parts.select_ad_request(ciphertext)
            text = json_format.MessageToJson(request)
            assert json.loads(text)["protectedAuctionCiphertext"] == base64.b64encode(ciphertext).decode()
            status, answer = await post(text, **{"X-User-Agent": "a device"})
            assert status == 200
            reply = ba.SelectAdResponse(auction_result_ciphertext=base64.b64decode(answer["auctionResultCiphertext"]))
            assert parts.decrypt(reply, context).ad_render_url == parts.ad_url(ONE, 7)

            request.auction_config.seller_signals = ""
            request.auction_config.auction_signals = ""
            status, answer = await post(json_format.MessageToJson(request))
            assert (status, answer["code"]) == (400, 3)
            assert answer["message"] == (
                "Auction signals missing in auction config; Seller signals missing in auction config"
            )
            status, answer = await post(text, **{"X-User-Agent": "\x7f"})
            assert (status, answer["message"]) == (400, "Illegal header value.")
            for bad in (b"", b"[]", b"\xff", b'{"clientType":"NEW"}', b'{"secret-word":1}', b"[" * 100_000):
                status, answer = await post(bad)
                assert (status, answer["code"]) == (400, 3)
                assert "secret-word" not in answer["message"]
            assert (await post(b" " * (5 * 1024 * 1024)))[0] == 400
            assert (await client.get("/v1/selectAd")).status_code == 405
            metrics = (await client.get("/metrics")).text
            assert 'adyton_auction_calls_total{code="OK",method="SelectAd"} 1.0' in metrics

    asyncio.run(scenario())
