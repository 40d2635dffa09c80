"""The real model process: contract, registration, crashes."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import orjson
import pytest

from adyton.auction.inference.checksum import model_checksum
from adyton.auction.inference.client import InferenceClient
from adyton.auction.inference.errors import (
    ChecksumMismatchError,
    InferenceDownError,
    ModelExistsError,
    ModelLoadError,
    ModelNotFoundError,
    ModelStoreError,
)
from adyton.auction.inference.model_list import FolderBucket, ModelListFollower
from adyton.kernel.clock import ManualClock
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfKind


def doubling_onnx(scale: float = 2.0) -> bytes:
    """y[B, 2] = scale * x[B, 2], float32."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["x", "scale"], ["y"])],
        "doubling",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["B", 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["B", 2])],
        [onnx.numpy_helper.from_array(np.array([scale], dtype=np.float32), "scale")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def request(path: str, content: list[str], name: str = "x", data_type: str = "FLOAT") -> dict[str, object]:
    shape = [len(content) // 2, 2]
    tensor = {"tensor_name": name, "data_type": data_type, "tensor_shape": shape, "tensor_content": content}
    return {"model_path": path, "tensors": [tensor]}


def batch(*entries: dict[str, object]) -> str:
    return orjson.dumps({"request": entries}).decode()


def with_client(work: Callable[[InferenceClient], Awaitable[None]], timeout_s: float = 30.0) -> None:
    async def run() -> None:
        async with InferenceClient(timeout_s=timeout_s) as client:
            await work(client)

    asyncio.run(run())


def test_a_batch_answers_in_order_and_one_failure_leaves_the_others() -> None:
    async def work(client: InferenceClient) -> None:
        await client.register_model("m/2/", {"m/2/model.onnx": doubling_onnx()})
        await client.register_model("m/3/", {"m/3/model.onnx": doubling_onnx(3.0)})
        text = await client.predict(
            batch(
                request("m/3/", ["1", "2"]),
                request("m/none/", ["1", "2"]),
                request("m/2/", ["0.25", "-1"], name="unknown"),
                request("m/2/", ["1", "2"], data_type="DOUBLE"),
                request("m/2/", ["0.25", "-1", "1e2", "0"]),
            )
        )
        first, missing, misnamed, mistyped, last = orjson.loads(text)["response"]
        output = {"tensor_name": "y", "data_type": "FLOAT"}

        assert first == {
            "model_path": "m/3/",
            "tensors": [{**output, "tensor_shape": [1, 2], "tensor_content": [3.0, 6.0]}],
        }
        assert missing == {
            "model_path": "m/none/",
            "error": {
                "error_type": "MODEL_NOT_FOUND",
                "description": "NOT_FOUND: Requested model m/none/ not found",
            },
        }
        assert misnamed["error"]["error_type"] == "MODEL_EXECUTION"
        assert mistyped["error"]["error_type"] == "MODEL_EXECUTION"
        assert last["tensors"] == [{**output, "tensor_shape": [2, 2], "tensor_content": [0.5, -2.0, 200.0, 0.0]}]

    with_client(work)


def test_registered_models_are_immutable_checked_and_warmed_up() -> None:
    async def work(client: InferenceClient) -> None:
        files = {"m/model.onnx": doubling_onnx()}
        with pytest.raises(ChecksumMismatchError):
            await client.register_model("m/", files, checksum="0" * 64)
        with pytest.raises(ModelLoadError):
            await client.register_model("m/", files, warm_up_batch_request_json=batch(request("other/", ["1", "2"])))
        with pytest.raises(ModelLoadError):
            await client.register_model("m/", {"m/model.onnx": b"not a model"})
        with pytest.raises(ModelLoadError):
            await client.register_model("m/", {"m/../../escape.onnx": doubling_onnx()})

        assert client.get_model_paths() == []

        await client.register_model(
            "m/",
            files,
            checksum=model_checksum(files),
            warm_up_batch_request_json=batch(request("m/", ["1", "2"])),
        )
        with pytest.raises(ModelExistsError):
            await client.register_model("m/", {"m/model.onnx": doubling_onnx(5.0)})

        assert client.get_model_paths() == ["m/"]

        await client.delete_model("m/")
        with pytest.raises(ModelNotFoundError):
            await client.delete_model("m/")
        (entry,) = orjson.loads(await client.predict(batch(request("m/", ["1", "2"]))))["response"]

        assert entry["error"]["error_type"] == "MODEL_NOT_FOUND"

    with_client(work)


@pytest.mark.parametrize(
    ("model_path", "name"),
    [
        ("m/", "m/../../outside.onnx"),
        ("m/", "../outside.onnx"),
        ("m/", "/tmp/outside.onnx"),
        ("m/", "m//tmp/outside.onnx"),
        ("..", ".."),
        ("m/", "m/sub/../../../outside.onnx"),
    ],
)
def test_a_file_that_would_lie_outside_its_model_is_refused_before_anything_is_written(
    model_path: str, name: str
) -> None:
    async def work(client: InferenceClient) -> None:
        assert client._folder is not None
        with pytest.raises(ModelLoadError, match="outside it"):
            await client.register_model(model_path, {name: doubling_onnx()})

        assert client.get_model_paths() == []
        assert list(client._folder.rglob("*")) == []
        assert not (client._folder.parent / "outside.onnx").exists()

    with_client(work)


def test_a_full_disk_and_a_name_that_no_file_has_are_told_and_do_not_end_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "double.onnx").write_bytes(doubling_onnx())
    (tmp_path / "models.json").write_text('{"model_metadata": [{"model_path": "double.onnx"}]}')

    def full_disk(_: Path, __: bytes) -> int:
        raise OSError(28, os.strerror(28))

    async def work(client: InferenceClient) -> None:
        with pytest.raises(ModelLoadError, match="a name that no file can have"):
            await client.register_model("m", {"m/\0": b"x"})
        with pytest.raises(ModelStoreError, match="File name too long"):
            await client.register_model("m", {"m/" + "x" * 5000: b"x"})
        follower = ModelListFollower(client, FolderBucket(tmp_path, "models.json"), ManualClock(0))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full_disk)
            await follower.sync()
        assert "double.onnx: the files cannot be written (No space left on device)" in caplog.text
        assert client.get_model_paths() == []
        await follower.sync()
        assert client.get_model_paths() == ["double.onnx"]

    with_client(work)


