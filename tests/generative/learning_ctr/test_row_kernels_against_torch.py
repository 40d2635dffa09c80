"""The compiled kernel computes the network's own logits, and steps along the gradient that torch finds."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.fields import FieldEncoder, FieldSpec, Side
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.ctr.row_kernels import step_rows
from adyton.learning.ctr.row_trainer import RowLayout, RowWeights
from adyton.learning.schema import Kind

CONFIG = TrainConfig(fm_dim=3, head_dim=2, hidden=(4,))
BATCH = 12


def network_of(shape: list[tuple[Side, int]], seed: int) -> FactorisedNetwork:
    """One field per entry, lists where `slots` is above 1; weights large enough for every term to count."""
    fields = [
        FieldSpec(f"f{i}", side, Kind.LIST if slots > 1 else Kind.CATEGORY, values=tuple("abc"), slots=slots)
        for i, (side, slots) in enumerate(shape)
    ]
    ordered = sorted(fields, key=lambda field: list(Side).index(field.side))
    rng = np.random.default_rng(seed)
    network = FactorisedNetwork(FieldEncoder(tuple(ordered)), CONFIG, rng)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.5, tuple(parameter.shape)).astype(np.float32)))
    return network


def inputs_of(network: FactorisedNetwork, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 4, (BATCH, sum(side.slots))) for side in network.sides.values()]


shapes = st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 3)), min_size=1, max_size=6)


@given(shapes, st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_kernel_scores_like_the_network(shape: list[tuple[Side, int]], seed: int) -> None:
    network = network_of(shape, seed)
    inputs = inputs_of(network, seed + 1)
    layout, weights = RowLayout.of(network), RowWeights.of(network)

    scored = weights.logits(layout.place(inputs), np.arange(BATCH), layout)
    with torch.no_grad():
        expected = network(*(torch.from_numpy(x) for x in inputs)).numpy()

    assert np.allclose(scored, expected, atol=1e-4)


@given(shapes, st.integers(0, 2**31), st.sampled_from([0.0, 1.0]), st.sampled_from([0.5, 2.0]))
@settings(max_examples=30, deadline=None)
def test_one_row_steps_along_torchs_gradient(
    shape: list[tuple[Side, int]], seed: int, label: float, row_weight: float
) -> None:
    network = network_of(shape, seed)
    inputs = inputs_of(network, seed + 1)
    layout, before = RowLayout.of(network), RowWeights.of(network)
    after, squares = before.copy(), before.filled(1e8)  # so large that a step is the gradient times rate / 1e4

    step_rows(
        layout.place(inputs), np.full(BATCH, label, np.float32), np.full(BATCH, row_weight, np.float32), np.array([3]),
        *layout.arguments, after.w, after.v, *after.towers, squares.w, squares.v, *squares.towers,
        np.float32(1e4), np.float32(0),
    )  # fmt: skip
    logit = network(*(torch.from_numpy(x[3:4]) for x in inputs))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.full((1,), label))
    (row_weight * loss).backward()
    stepped = network_of(shape, seed)
    after.write_to(stepped)

    for (name, parameter), (_, moved) in zip(network.named_parameters(), stepped.named_parameters(), strict=True):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(parameter - moved, gradient, atol=2e-3), name


def test_a_wrong_term_would_be_noticed() -> None:
    """The comparison above is sharp: leaving one tower's head out moves the logits by far more than its tolerance."""
    network = network_of([(Side.USER, 1), (Side.AD, 1), (Side.CONTEXT, 1)], 3)
    inputs = inputs_of(network, 4)
    layout, weights = RowLayout.of(network), RowWeights.of(network)
    whole = weights.logits(layout.place(inputs), np.arange(BATCH), layout)
    weights.towers[0][3][1] = 0
    weights.towers[0][2][:, 1] = 0

    assert np.abs(weights.logits(layout.place(inputs), np.arange(BATCH), layout) - whole).max() > 0.01
