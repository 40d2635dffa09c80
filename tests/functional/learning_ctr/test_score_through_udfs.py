"""The factorised score computed by the buyer's scripts in the sandbox equals torch's score to 1e-5.

Three scripts, as in an auction: the user tower runs on the bidding side (`prepareDataForAdRetrieval`, through the
`runInference` hook and ONNX), retrieval adds what depends on the ad (`HandleRequest`), bidding the rest
(`generateBid`).
"""

from __future__ import annotations

import asyncio
import json
from importlib import resources

import numpy as np
import onnxruntime
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.kernel.records import ModelArtifact
from adyton.learning.ctr.artifact import context_id, distinct_contexts, export, latest_rows
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.fields import Side
from adyton.learning.ctr.training import RowSplit, TrainedModel, train
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import Bytes, UdfKind

SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("item", Role.ITEM_ID, Kind.CATEGORY),
        Column("at", Role.TIME, Kind.TIMESTAMP),
        Column("age", Role.USER, Kind.NUMBER),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("hour", Role.CONTEXT, Kind.CATEGORY),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)
DEADLINE_MS = 20_000
N_SCORED = 6


def impressions() -> pa.Table:
    rng = np.random.default_rng(3)
    n = 2_000
    age, city, item, hour = rng.integers(18, 80, n), rng.integers(0, 4, n), rng.integers(0, 6, n), rng.integers(0, 3, n)
    label = rng.random(n) < 1 / (1 + np.exp(-(age - 50) / 15 - (city == item % 4) + 0.5 * hour))
    return pa.table(
        {
            "user": [f"u{v}" for v in rng.integers(0, 90, n)], "item": item, "at": np.arange(n), "age": age,
            "city": city, "hour": hour, "label": label.astype(np.int8),
        }
    )  # fmt: skip


def script(name: str, config: dict[str, object]) -> str:
    text = resources.files("adyton.flywheel.udfs").joinpath(name).read_text()
    return f"const CONFIG = {json.dumps(config)};\n{text}"


def rows_by_id(parquet: bytes) -> dict[str, dict[str, list[float]]]:
    return {row["id"]: row for row in pq.read_table(pa.BufferReader(parquet)).to_pylist()}


async def logits_of_scripts(model: TrainedModel, artifact: ModelArtifact, rows: pa.Table) -> list[float]:
    session = onnxruntime.InferenceSession(artifact.user_tower_onnx)
    ads, contexts = rows_by_id(artifact.ad_vectors_parquet), rows_by_id(artifact.context_vectors_parquet)
    user_fields = model.encoder.encode(rows, Side.USER)

    async def run_inference(text: str) -> str:
        tensor = json.loads(text)["request"][0]["tensors"][0]
        fields = np.array([[int(v) for v in tensor["tensor_content"]]], np.int64)
        names = ["to_ad", "to_context", "bias"]
        outputs = zip(names, session.run(names, {"user_fields": fields}), strict=True)
        tensors = [{"tensor_name": n, "tensor_content": np.ravel(v).astype(float).tolist()} for n, v in outputs]
        return json.dumps({"response": [{"tensors": tensors}]})

    found = []
    bidding = script(
        "bidding.js",
        {"modelPath": "m", "fieldCount": user_fields.shape[1], "egress": None, "unitMicros": 1, "currency": "EUR"},
    )
    async with SandboxPool() as pool:
        prepare = await pool.load("buyer.example", bidding, UdfKind.PREPARE_DATA)
        retrieve = await pool.load("buyer.example", script("retrieval.js", {"k": 1}), UdfKind.RETRIEVAL)
        bid = await pool.load("buyer.example", bidding, UdfKind.GENERATE_BID)
        for index, row in enumerate(rows.to_pylist()):
            context, ad = contexts[context_id(model, row)], ads[str(row["item"])]
            stored = {
                "ad_id": "a", "render_url": "https://ad.example/a", "value_micros": 1,
                "embedding": [*ad["to_user"], *ad["to_context"], ad["bias"]],
            }  # fmt: skip

            async def get_values(_: str, stored: dict[str, object] = stored) -> str:
                return json.dumps({"kvPairs": {"a": {"value": json.dumps(stored)}}})

            prepared = await pool.call(
                prepare, "prepareDataForAdRetrieval",
                [Bytes(user_fields[index].astype("<u2").tobytes()), b"0", b"{}", b"{}"],
                deadline_ms=DEADLINE_MS, hooks={"runInference": run_inference},
            )  # fmt: skip
            candidates = await pool.call(
                retrieve, "HandleRequest",
                [b"{}", orjson.dumps(prepared.json.decode()), b"{}", orjson.dumps({"context": context}), b'["a"]'],
                deadline_ms=DEADLINE_MS, hooks={"getValues": get_values},
            )  # fmt: skip
            reply = await pool.call(
                bid, "generateBid",
                [candidates.json, b"{}", orjson.dumps({"context": context}), prepared.json], deadline_ms=DEADLINE_MS,
            )  # fmt: skip
            assert isinstance(reply.value, dict)
            rate = reply.value["bid"]  # with a value of one micro-unit of money, the bid is the click rate
            found.append(float(np.log(rate / (1 - rate))))
    return found


def test_the_scripts_score_equals_torchs_to_1e_5() -> None:
    table = impressions()
    model = train(
        table, SCHEMA, split=RowSplit(np.arange(1_500), np.arange(1_500, 1_900)),
        config=TrainConfig(max_epochs=2, members=2), seed=1,
    )  # fmt: skip
    artifact = export(model, items=latest_rows(table, "item", "at"), contexts=distinct_contexts(model, table))
    rows = table.slice(1_900, N_SCORED)

    logits = asyncio.run(logits_of_scripts(model, artifact, rows))

    assert np.abs(np.array(logits) - model.logits(rows)).max() < 1e-5
    assert np.std(logits) > 0.1
