"""The wall around the model process, with the same attempts outside of it as a control; and its limit on memory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import onnx
import onnx.helper
import orjson
import pytest

from adyton.auction.inference.client import InferenceClient
from adyton.auction.inference.confinement import model_command
from adyton.auction.inference.errors import InferenceDownError
from adyton.auction.inference.model_process import ModelTable
from adyton.auction.inference.models import _OnnxModel
from adyton.sandbox.isolation import Isolation

ATTEMPTS = """
import json, os, socket
found = {}
def attempt(name, work):
    try:
        work()
        found[name] = "allowed"
    except Exception:
        found[name] = "blocked"
attempt("connect", lambda: socket.create_connection(("127.0.0.1", %(port)d), timeout=2).close())
attempt("read a file", lambda: open(%(secret)r).read())
attempt("write beside the models", lambda: open(%(models)r + "/new", "w").close())
attempt("signal our process", lambda: os.kill(%(pid)d, 0))
attempt("read the environment", lambda: os.environ["ADYTON_SECRET"])
attempt("read its models", lambda: open(%(models)r + "/model").read())
print(json.dumps(found))
"""
ESCAPES = ("connect", "read a file", "write beside the models", "signal our process", "read the environment")


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_a_model_process_reaches_its_models_and_nothing_else(tmp_path: Path) -> None:
    models, secret = tmp_path / "models", tmp_path / "secret"
    models.mkdir()
    (models / "model").write_text("a model")
    secret.write_text("a key")

    def attempted(isolation: Isolation, environment: dict[str, str]) -> dict[str, str]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            facts = {"port": server.getsockname()[1], "secret": str(secret), "models": str(models), "pid": os.getpid()}
            command = model_command(models, isolation=isolation)
            *before, _program, memory_mb, threads = command.arguments
            done = subprocess.run(
                [*before, ATTEMPTS % facts, memory_mb, threads],
                env={**command.environment, **environment},
                capture_output=True,
                check=True,
                timeout=60,
            )
        (models / "new").unlink(missing_ok=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    given = {"ADYTON_SECRET": "a token", "PATH": os.environ["PATH"]}
    outside = attempted(Isolation.PROCESS, given)
    inside = attempted(Isolation.BUBBLEWRAP, given)

    assert outside == {**dict.fromkeys(ESCAPES, "allowed"), "read its models": "allowed"}
    assert inside == {**dict.fromkeys(ESCAPES, "blocked"), "read its models": "allowed"}


def test_a_model_that_asks_for_too_much_memory_costs_its_own_prediction() -> None:
    """y = zeros(x): one input element makes the output as large as the request says."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ConstantOfShape", ["x"], ["z"]), onnx.helper.make_node("ReduceSum", ["z"], ["y"])],
        "zeros",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)

    def asked(n_elements: int) -> str:
        tensor = {"tensor_name": "x", "data_type": "INT64", "tensor_shape": [1], "tensor_content": [str(n_elements)]}
        return orjson.dumps({"request": [{"model_path": "m/", "tensors": [tensor]}]}).decode()

    async def work() -> None:
        async with InferenceClient(timeout_s=60, memory_mb=1024) as client:
            await client.register_model("m/", {"m/model.onnx": bytes(model.SerializeToString())})
            for n_elements, succeeds in ((1000, True), (10**9, False), (1000, True)):
                (entry,) = orjson.loads(await client.predict(asked(n_elements)))["response"]
                assert ("tensors" in entry) is succeeds
                if not succeeds:
                    assert entry["error"]["error_type"] in ("MODEL_EXECUTION", "GRPC")

    asyncio.run(work())


def test_the_threads_of_the_configuration_reach_the_process_and_its_runtime(tmp_path: Path) -> None:
    command = model_command(tmp_path, threads=3, isolation=Isolation.PROCESS)
    assert command.arguments[-1] == "3"
    assert command.environment["OMP_NUM_THREADS"] == "3"

    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(bytes(model.SerializeToString()))
    table = ModelTable(threads=3)
    table.load("same/", tmp_path, "")
    loaded = table._models["same/"]
    assert isinstance(loaded, _OnnxModel)
    assert loaded._session.get_session_options().intra_op_num_threads == 3


def test_an_interpreter_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(InferenceDownError, match=r"no-python"):
            async with InferenceClient(python=str(tmp_path / "no-python")):
                pass

    asyncio.run(work())
