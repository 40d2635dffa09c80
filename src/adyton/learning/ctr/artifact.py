"""A trained model as a `ModelArtifact`, and the score computed from nothing but the artifact.

Members and calibration fold into the parts. With M members and calibration z -> a z + b:

    user side      bias and both vectors times a / M
    ad side        bias and `to_context` times a / M, `to_user` as it is
    context side   bias times a / M plus b, vectors as they are

so the sum of biases and three dot products is the calibrated mean logit. Both vector files have a row `unknown`, made
of index 0 in every field, for an ad or a context that training did not see.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from adyton.kernel.records import ModelArtifact
from adyton.learning.ctr.calibration import probabilities
from adyton.learning.ctr.fields import Side, as_text
from adyton.learning.ctr.network import SideNetwork
from adyton.learning.ctr.prediction import side_vectors
from adyton.learning.ctr.tower_onnx import user_tower_onnx
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.errors import ModelError

FORMAT = "adyton-ctr/1"
UNKNOWN_ID = "unknown"


def export(
    model: TrainedModel,
    *,
    items: pa.Table,
    contexts: pa.Table,
    name: str = "ctr",
    training_data_sha256: Sequence[str] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> ModelArtifact:
    """The model's user tower, ad and context vectors, and manifest.

    items: one row per ad with the item id and every ad field as it stands at export (`latest_rows` gives the newest).
    contexts: one row per context (`distinct_contexts`).   metrics: measured by the caller, copied into the manifest.
    training_data_sha256: None takes what the model knows.
    Raises ModelError when an ad or context id repeats, TableError when a field's column is missing.
    """
    item_ids = [as_text(value) for value in items[model.schema.item_id.name].to_pylist()]
    context_ids = [context_id(model, row) for row in _context_records(model, contexts)]
    factor = model.scale / len(model.members)
    user_onnx = user_tower_onnx([member.user for member in model.members], scale=factor)
    ads = _vectors(model, Side.AD, items)
    contexts_side = _vectors(model, Side.CONTEXT, contexts)
    ad_table = _vector_table(item_ids, "ad", ads.bias * factor, to_user=ads.first, to_context=ads.second * factor)
    context_table = _vector_table(
        context_ids,
        "context",
        contexts_side.bias * factor + model.shift,
        to_user=contexts_side.first,
        to_ad=contexts_side.second,
    )
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "fields": model.encoder.as_json(),
        "user_input_width": model.encoder.width(Side.USER),
        "vector_dim": sum(member.user.vector_dim for member in model.members),
        "context_id": {"fields": [field.name for field in model.encoder.of(Side.CONTEXT)], "unknown": UNKNOWN_ID},
        "item_id": model.schema.item_id.name,
        "label": model.schema.label.name,
        "training": {
            "rows": model.training_rows,
            "data_sha256": list(model.data_sha256 if training_data_sha256 is None else training_data_sha256),
            "seed": model.seed,
            "stop_on": model.config.stop_on.value,
            "members": len(model.members),
            # Of the weights and vocabularies. Which ads and contexts are listed comes from the table given to `export`.
            "differential_privacy": model.privacy,
        },
        "calibration": {"scale": model.scale, "shift": model.shift},
        # Of the number that the user's side adds to its bias while the model is live; `live_level` has the rule.
        "live_level": None if model.live_precision is None else {"prior_precision": model.live_precision},
        "metrics": dict(metrics or {}),
    }
    return ModelArtifact(name, user_onnx, _parquet(ad_table), _parquet(context_table), manifest)


def latest_rows(table: pa.Table, key: str, time: str) -> pa.Table:
    """The newest row of each `key`, such as the state of every item at the end of training; none without a key."""
    if table[key].null_count:
        table = table.filter(pc.is_valid(table[key]))
    order = np.argsort(table[time].cast(pa.int64()).to_numpy(), kind="stable")
    codes = table[key].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    newest: dict[int, int] = dict(zip(codes[order].tolist(), order.tolist(), strict=True))
    return table.take(pa.array(sorted(newest.values())))


def distinct_contexts(model: TrainedModel, table: pa.Table) -> pa.Table:
    """One row for each combination of context fields, as the model encodes them, that occurs in `table`."""
    indices = model.encoder.encode(table, Side.CONTEXT)
    # Two raw contexts may share an encoding; their ids differ, so keep one row for each raw combination.
    names = [field.name for field in model.encoder.of(Side.CONTEXT)]
    if not names:
        return table.slice(0, 1)
    texts = [[as_text(v) for v in table[name].to_pylist()] for name in names]
    first: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(zip(*texts, strict=True)):
        if key not in first and (indices[row] > 0).any():
            first[key] = row
    return table.take(pa.array(list(first.values()), pa.int64()))


def context_id(model: TrainedModel, record: Mapping[str, Any]) -> str:
    """`hour=13|tab=1`: the context fields in the manifest's order, nothing for a missing value."""
    values = {name.name: record.get(name.name) for name in model.encoder.of(Side.CONTEXT)}
    parts = [f"{name}={'' if value is None else as_text(value)}" for name, value in values.items()]
    return "|".join(parts) or UNKNOWN_ID


