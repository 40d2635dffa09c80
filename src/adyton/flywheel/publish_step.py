"""From an approved day and a model to what the auction's processes load: a folder for each party.

    seller/   SNAPSHOT_… render URL -> {"approved": true}, the seller's scripts
    BUYER/    SNAPSHOT_… ad id -> {attributes, embedding}, models/, scripts with their configuration, egress schema

An ad without a vector in the buyer's model cannot be scored, so it is not published; nor is one that review limited to
some placements or ages, since no process of the auction knows either.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from adyton.auction.retrieval.files import write_snapshot
from adyton.auction.retrieval.records import string_record
from adyton.flywheel.device_signals import SignalPlan, published_script
from adyton.flywheel.held_out import Moment
from adyton.kernel.ids import AdId, BuyerId
from adyton.kernel.records import ApprovedAd, ModelArtifact

SNAPSHOT = "SNAPSHOT_0000000000000001.parquet"
USER_TOWER_PATH = "user_tower/1/model.onnx"
CANDIDATES = 50
CURRENCY = "USD"
MICROS = 1_000_000


@dataclass(frozen=True)
class EgressPlan:
    """What a win report carries: a learned code of the user.

    schema: of the payload, `bits` in all.   code: how a script computes it (`UserCode.as_json`).   positions: of each
    field that the code reads, in the model's user fields.
    """

    schema: Mapping[str, Any]
    code: Mapping[str, Any]
    bits: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class PublishedBuyer:
    """What one buyer serves. contexts: context id -> what goes into its per-buyer signals."""

    buyer: BuyerId
    model: ModelArtifact
    folder: Path
    encoder: str
    ads: Mapping[AdId, ApprovedAd]
    contexts: Mapping[str, Mapping[str, Any]]
    dimensions: int

    def context(self, moment: Moment) -> Mapping[str, Any]:
        """The public context vectors of a moment: what a buyer's ad server puts into its per-buyer signals."""
        known = {"hour": moment.hour, "tab": moment.tab}
        rule = self.model.manifest["context_id"]
        assert isinstance(rule, Mapping), "an artifact's manifest says how contexts are named"
        context_id = "|".join(f"{name}={known[name]}" for name in rule["fields"])
        return self.contexts.get(context_id, self.contexts[rule["unknown"]])


def user_fields(model: ModelArtifact) -> Sequence[Mapping[str, Any]]:
    """The manifest's private fields, in the order of the tower's input."""
    fields = model.manifest["fields"]
    assert isinstance(fields, Mapping)
    result: Sequence[Mapping[str, Any]] = fields["user"]
    return result


def publish_buyer(
    folder: Path,
    *,
    buyer: BuyerId,
    model: ModelArtifact,
    ads: Sequence[ApprovedAd],
    plan: SignalPlan,
    egress: EgressPlan,
    at_ms: int,
) -> PublishedBuyer:
    """Write everything that one buyer's process loads into `folder`."""
    folder.mkdir(parents=True)
    vectors = _vectors(model.ad_vectors_parquet, ("to_user", "to_context"))
    known = {ad.ad_id: ad for ad in ads if ad.creative_id in vectors and not ad.has_limits}
    (folder / "ads").mkdir()
    write_snapshot(
        folder / "ads" / SNAPSHOT,
        (
            string_record(ad.ad_id, json.dumps(_stored(ad, vectors[ad.creative_id]), separators=(",", ":")), at_ms)
            for ad in known.values()
        ),
    )
    tower = folder / "models" / USER_TOWER_PATH
    tower.parent.mkdir(parents=True)
    tower.write_bytes(model.user_tower_onnx)
    (folder / "models" / "models.json").write_text(json.dumps({"model_metadata": [{"model_path": USER_TOWER_PATH}]}))
    fields = user_fields(model)
    names = [entry["name"] for entry in fields]
    bidding = {
        "modelPath": USER_TOWER_PATH,
        "fieldCount": len(names),
        "currency": CURRENCY,
        "unitMicros": MICROS,
        "egress": {"positions": list(egress.positions), "code": egress.code},
    }
    scripts: dict[str, Mapping[str, Any]] = {
        "bidding.js": bidding,
        "retrieval.js": {"k": CANDIDATES},
        "report_win.js": {},
    }
    for name, config in scripts.items():
        (folder / name).write_text(published_script(name, config))
    (folder / "egress_schema.json").write_text(json.dumps(egress.schema))
    contexts = {
        context: {"to_user": row["to_user"].tolist(), "to_ad": row["to_ad"].tolist(), "bias": row["bias"]}
        for context, row in _vectors(model.context_vectors_parquet, ("to_user", "to_ad")).items()
    }
    first = next(iter(vectors.values()))
    return PublishedBuyer(
        buyer=buyer,
        model=model,
        folder=folder,
        encoder=published_script("encoder.js", plan.encoder_config(fields)),
        ads=known,
        contexts=contexts,
        dimensions=len(_embedding(first)),
    )


def publish_seller(folder: Path, ads: Sequence[ApprovedAd], at_ms: int) -> None:
    """Write the seller's lookup of approved render URLs and its scripts."""
    (folder / "lookup").mkdir(parents=True)
    write_snapshot(
        folder / "lookup" / SNAPSHOT,
        (string_record(ad.render_url, '{"approved":true}', at_ms) for ad in ads if not ad.has_limits),
    )
    (folder / "seller.js").write_text(published_script("seller.js", {}))


def _stored(ad: ApprovedAd, vector: Mapping[str, Any]) -> dict[str, Any]:
    """What retrieval knows of an ad: where it may run, what a click is worth, and its public vector."""
    return {
        "ad_id": ad.ad_id,
        "render_url": ad.render_url,
        "country": list(ad.countries),
        "product_line": ad.product_line,
        "value_micros": ad.value_per_click_micros,
        "embedding": [round(float(x), 6) for x in _embedding(vector)],
    }


def _embedding(vector: Mapping[str, Any]) -> NDArray[np.float64]:
    """[to_user, to_context, bias]: see udfs/retrieval.js."""
    return np.concatenate([vector["to_user"], vector["to_context"], [vector["bias"]]])


def _vectors(parquet: bytes, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    table = pq.read_table(io.BytesIO(parquet))
    columns = {name: np.stack([np.asarray(row, np.float64) for row in table[name].to_pylist()]) for name in names}
    biases = table["bias"].to_pylist()
    return {
        str(key): {**{name: columns[name][row] for name in names}, "bias": float(biases[row])}
        for row, key in enumerate(table["id"].to_pylist())
    }
