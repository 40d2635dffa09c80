"""Services in processes of their own, inference in the scripts, versions of code, and the key/value service's forms."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import TensorProto, helper

from adyton.auction.config import parse_config
from adyton.auction.kv_messages import lookup_request
from adyton.auction.services.clients import RemoteKeyValue
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.process import PartyProcess
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.messages import inference_pb2, inference_pb2_grpc

ONE, TWO = "buyer1.example", "buyer2.example"
SIGNALS = {ONE: bytes([7]), TWO: bytes([7])}
Running = Callable[..., Any]
SCRIPT_WITH_MODEL = """
function prepareDataForAdRetrieval(signals, version, auctionSignals, contextualSignals) {
  const reply = JSON.parse(runInference(JSON.stringify({ request: [{ model_path: JSON.parse(getModelPaths())[0],
    tensors: [{ tensor_name: 'x', data_type: 'FLOAT', tensor_shape: [1, 1], tensor_content: [String(signals[0])] }]
  }] })));
  return { topic: signals[0], factor: reply.response[0].tensors[0].tensor_content[0] };
}
function generateBid(ads, auctionSignals, buyerSignals, prepared) {
  return { bid: prepared.factor, render: ads[0].url };
}
"""


def doubling_model() -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], np.array([2.0], dtype=np.float32))
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "doubling", [x], [y], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_bucket(folder: Path) -> Path:
    bucket = folder / "models"
    (bucket / "double" / "1").mkdir(parents=True)
    (bucket / "double" / "1" / "model.onnx").write_bytes(doubling_model())
    (bucket / "models.json").write_text(json.dumps({"model_metadata": [{"model_path": "double/1/"}]}))
    (folder / "with_model.js").write_text(SCRIPT_WITH_MODEL)
    return bucket


@pytest.mark.slow
def test_every_service_in_its_own_process_gives_the_same_auction(tmp_path: Path, parts: ModuleType) -> None:
    def document(name: str, **sections: object) -> dict[str, object]:
        return {"name": name, "test_mode": True, "sandbox": {"spares": 0, "workers_per_udf": 1}, **sections}

    async def scenario() -> None:
        from contextlib import AsyncExitStack

        parts.write_files(tmp_path)
        bucket = write_bucket(tmp_path)
        script = str(tmp_path / "with_model.js")
        async with AsyncExitStack() as stack:

            async def start(name: str, **sections: object) -> str:
                process = PartyProcess(parse_config(document(name, **sections)))
                return str((await stack.enter_async_context(process)).addresses.grpc)

            inference = await start("inference", inference={"models": str(bucket)})
            retrieval = await start(
                "kv", key_value={"snapshot": str(tmp_path / ONE), "udf": str(tmp_path / "retrieval.js")}
            )
            bidding = await start(
                "bidding",
                bidding={
                    "generate_bid": script,
                    "prepare_data": script,
                    "retrieval_address": retrieval,
                    "inference_address": inference,
                },
            )
            buyer = await start(ONE, buyer_front_end={"bidding_address": bidding})
            auction = await start("auction", auction={"score_ad": str(tmp_path / "seller.js")})
            seller = await start(
                "seller",
                seller_front_end={
                    "seller_domain": parts.SELLER,
                    "buyers": {ONE: buyer},
                    "auction_address": auction,
                    "uses_scoring_signals": False,
                    "enable_chaffing_v2": True,
                    "enable_buyer_caching": True,
                },
            )
            async with grpc.aio.insecure_channel(seller) as channel:
                ciphertext, context = parts.encrypt(parts.client_input({ONE: bytes([7])}))
                request = parts.select_ad_request(ciphertext)
                for _ in range(2):
                    response = await ba_grpc.SellerFrontEndStub(channel).SelectAd(request, timeout=30)
                    result = parts.decrypt(response, context)

                    assert result.ad_render_url == parts.ad_url(ONE, 7)
                    assert result.score == 140.0
                health = health_pb2_grpc.HealthStub(channel)
                name = "privacy_sandbox.bidding_auction_servers.SellerFrontEnd"
                for service in ("", name):
                    status = (await health.Check(health_pb2.HealthCheckRequest(service=service))).status
                    assert status == health_pb2.HealthCheckResponse.SERVING
            async with grpc.aio.insecure_channel(inference) as channel:
                paths = await inference_pb2_grpc.InferenceServiceStub(channel).GetModelPaths(
                    inference_pb2.GetModelPathsRequest()
                )
                assert [spec.model_path for spec in paths.model_specs] == ["double/1/"]

    asyncio.run(scenario())


@pytest.mark.slow
def test_requests_choose_code_versions_and_new_code_is_swapped_in(
    running: Running, parts: ModuleType, tmp_path: Path
) -> None:
    def fixed(price: float) -> str:
        return f"function generateBid(ads) {{ return {{ bid: {price}, render: ads[0].url }}; }}"

    async def scenario() -> None:
        current, other = tmp_path / "v1.js", tmp_path / "v2.js"
        current.write_text(fixed(11))
        other.write_text(fixed(22))
        source = {"default": str(current), "versions": {"v2": str(other)}}
        async with running(bidding={ONE: {"generate_bid": source}}) as stack:

            async def score(version: str) -> float:
                ciphertext, context = parts.encrypt(parts.client_input({ONE: bytes([7])}))
                request = parts.select_ad_request(ciphertext)
                versions = request.auction_config.per_buyer_config[ONE].blob_versions
                versions.protected_app_signals_generate_bid_udf = version
                result = parts.decrypt(await stack.stub.SelectAd(request, timeout=30), context)
                return float(result.score)

            assert (await score(""), await score("v2")) == (110, 220)
            with pytest.raises(grpc.aio.AioRpcError, match="Internal server error"):
                await score("v3")
            current.write_text(fixed(33))
            pending = [asyncio.create_task(score("v2")) for _ in range(4)]
            await stack.buyers[ONE].refresh_code()
            assert (await score(""), await score("v2")) == (330, 220)
            assert await asyncio.gather(*pending) == [220] * 4
            current.write_text("syntax error (")
            await stack.buyers[ONE].refresh_code()
            assert await score("") == 330

    asyncio.run(scenario())


def test_key_value_service_answers_in_all_its_forms(tmp_path: Path, parts: ModuleType) -> None:
    async def scenario() -> None:
        parts.write_files(tmp_path)
        config = parse_config(
            {
                "name": "kv",
                "test_mode": True,
                "http_listen": "127.0.0.1:0",
                "sandbox": {"spares": 0},
                "key_value": {"snapshot": str(tmp_path / ONE), "poll_period_ms": 100},
            }
        )
        async with PartyProcess(config) as process:
            async with grpc.aio.insecure_channel(process.addresses.grpc) as channel:
                remote = RemoteKeyValue(channel, KeyMaterial.test_mode())
                reply = await remote.get_values(lookup_request(["ad-7", "none"]), timeout_s=10)
            values = json.loads(reply.single_partition.string_output)
            assert json.loads(values["ad-7"]["value"])["url"] == parts.ad_url(ONE, 7)
            assert values["none"] == {"status": {"code": 5, "message": "Key not found: none"}}

            body = {"metadata": {"is_pas": "true"}, "partitions": [{"id": 0, "arguments": [{"data": ["ad-0"]}]}]}

            def put(document: object) -> tuple[int, dict[str, Any]]:
                request = urllib.request.Request(
                    f"http://{process.addresses.http}/v2/getvalues", method="PUT", data=json.dumps(document).encode()
                )
                try:
                    with urllib.request.urlopen(request) as response:
                        return response.status, json.load(response)
                except urllib.error.HTTPError as error:
                    return error.code, json.load(error)

            status, answer = await asyncio.to_thread(put, body)
            assert status == 200
            assert "ad-0" in json.loads(answer["singlePartition"]["stringOutput"])
            body["partitions"][0]["id"] = 5  # type: ignore[index]
            assert (await asyncio.to_thread(put, body))[1]["singlePartition"]["id"] == 5
            assert await asyncio.to_thread(put, {"partitions": []}) == (
                500,
                {"code": 13, "message": "At least 1 partition is required", "details": []},
            )
            assert (await asyncio.to_thread(put, [1]))[0] == 400

            code = "function Ids(metadata, keys) { return keys.length; }"
            rows = f'code_snippet,handler_name,logical_commit_time,version\n"{code}",Ids,5,1\n'
            (tmp_path / ONE / ".new").write_text(rows)
            (tmp_path / ONE / ".new").rename(tmp_path / ONE / "DELTA_0000000000000002.csv")
            for _ in range(100):
                status, answer = await asyncio.to_thread(put, body)
                if answer["singlePartition"]["stringOutput"] == "1":
                    break
                await asyncio.sleep(0.1)
            assert answer == {"singlePartition": {"id": 5, "stringOutput": "1"}}

    asyncio.run(scenario())


def test_a_batch_of_predictions_is_answered_in_order(tmp_path: Path) -> None:
    def prediction(number: str, path: str = "double/1/") -> inference_pb2.PredictRequest:
        tensor = {"tensor_name": "x", "data_type": "FLOAT", "tensor_shape": [1, 1], "tensor_content": [number]}
        document = {"request": [{"model_path": path, "tensors": [tensor]}]}
        return inference_pb2.PredictRequest(input=json.dumps(document).encode())

    async def scenario() -> None:
        config = parse_config(
            {"name": "models", "test_mode": True, "inference": {"models": str(write_bucket(tmp_path))}}
        )
        async with PartyProcess(config) as process, grpc.aio.insecure_channel(process.addresses.grpc) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            batch = inference_pb2.PredictBatchRequest(
                predict_requests=[prediction("1"), prediction("2", "none/"), prediction("3")]
            )
            reply = await stub.PredictBatch(batch, timeout=30)
            answers = [json.loads(one.output)["response"][0] for one in reply.predict_responses]
            assert [answers[i]["tensors"][0]["tensor_content"] for i in (0, 2)] == [[2.0], [6.0]]
            assert answers[1]["error"]["error_type"] == "MODEL_NOT_FOUND"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.PredictBatch(
                    inference_pb2.PredictBatchRequest(predict_requests=[inference_pb2.PredictRequest(proto_input=b"x")])
                )
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(scenario())


def test_scoring_signals_of_the_sellers_store_reach_its_script(tmp_path: Path, parts: ModuleType) -> None:
    script = """
    function scoreAd(ad, bid, config, trusted, browserSignals) {
      const known = trusted && trusted.renderUrl[browserSignals.renderUrl];
      return known && known.approved ? bid : { desirability: 0, rejectReason: 'disapproved-by-exchange' };
    }
    """

    async def scenario() -> None:
        parts.write_files(tmp_path)
        lookup = tmp_path / "lookup"
        lookup.mkdir()
        (tmp_path / "approving.js").write_text(script)
        rows = [
            "key,logical_commit_time,mutation_type,value,value_type",
            f'{parts.ad_url(ONE, 7)},1,UPDATE,"{{""approved"":true}}",string',
            f'{parts.ad_url(TWO, 7)},1,UPDATE,"{{""approved"":false}}",string',
        ]
        (lookup / "SNAPSHOT_0000000000000001.csv").write_text("\n".join(rows) + "\n")
        async with (
            PartyProcess(parse_config(parts.buyer_document(tmp_path, ONE))) as one,
            PartyProcess(parse_config(parts.buyer_document(tmp_path, TWO))) as two,
        ):
            document = parts.seller_document(
                tmp_path,
                {ONE: one.addresses.grpc, TWO: two.addresses.grpc},
                uses_scoring_signals=True,
                requires_scoring_signals=True,
            )
            document["auction"]["score_ad"] = str(tmp_path / "approving.js")
            document["key_value"] = {"snapshot": str(lookup)}
            async with (
                PartyProcess(parse_config(document)) as seller,
                grpc.aio.insecure_channel(seller.addresses.grpc) as channel,
            ):
                stub = ba_grpc.SellerFrontEndStub(channel)
                for signals, owner in ((SIGNALS, ONE), ({TWO: b"\x07"}, ""), ({ONE: b"\x00"}, "")):
                    ciphertext, context = parts.encrypt(parts.client_input(signals))
                    response = await stub.SelectAd(parts.select_ad_request(ciphertext), timeout=30)
                    result = parts.decrypt(response, context)

                    assert (result.interest_group_owner, result.is_chaff) == (owner, not owner)

    asyncio.run(scenario())
