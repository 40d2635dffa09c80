"""Factorisation machine plus three towers, as a network of one side at a time.

A *side* (user, ad, context) turns its indices into a bias and one vector towards each of the two other sides:

    e_f   embedding of field f (mean over the filled slots of a list), float32[B, K]
    S     sum of e_f: the FM part that meets the sums of the other sides
    h     an MLP over all e_f: gives a bias and one dot head towards each other side, float32[B, D]
    bias  sum of w_f + FM pairs inside the side + the MLP's bias
    vector towards a side = [S ; head towards that side], float32[B, K + D]

    logit = sum of biases + sum over pairs of sides of their two vectors' dot product

Every FM pair is counted: pairs inside a side in its bias, pairs across sides in S . S'. So nothing of the FM is lost by
splitting, and the towers add what products of sums cannot say (learning §3, cost of factorising).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.fields import FieldEncoder, FieldSpec, Side

EMBEDDING_SCALE = 0.01


class SideVectors(NamedTuple):
    """What one side contributes: `bias` float32[B], and float32[B, V] towards each other side, in `Side` order."""

    bias: Tensor
    first: Tensor
    second: Tensor


class SideNetwork(nn.Module):
    """One side of one member."""

    offsets: Tensor
    bias_gain: Tensor
    bias_of_first: Tensor
    bias_of_second: Tensor

    def __init__(self, fields: Sequence[FieldSpec], config: TrainConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.slots = [field.slots for field in fields]
        self.fm_dim = config.fm_dim
        self.has_lists = any(slots > 1 for slots in self.slots)
        sizes = [field.size for field in fields]
        offsets = np.repeat(np.cumsum([0, *sizes[:-1]]), self.slots) if fields else np.zeros(0)
        self.register_buffer("offsets", torch.from_numpy(offsets.astype(np.int64)))
        total = max(1, sum(sizes))
        self.embeddings = nn.Parameter(_normal(rng, (total, config.fm_dim), EMBEDDING_SCALE))
        self.weights = nn.Parameter(torch.zeros(total, 1))
        widths = [len(fields) * config.fm_dim, *config.hidden]
        self.hidden_weights = nn.ParameterList(
            _normal(rng, (i, o), (2 / max(1, i)) ** 0.5) for i, o in pairwise(widths)
        )
        self.hidden_biases = nn.ParameterList(nn.Parameter(torch.zeros(o)) for o in widths[1:])
        # Heads start small but not at zero: a product of two zero vectors would never learn.
        self.head_dim = config.head_dim
        last, given = widths[-1], 1 + 2 * config.head_dim
        self.out_weight = nn.Parameter(_normal(rng, (last, given), 0.1 / max(1, last) ** 0.5))
        self.out_bias = nn.Parameter(torch.cat([torch.zeros(1), _normal(rng, (2 * config.head_dim,), 0.1)]))
        self.dropout = nn.Dropout(config.dropout)
        # Bias given out = gain * bias + first . bias_of_first + second . bias_of_second; see `levels`.
        self.register_buffer("bias_gain", torch.ones(()))
        self.register_buffer("bias_of_first", torch.zeros(self.vector_dim))
        self.register_buffer("bias_of_second", torch.zeros(self.vector_dim))

    @property
    def vector_dim(self) -> int:
        """V = K + D, the length of each vector."""
        return self.fm_dim + self.head_dim

    def embedding_parameters(self) -> list[nn.Parameter]:
        return [self.embeddings, self.weights]

    def tower_parameters(self) -> list[nn.Parameter]:
        return [*self.hidden_weights, *self.hidden_biases, self.out_weight, self.out_bias]

    def forward(self, indices: Tensor) -> SideVectors:
        """indices: int64[B, width]."""
        rows = indices + self.offsets
        embedded = nn.functional.embedding(rows, self.embeddings)
        linear = nn.functional.embedding(rows, self.weights)
        if self.has_lists:
            embedded, linear = self._pool(indices, embedded), self._pool(indices, linear)
        embedded = self.dropout(embedded)
        total = embedded.sum(dim=1)
        pairs = 0.5 * (total.square() - embedded.square().sum(dim=1)).sum(dim=1)
        h = embedded.flatten(1)
        for weight, bias in zip(self.hidden_weights, self.hidden_biases, strict=True):
            h = torch.relu(h @ weight + bias)
        out = h @ self.out_weight + self.out_bias
        d = self.head_dim
        first = torch.cat([total, out[:, 1 : 1 + d]], dim=1)
        second = torch.cat([total, out[:, 1 + d :]], dim=1)
        bias = linear.sum(dim=(1, 2)) + pairs + out[:, 0]
        bias = self.bias_gain * bias + first @ self.bias_of_first + second @ self.bias_of_second
        return SideVectors(bias, first, second)

    def _pool(self, indices: Tensor, values: Tensor) -> Tensor:
        """Mean over the filled slots of each list; other fields pass through."""
        parts, start = [], 0
        for slots in self.slots:
            part = values[:, start : start + slots]
            if slots > 1:
                filled = (indices[:, start : start + slots] > 0).to(values.dtype).unsqueeze(2)
                part = (part * filled).sum(dim=1, keepdim=True) / filled.sum(dim=1, keepdim=True).clamp(min=1.0)
            parts.append(part)
            start += slots
        return torch.cat(parts, dim=1)


class FactorisedNetwork(nn.Module):
    """One member: three sides and a global bias that lives in the context's output bias."""

    def __init__(self, encoder: FieldEncoder, config: TrainConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.user = SideNetwork(encoder.of(Side.USER), config, rng)
        self.ad = SideNetwork(encoder.of(Side.AD), config, rng)
        self.context = SideNetwork(encoder.of(Side.CONTEXT), config, rng)

    @property
    def sides(self) -> dict[Side, SideNetwork]:
        return {Side.USER: self.user, Side.AD: self.ad, Side.CONTEXT: self.context}

    def forward(self, user: Tensor, ad: Tensor, context: Tensor) -> Tensor:
        """Logits float32[B] from the indices of each side."""
        return combine(self.user(user), self.ad(ad), self.context(context))


def combine(user: SideVectors, ad: SideVectors, context: SideVectors) -> Tensor:
    """The logit of `ModelArtifact`: biases plus the three dot products."""
    return (
        user.bias
        + ad.bias
        + context.bias
        + (user.first * ad.first).sum(dim=1)
        + (user.second * context.first).sum(dim=1)
        + (ad.second * context.second).sum(dim=1)
    )


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy((rng.standard_normal(shape) * scale).astype(np.float32)))
