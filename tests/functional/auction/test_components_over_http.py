"""GetBids, GenerateProtectedAppSignalsBids, ScoreAds and the key/value service as the reference's HTTP clients call
them: proto3 JSON with base64 bytes, and errors with grpc-status headers.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cbor2
import httpx
import pytest

from adyton.auction.config import parse_config
from adyton.auction.kv_messages import CBOR_CONTENT_TYPE, PROTO_CONTENT_TYPE
from adyton.auction.services.process import PartyProcess
from adyton.protocol.frames import (
    decode_client_frame,
    decode_get_bids_frame,
    encode_client_frame,
    encode_get_bids_frame,
)
from adyton.protocol.keys import TEST_MODE_KEY
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.ohttp import Label, encapsulate_request
from adyton.protocol.tee import TeeClientContext, seal_request

ONE = "buyer1.example"
SIGNALS = ba.ProtectedAppSignals(app_install_signals=b"\x07", encoding_version=3)
GetBidsRaw = ba.GetBidsRequest.GetBidsRawRequest
BiddingRaw = ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest
ScoreAdsRaw = ba.ScoreAdsRequest.ScoreAdsRawRequest


@asynccontextmanager
async def http_client(document: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    config = parse_config({**document, "http_listen": "127.0.0.1:0"})
    async with (
        PartyProcess(config) as party,
        httpx.AsyncClient(base_url=f"http://{party.addresses.http}", timeout=30) as client,
    ):
        yield client


def envelope(plaintext: bytes, *, key_id: str = "64") -> tuple[dict[str, str], TeeClientContext]:
    ciphertext, context = seal_request(TEST_MODE_KEY.public_key, plaintext)
    return {"requestCiphertext": base64.b64encode(ciphertext).decode(), "keyId": key_id}, context


def opened(response: httpx.Response, context: TeeClientContext) -> bytes:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return context.open_response(base64.b64decode(response.json()["responseCiphertext"]))


def test_a_buyer_bids_over_json_at_the_front_end_and_at_bidding(tmp_path: Path, parts: ModuleType) -> None:
    async def scenario() -> None:
        parts.write_files(tmp_path)
        async with http_client(parts.buyer_document(tmp_path, ONE)) as client:
            raw = GetBidsRaw(auction_signals='{"floor":0.1}', buyer_signals='{"factor":2}')
            raw.protected_app_signals_buyer_input.protected_app_signals.CopyFrom(SIGNALS)
            body, context = envelope(encode_get_bids_frame(raw.SerializeToString(), gzip=True))
            response = await client.post("/v1/getbids", json=body)
            frame = opened(response, context)
            assert frame[0] == 1
            bids = ba.GetBidsResponse.GetBidsRawResponse.FromString(decode_get_bids_frame(frame))
            assert [bid.render for bid in bids.protected_app_signals_bids] == [parts.ad_url(ONE, 7)]

            request = BiddingRaw(
                auction_signals='{"floor":0.1}',
                buyer_signals='{"factor":2}',
                protected_app_signals=SIGNALS,
                multi_bid_limit=2,
            )
            # Original proto names are proto3 JSON too.
            body, context = envelope(request.SerializeToString())
            snake = {"request_ciphertext": body["requestCiphertext"], "key_id": body["keyId"]}
            response = await client.post("/v1/generateprotectedappsignalsbids", json=snake)
            reply = ba.GenerateProtectedAppSignalsBidsResponse.GenerateProtectedAppSignalsBidsRawResponse.FromString(
                opened(response, context)
            )
            assert [bid.bid for bid in reply.bids] == [4.0]

    asyncio.run(scenario())


def test_a_seller_scores_over_json_where_the_key_id_is_bytes(tmp_path: Path, parts: ModuleType) -> None:
    async def scenario() -> None:
        parts.write_files(tmp_path)
        document = parts.seller_document(tmp_path, {})
        del document["seller_front_end"]
        async with http_client(document) as client:
            raw = ScoreAdsRaw(seller_signals="{}", auction_signals='{"floor":0.1}', seller="seller.example")
            raw.protected_app_signals_ad_bids.add(bid=1.5, render="https://cdn.example/1", owner=ONE)
            body, context = envelope(raw.SerializeToString(), key_id=base64.b64encode(b"64").decode())
            response = await client.post("/v1/scoreads", json=body)
            score = ba.ScoreAdsResponse.ScoreAdsRawResponse.FromString(opened(response, context)).ad_score
            assert (score.desirability, score.render) == (15.0, "https://cdn.example/1")
            assert (await client.post("/v1/selectAd", json={})).status_code == 404

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/getbids", "/v1/generateprotectedappsignalsbids"])
def test_a_bad_envelope_is_refused_with_the_status_in_headers_and_body(
    tmp_path: Path, parts: ModuleType, path: str
) -> None:
    good, _ = envelope(encode_get_bids_frame(b"", gzip=False))
    cases = [
        ({"requestCiphertext": good["requestCiphertext"]}, "key_id must be non-null."),
        ({"keyId": "64"}, "request_ciphertext must be non-null."),
        ({**good, "keyId": "x"}, "Invalid key_id."),
        ({**good, "keyId": "256"}, "Invalid key_id."),
        ({**good, "requestCiphertext": base64.b64encode(b"short").decode()}, "Malformed request ciphertext."),
    ]

    async def scenario() -> None:
        parts.write_files(tmp_path)
        async with http_client(parts.buyer_document(tmp_path, ONE)) as client:
            for body, text in cases:
                response = await client.post(path, json=body)
                assert (response.status_code, response.json()) == (400, {"code": 3, "message": text, "details": []})
                assert (response.headers["grpc-status"], response.headers["grpc-message"]) == ("3", text)
            for garbage in (b"", b"[]", b'{"requestCiphertext":"*"}', b'{"unknownMember":1}', b"\xff"):
                response = await client.post(path, content=garbage)
                assert response.status_code == 400
                assert "unknownMember" not in response.text
            assert (await client.get(path)).status_code == 405

    asyncio.run(scenario())


def test_the_key_value_service_takes_its_body_type_from_either_header(tmp_path: Path, parts: ModuleType) -> None:
    async def scenario() -> None:
        parts.write_files(tmp_path)
        document = {
            "name": "kv",
            "test_mode": True,
            "sandbox": {"spares": 0},
            "key_value": {"snapshot": str(tmp_path / ONE)},
        }
        lookup: dict[str, Any] = {
            "metadata": {"is_pas": "true"},
            "partitions": [{"id": 0, "arguments": [{"data": ["ad-0"]}]}],
        }
        scoring: dict[str, Any] = {"partitions": [{"id": 3, "arguments": [{"tags": ["t"], "data": ["ad-0", "none"]}]}]}
        async with http_client(document) as client:
            message = kv.GetValuesRequest(metadata={"is_pas": "true"})  # type: ignore[arg-type]
            message.partitions.add(id=0).arguments.add().data.list_value.values.add(string_value="ad-0")
            for header in ("content-type", "kv-content-type"):
                response = await client.put(
                    "/v2/getvalues", content=message.SerializeToString(), headers={header: PROTO_CONTENT_TYPE}
                )
                answer = kv.GetValuesResponse.FromString(response.content)
                assert "ad-0" in json.loads(answer.single_partition.string_output)
            response = await client.put("/any/prefix/v2/getvalues", json=lookup)
            assert "ad-0" in json.loads(response.json()["singlePartition"]["stringOutput"])

            # Without is_pas even one partition is answered in its compression group, whose number is told if it is 0.
            response = await client.put("/v2/getvalues", json=scoring)
            (group,) = response.json()["compressionGroups"]
            assert group["compressionGroupId"] == 0
            ((output),) = json.loads(base64.b64decode(group["content"]))
            assert (output["id"], output["udfOutputApiVersion"]) == (3, 1)
            assert list(output["keyGroupOutputs"][0]["keyValues"]) == ["ad-0"]

            body, context = encapsulate_request(
                TEST_MODE_KEY.public_key, encode_client_frame(cbor2.dumps(scoring), size=512), Label.KEY_VALUE
            )
            for content_type in ("message/ohttp-req", CBOR_CONTENT_TYPE):
                response = await client.post(
                    "/v2/oblivious_getvalues", content=body, headers={"content-type": content_type}
                )
                assert response.headers["content-type"] == "message/ad-auction-trusted-signals-response"
                reply = cbor2.loads(decode_client_frame(context.decapsulate_response(response.content)).payload)
                assert cbor2.loads(reply["compressionGroups"][0]["content"])[0]["id"] == 3
            response = await client.post("/v2/oblivious_getvalues", content=body[:-1])
            assert (response.status_code, response.headers["grpc-status"]) == (400, "3")

    asyncio.run(scenario())
