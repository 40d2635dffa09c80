"""The buyer's script in the sandbox computes the same learned code of a user as the library that learned it."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import orjson
import pytest

from adyton.flywheel.device_signals import published_script
from adyton.learning.egress.curve import Method, curve
from adyton.learning.egress.features import EgressData, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.egress.trees import Forest
from adyton.learning.egress.user_code import UserCode, learn_numbers
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfKind

USERS = 60
AD = {"ad_id": "a", "render_url": "https://ad.example/a", "value_micros": 1, "score": 0.0}
ZEROS = {"to_user": [0.0], "to_ad": [0.0], "bias": 0.0}


def impressions() -> EgressData:
    rng = np.random.default_rng(4)
    n = 4_000
    strong, weak, slot = rng.integers(0, 8, n), rng.integers(0, 4, n), rng.integers(0, 5, n)
    score = 0.5 * (strong - 3.5) + 0.4 * (weak - 1.5) * (slot - 2) - 0.3
    labels = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(np.int64)
    features = (UserFeature("strong", 3, strong), UserFeature("weak", 2, weak))
    return EgressData(features, slot[:, None], (5,), labels, np.arange(n) >= 3_000)


async def payloads_of_script(code: UserCode, data: EgressData) -> list[list[int]]:
    """The fields stand in the model's input in another order, with one between them that the code does not read."""
    strong, weak = (feature.codes[:USERS].tolist() for feature in data.user_features)
    egress = {"positions": [2, 0], "code": code.as_json()}
    config = {"modelPath": "m", "fieldCount": 3, "egress": egress, "unitMicros": 1, "currency": "EUR"}
    made = []
    async with SandboxPool() as pool:
        bid = await pool.load("buyer.example", published_script("bidding.js", config), UdfKind.GENERATE_BID)
        for first, second in zip(strong, weak, strict=True):
            prepared = {"user": {"bias": 0.0, "toContext": [0.0]}, "fields": [second, 99, first]}
            arguments = [orjson.dumps([AD]), b"{}", orjson.dumps({"context": ZEROS}), orjson.dumps(prepared)]
            reply = await pool.call(bid, "generateBid", arguments, deadline_ms=20_000)
            assert isinstance(reply.value, dict)
            features = json.loads(str(reply.value["egressPayload"]))["features"]
            assert {feature["name"] for feature in features} == {"unsigned-integer-feature"}
            made.append([feature["value"] for feature in features])
    return made


@pytest.mark.parametrize(("propensity_bits", "bits"), [(4, 4), (2, 9)])
def test_the_script_and_the_library_agree_on_every_user(propensity_bits: int, bits: int) -> None:
    data = impressions()
    learned = learn_numbers(data, FactorizationTrainer(seed=1), Forest(30, 8))
    code = learned.code(bits, propensity_bits=propensity_bits)
    expected = np.column_stack([feature.codes for feature in code.encode(data.user_features)])[:USERS]

    assert asyncio.run(payloads_of_script(code, data)) == expected.tolist()
    assert len(np.unique(expected, axis=0)) > 4


def test_the_demos_method_gives_a_code_that_a_script_can_compute() -> None:
    data = impressions()
    selection = curve(data, (6,), method=Method.CODE, seed=1).point(6).selection

    assert selection.code is not None
    expected = np.column_stack([feature.codes for feature in selection.code.encode(data.user_features)])[:USERS]
    assert asyncio.run(payloads_of_script(selection.code, data)) == expected.tolist()
