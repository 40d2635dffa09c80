"""Egress payloads through a real bidding service: the worked example of protected-auction §11.7 with nullable features,
and what `validate` tells a script.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from adyton.auction.config import parse_config
from adyton.auction.services.clients import RemoteBidding
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.ports import BiddingRawRequest
from adyton.auction.services.process import PartyProcess


def features(dialect: str, *entries: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    member, ending = ("name", "-feature") if dialect == "shipped" else ("type", "-feature-type")
    return [{member: name + ending, **rest} for name, rest in entries]


DOCUMENTED = features(
    "documented",
    ("histogram", {"size": 2, "value": features("documented", ("unsigned-integer", {"size": 3}),
                                                ("signed-integer", {"size": 4}))}),
    ("boolean", {}),
    ("bucket", {"size": 4, "nullable": True}),
    ("boolean", {"nullable": True}),
)  # fmt: skip
DOCUMENTED_VALUES = features(
    "documented",
    ("histogram", {"value": features("documented", ("unsigned-integer", {"value": 5}),
                                     ("signed-integer", {"value": -3}))}),
    ("boolean", {"value": False}),
    ("bucket", {"value": [True, False, True, False]}),
    ("boolean", {"value": None}),
)  # fmt: skip
SHIPPED = features("shipped", ("unsigned-integer", {"size": 7}), ("boolean", {}))
SHIPPED_VALUES = features("shipped", ("unsigned-integer", {"value": 2}), ("boolean", {"value": True}))
SCRIPT = """
function generateBid(ads, auctionSignals) {
  const { payload, schema } = auctionSignals;
  const told = [validate(payload, schema), validate({ features: [] }, schema), validate(payload, { features: [] })];
  const text = JSON.stringify(payload);
  return { bid: 1, render: 'https://r/', ad: told, egressPayload: text, temporaryUnlimitedEgressPayload: text };
}
"""


@pytest.mark.parametrize(
    ("dialect", "schema_features", "values", "options", "limited", "unlimited"),
    [
        (
            "documented", DOCUMENTED, DOCUMENTED_VALUES, {"egress_protocol": 1, "pad_egress_to_limit": True},
            "AAttQQ==", "C21B",
        ),
        ("documented", DOCUMENTED, DOCUMENTED_VALUES, {}, "C21A", "C21A"),
        # A schema in the other spelling is not loaded, and the fields are cleared without a word.
        ("shipped", DOCUMENTED, DOCUMENTED_VALUES, {}, "", ""),
        # 1 0000010 = 82, version 2, protocol 0.
        ("shipped", SHIPPED, SHIPPED_VALUES, {}, "gkA=", "gkA="),
        ("documented", SHIPPED, SHIPPED_VALUES, {}, "", ""),
    ],
)  # fmt: skip
def test_a_payload_leaves_bidding_in_the_documented_bytes(
    tmp_path: Path,
    dialect: str,
    schema_features: list[dict[str, Any]],
    values: list[dict[str, Any]],
    options: dict[str, object],
    limited: str,
    unlimited: str,
) -> None:
    schema = {"cddl_version": "1.0.0", "version": 2, "features": schema_features}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    (tmp_path / "bid.js").write_text(SCRIPT)
    (tmp_path / "ads").mkdir()
    document = {
        "name": "buyer.example",
        "test_mode": True,
        "sandbox": {"spares": 0, "workers_per_udf": 1},
        "key_value": {"snapshot": str(tmp_path / "ads")},
        "bidding": {
            "generate_bid": str(tmp_path / "bid.js"),
            "egress_schema": str(tmp_path / "schema.json"),
            "temporary_unlimited_egress_schema": str(tmp_path / "schema.json"),
            "limited_egress_bits": 20,
            "noise_rate": 0,
            "egress_dialect": dialect,
            **options,
        },
    }
    raw = BiddingRawRequest(
        auction_signals=json.dumps({"payload": {"features": values}, "schema": schema}),
        multi_bid_limit=2,
        enable_unlimited_egress=True,
        contextual_protected_app_signals_data={"ad_render_ids": ["ad"]},
    )

    async def scenario() -> None:
        async with (
            PartyProcess(parse_config(document)) as process,
            grpc.aio.insecure_channel(process.addresses.grpc) as channel,
        ):
            (bid,) = (
                await RemoteBidding(channel, KeyMaterial.test_mode()).generate_bids(raw, metadata=(), timeout_s=30)
            ).bids
        assert (bid.egress_payload, bid.temporary_unlimited_egress_payload) == (limited, unlimited)
        good, empty, no_schema = json_format.MessageToDict(bid.ad)
        if limited:
            assert good == []
            assert empty == [f"$.features: {len(schema_features)} features expected, got 0"]
        else:
            assert good[0].startswith("schema: ")
        assert no_schema[0].startswith("schema: ")

    asyncio.run(scenario())