def test_models_survive_the_death_of_their_process() -> None:
    async def work(client: InferenceClient) -> None:
        await client.register_model("m/", {"m/model.onnx": doubling_onnx()})
        assert client._link is not None
        pending = [asyncio.create_task(client.predict(batch(request("m/", ["1", "2"])))) for _ in range(20)]
        await asyncio.sleep(0)
        process = client._link._process
        os.kill(process.pid, 9)
        responses = [orjson.loads(text)["response"] for text in await asyncio.gather(*pending)]
        # All may have been answered before the end, which is noticed a moment later.
        await process.wait()
        after = orjson.loads(await client.predict(batch(request("m/", ["1", "2"]))))["response"]

        assert all("tensors" in response[0] or response[0]["error"]["error_type"] == "GRPC" for response in responses)
        assert after[0]["tensors"][0]["tensor_content"] == [2.0, 4.0]
        assert client.n_restarts == 1

    with_client(work)


def test_a_closed_client_says_so() -> None:
    async def work() -> None:
        client = InferenceClient()
        with pytest.raises(InferenceDownError):
            await client.register_model("m/", {"m/model.onnx": doubling_onnx()})
        (entry,) = orjson.loads(await client.predict(batch(request("m/", ["1", "2"]))))["response"]

        assert entry["error"]["error_type"] == "GRPC"
        assert "model_path" not in entry

    asyncio.run(work())


def test_a_script_predicts_through_the_hook() -> None:
    code = """
        function generateBid(x) {
          const tensor = {tensor_name: "x", data_type: "FLOAT", tensor_shape: [1, 2], tensor_content: x.map(String)};
          const request = {request: [{model_path: JSON.parse(getModelPaths())[0], tensors: [tensor]}]};
          const reply = JSON.parse(runInference(JSON.stringify(request)));
          return { bid: reply.response[0].tensors[0].tensor_content[1] };
        }
    """

    async def work(client: InferenceClient) -> None:
        await client.register_model("m/", {"m/model.onnx": doubling_onnx()})
        async with SandboxPool(spares=0) as pool:
            handle = await pool.load("buyer.example", code, UdfKind.GENERATE_BID)
            result = await pool.call(handle, "generateBid", [b"[1,2.5]"], deadline_ms=20_000, hooks=client.hooks())

        assert result.value == {"bid": 5}

    with_client(work)


def test_the_model_list_is_followed_with_grace_periods(tmp_path: Path) -> None:
    clock = ManualClock(1_000_000)

    def write_list(*entries: dict[str, object]) -> None:
        (tmp_path / "list.json").write_bytes(orjson.dumps({"model_metadata": entries}))

    async def work(client: InferenceClient) -> None:
        for version in ("1", "2"):
            (tmp_path / "pctr" / version).mkdir(parents=True)
            (tmp_path / "pctr" / version / "model.onnx").write_bytes(doubling_onnx())
        first = {"model_path": "pctr/1", "eviction_grace_period_in_ms": 5000}
        second = {"model_path": "pctr/2/", "checksum": model_checksum({"pctr/2/model.onnx": doubling_onnx()})}
        follower = ModelListFollower(client, FolderBucket(tmp_path, "list.json"), clock)

        write_list(first, {"model_path": "pctr/9/"})
        await follower.sync()
        assert client.get_model_paths() == ["pctr/1"]

        write_list(second)
        await follower.sync()
        assert client.get_model_paths() == ["pctr/1", "pctr/2/"]

        clock.advance_ms(5000)
        await follower.sync()
        assert client.get_model_paths() == ["pctr/2/"]

    with_client(work)


def test_the_auction_side_does_not_import_torch() -> None:
    program = (
        "import sys, adyton.auction.inference.client, adyton.auction.inference.model_list, adyton.sandbox.pool,"
        " adyton.auction.retrieval.store; print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert found.split() == ["False", "False"]


@pytest.mark.slow
def test_torchscript_models_run_frozen_and_stateful_ones_are_refused() -> None:
    torch = pytest.importorskip("torch")

    class Doubling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return x + self.seen

    def scripted(module: torch.nn.Module) -> bytes:
        sink = io.BytesIO()
        torch.jit.save(torch.jit.script(module), sink)
        return sink.getvalue()

    async def work(client: InferenceClient) -> None:
        await client.register_model("doubling.pt", {"doubling.pt": scripted(Doubling())})
        with pytest.raises(ModelLoadError):
            await client.register_model("counting.pt", {"counting.pt": scripted(Counting())})
        (entry,) = orjson.loads(await client.predict(batch(request("doubling.pt", ["1", "2"]))))["response"]

        assert entry["tensors"][0]["tensor_content"] == [2.0, 4.0]

    with_client(work, timeout_s=120.0)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="tensorflow is installed")
def test_a_saved_model_without_tensorflow_is_a_clear_error() -> None:
    async def work(client: InferenceClient) -> None:
        with pytest.raises(ModelLoadError) as caught:
            await client.register_model("tf/", {"tf/saved_model.pb": b"\0", "tf/variables/variables.index": b"\0"})

        assert "tensorflow" in str(caught.value)

    with_client(work)
