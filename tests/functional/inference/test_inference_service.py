"""`InferenceService` over gRPC, of a process that has no other service: the five calls and their statuses (§9)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path

import grpc
import onnx
import onnx.helper
import orjson
import pytest

from adyton.auction.config import parse_config
from adyton.auction.services.process import PartyProcess
from adyton.protocol.messages import inference_pb2, inference_pb2_grpc


def negating_onnx() -> bytes:
    """y[1] = -x[1], float32."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "negating", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def batch(path: str, number: str) -> inference_pb2.PredictRequest:
    tensor = {"tensor_name": "x", "data_type": "FLOAT", "tensor_shape": [1], "tensor_content": [number]}
    document = {"request": [{"model_path": path, "tensors": [tensor]}]}
    return inference_pb2.PredictRequest(input=orjson.dumps(document))


def registration(path: str, name: str, content: bytes, warm_up: str = "") -> inference_pb2.RegisterModelRequest:
    return inference_pb2.RegisterModelRequest(
        model_spec={"model_path": path}, model_files={name: content}, warm_up_batch_request_json=warm_up
    )


async def status_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


def test_models_are_registered_asked_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: Path, __: bytes) -> int:
        raise OSError(28, os.strerror(28))

    async def scenario() -> None:
        config = parse_config({"name": "b", "test_mode": True, "inference": {}})
        async with PartyProcess(config) as party, grpc.aio.insecure_channel(party.addresses.grpc) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)  # type: ignore[no-untyped-call]

            async def paths() -> list[str]:
                reply = await stub.GetModelPaths(inference_pb2.GetModelPathsRequest())
                return [spec.model_path for spec in reply.model_specs]

            good = registration("m/1/", "m/1/model.onnx", negating_onnx())
            with monkeypatch.context() as patch:
                patch.setattr(Path, "write_bytes", full_disk)
                code, text = await status_of(stub.RegisterModel(good))
                assert (code, "No space left" in text) == (grpc.StatusCode.UNAVAILABLE, True)
            for broken in (
                registration("m/1/", "m/1/model.onnx", b"junk"),
                registration("m/1/", "m/1/\0", b"junk"),
                registration("m/1/", "../model.onnx", negating_onnx()),
                registration("m/1/", "m/1/model.onnx", negating_onnx(), warm_up="{}"),
                inference_pb2.RegisterModelRequest(model_spec={"model_path": "m/1/"}),
            ):
                assert (await status_of(stub.RegisterModel(broken)))[0] is grpc.StatusCode.INVALID_ARGUMENT
            assert await paths() == []

            await stub.RegisterModel(good)
            assert await paths() == ["m/1/"]
            assert (await status_of(stub.RegisterModel(good)))[0] is grpc.StatusCode.ALREADY_EXISTS

            one = await stub.Predict(batch("m/1/", "2.5"))
            assert orjson.loads(one.output)["response"][0]["tensors"][0]["tensor_content"] == [-2.5]
            several = inference_pb2.PredictBatchRequest(predict_requests=[batch("m/1/", "1"), batch("m/2/", "1")])
            answers = [
                orjson.loads(r.output)["response"][0] for r in (await stub.PredictBatch(several)).predict_responses
            ]
            assert answers[0]["tensors"][0]["tensor_content"] == [-1]
            assert answers[1]["error"]["error_type"] == "MODEL_NOT_FOUND"
            assert (await status_of(stub.Predict(inference_pb2.PredictRequest())))[0] is grpc.StatusCode.UNIMPLEMENTED

            gone = inference_pb2.DeleteModelRequest(model_spec={"model_path": "m/1/"})
            await stub.DeleteModel(gone)
            assert (await status_of(stub.DeleteModel(gone)))[0] is grpc.StatusCode.NOT_FOUND
            assert await paths() == []

    asyncio.run(scenario())