class ArtifactScorer:
    """Scores from an artifact alone, through ONNX Runtime and the two vector tables."""

    def __init__(self, artifact: ModelArtifact, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            artifact.user_tower_onnx, options, providers=["CPUExecutionProvider"]
        )
        self._ads = _Vectors(artifact.ad_vectors_parquet, "to_user", "to_context")
        self._contexts = _Vectors(artifact.context_vectors_parquet, "to_user", "to_ad")

    def logits(
        self, user_fields: NDArray[np.int64], ad_ids: Sequence[str], context_ids: Sequence[str]
    ) -> NDArray[np.float64]:
        """Logits float64[B].   user_fields: int64[B, F].   Raises ModelError for different lengths.

        Ids that the artifact does not know get the row `unknown`.
        """
        if not len(user_fields) == len(ad_ids) == len(context_ids):
            raise ModelError("user fields, ad ids and context ids must have one row each")
        to_ad, to_context, bias = self._session.run(
            ["to_ad", "to_context", "bias"], {"user_fields": np.ascontiguousarray(user_fields, np.int64)}
        )
        ads, contexts = self._ads.rows(ad_ids), self._contexts.rows(context_ids)
        total: NDArray[np.float64] = (
            bias.astype(np.float64)
            + self._ads.bias[ads]
            + self._contexts.bias[contexts]
            + np.einsum("bd,bd->b", to_ad, self._ads.first[ads], dtype=np.float64)
            + np.einsum("bd,bd->b", to_context, self._contexts.first[contexts], dtype=np.float64)
            + np.einsum("bd,bd->b", self._ads.second[ads], self._contexts.second[contexts], dtype=np.float64)
        )
        return total


def score_artifact(
    artifact: ModelArtifact, user_fields: NDArray[np.int64], ad_ids: Sequence[str], context_ids: Sequence[str]
) -> NDArray[np.float64]:
    """Click probabilities float64[B] from the artifact alone: 1 / (1 + exp(-logit)).   See `ArtifactScorer.logits`."""
    return probabilities(ArtifactScorer(artifact).logits(user_fields, ad_ids, context_ids))


class _Vectors:
    def __init__(self, parquet: bytes, first: str, second: str) -> None:
        table = pq.read_table(io.BytesIO(parquet))
        self._row = {text: row for row, text in enumerate(table["id"].to_pylist())}
        self.bias = table["bias"].to_numpy().astype(np.float64)
        self.first = _matrix(table[first])
        self.second = _matrix(table[second])

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        unknown = self._row[UNKNOWN_ID]
        return np.fromiter((self._row.get(text, unknown) for text in ids), np.int64, len(ids))


class _SideArrays:
    def __init__(self, bias: NDArray[np.float64], first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
        self.bias, self.first, self.second = bias, first, second


def _vectors(model: TrainedModel, side: Side, table: pa.Table) -> _SideArrays:
    """Summed biases and concatenated vectors over the members, `unknown` as the last row."""
    indices = model.encoder.encode(table, side)
    indices = np.concatenate([indices, np.zeros((1, indices.shape[1]), np.int64)])
    parts = [side_vectors(member.sides[side], indices) for member in model.members]
    return _SideArrays(
        np.sum([part.bias.double().numpy() for part in parts], axis=0),
        np.concatenate([part.first.numpy() for part in parts], axis=1),
        np.concatenate([part.second.numpy() for part in parts], axis=1),
    )


def _vector_table(ids: list[str], kind: str, bias: NDArray[np.float64], **vectors: NDArray[np.float32]) -> pa.Table:
    rows = [*(row for row, text in enumerate(ids) if text != UNKNOWN_ID), len(ids)]
    kept = [ids[row] for row in rows[:-1]] + [UNKNOWN_ID]
    if len(set(kept)) != len(kept):
        raise ModelError(f"an {kind} id occurs twice", hint="give one row per id, such as from latest_rows")
    columns: dict[str, Any] = {"id": pa.array(kept, pa.string())}
    for name, matrix in vectors.items():
        values = matrix[rows].astype(np.float32)
        offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))
    columns["bias"] = pa.array(bias[rows].astype(np.float32))
    if not all(math.isfinite(value) for value in bias):
        raise ModelError("the model holds values that are not finite", hint="train again with a lower learning rate")
    return pa.table(columns)


def _context_records(model: TrainedModel, contexts: pa.Table) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = contexts.select(
        [field.name for field in model.encoder.of(Side.CONTEXT)]
    ).to_pylist()
    return records if model.encoder.of(Side.CONTEXT) else [{}] * contexts.num_rows


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array = column.combine_chunks()
    flat: NDArray[np.float32] = array.flatten().to_numpy().reshape(len(array), -1)
    return flat


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def user_tower_torchscript(model: TrainedModel) -> bytes:
    """The user tower for libtorch: `forward(user_fields int64[B, F])` gives (to_ad, to_context, bias) like the ONNX."""
    tower = _UserTower([member.user for member in model.members], model.scale / len(model.members)).eval()
    example = torch.zeros((2, model.encoder.width(Side.USER)), dtype=torch.int64)
    buffer = io.BytesIO()
    with torch.no_grad():
        torch.jit.save(torch.jit.freeze(torch.jit.trace(tower, example)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


class _UserTower(torch.nn.Module):
    """User sides of all members side by side, as in `user_tower_onnx`."""

    def __init__(self, sides: Sequence[SideNetwork], factor: float) -> None:
        super().__init__()
        self.sides = torch.nn.ModuleList(sides)
        self.factor = factor

    def forward(self, user_fields: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        parts = [side(user_fields) for side in self.sides]
        to_ad = torch.cat([part.first for part in parts], dim=1)
        to_context = torch.cat([part.second for part in parts], dim=1)
        bias = torch.stack([part.bias for part in parts]).sum(dim=0)
        return self.factor * to_ad, self.factor * to_context, self.factor * bias
