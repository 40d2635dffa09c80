"""TensorFlow SavedModels, made and run by TensorFlow itself.

TensorFlow is no dependency of ours. The tests use the interpreter that ADYTON_TENSORFLOW_PYTHON names (with
tensorflow-cpu, numpy and orjson), or this one if it has TensorFlow, and are skipped otherwise.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from adyton.auction.inference.client import InferenceClient
from adyton.auction.inference.errors import ModelLoadError

PYTHON = os.environ.get("ADYTON_TENSORFLOW_PYTHON") or (
    sys.executable if importlib.util.find_spec("tensorflow") is not None else ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="TensorFlow is absent: set ADYTON_TENSORFLOW_PYTHON to a Python that has it"),
]
MAKE = """
import sys
import tensorflow as tf

class Scoring(tf.Module):
    def __init__(self):
        self.weights = tf.Variable([[2.0], [3.0]], dtype=tf.float64)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float64, name="user"),
                                  tf.TensorSpec([None, 1], tf.int64, name="count")])
    def serve(self, user, count):
        return {"twice": count * 2, "score": tf.matmul(user, self.weights) + tf.cast(count, tf.float64)}

class Counting(tf.Module):
    def __init__(self):
        self.seen = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])
    def serve(self, x):
        self.seen.assign_add(1.0)
        return {"y": x + self.seen}

for name, module in (("scoring", Scoring()), ("counting", Counting())):
    tf.saved_model.save(module, sys.argv[1] + "/" + name, signatures={"serving_default": module.serve})
"""


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved-models")
    subprocess.run([PYTHON, "-c", MAKE, str(folder)], check=True, capture_output=True, timeout=240)
    return folder


def files_of(folder: Path, model_path: str) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {model_path + path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def tensor(name: str, data_type: str, shape: list[int], content: list[str]) -> dict[str, object]:
    return {"tensor_name": name, "data_type": data_type, "tensor_shape": shape, "tensor_content": content}


def with_client(work: Callable[[InferenceClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InferenceClient(timeout_s=60, python=PYTHON) as client:
            await work(client)

    asyncio.run(run())


def test_inputs_and_outputs_carry_the_names_of_the_graph(saved_models: Path) -> None:
    user, count = ("DOUBLE", [2, 2], ["1", "2", "3", "4"]), ("INT64", [2, 1], ["5", "6"])
    good = [
        [tensor("serving_default_user:0", *user), tensor("serving_default_count:0", *count)],
        [tensor("serving_default_count", *count), tensor("serving_default_user", *user)],
        [tensor("count", *count), tensor("user", *user)],
    ]
    bad = [
        [tensor("count", *count)],
        [tensor("count", *count), tensor("user", "FLOAT", *user[1:])],
        [tensor("count", *count), tensor("someone", *user)],
        [tensor("count", *count), tensor("user", "DOUBLE", [4, 1], user[2])],
    ]

    async def work(client: InferenceClient) -> None:
        await client.register_model("pctr/1/", files_of(saved_models / "scoring", "pctr/1/"))
        requests = [{"model_path": "pctr/1/", "tensors": tensors} for tensors in good + bad]
        answers = orjson.loads(await client.predict(orjson.dumps({"request": requests}).decode()))["response"]

        expected = [
            # Ordered by their names in the signature: score, twice.
            {
                "tensor_name": "StatefulPartitionedCall:0",
                "data_type": "DOUBLE",
                "tensor_shape": [2, 1],
                "tensor_content": [13.0, 24.0],
            },
            {
                "tensor_name": "StatefulPartitionedCall:1",
                "data_type": "INT64",
                "tensor_shape": [2, 1],
                "tensor_content": [10, 12],
            },
        ]
        assert [answer.get("tensors") for answer in answers[:3]] == [expected] * 3
        assert [answer["error"]["error_type"] for answer in answers[3:]] == ["MODEL_EXECUTION"] * 4

    with_client(work)


def test_a_model_that_keeps_state_or_is_broken_is_refused_and_the_others_go_on(saved_models: Path) -> None:
    async def work(client: InferenceClient) -> None:
        with pytest.raises(ModelLoadError, match="keeps state"):
            await client.register_model("counting/", files_of(saved_models / "counting", "counting/"))
        files = files_of(saved_models / "scoring", "broken/")
        files["broken/saved_model.pb"] = files["broken/saved_model.pb"][:-100]
        with pytest.raises(ModelLoadError):
            await client.register_model("broken/", files)
        await client.register_model("pctr/1/", files_of(saved_models / "scoring", "pctr/1/"))
        assert client.get_model_paths() == ["pctr/1/"]
        assert client.n_restarts == 0

    with_client(work)
