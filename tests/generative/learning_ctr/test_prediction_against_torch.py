"""The compiled scores of whole tables are those of the torch networks, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.learning.ctr import prediction
from adyton.learning.ctr.config import TrainConfig, Trainer
from adyton.learning.ctr.fields import FieldEncoder, FieldSpec, Side
from adyton.learning.ctr.left_out import tie
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.ctr.prediction import mean_logits, mean_logits_of, side_vectors
from adyton.learning.ctr.side_kernels import group_rows, number_values, rows_in_order
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema((Column("label", Role.LABEL, Kind.BINARY),))
VALUES = tuple("abcd")

fields = st.lists(
    st.tuples(st.sampled_from(Side), st.sampled_from([Kind.CATEGORY, Kind.NUMBER, Kind.LIST]), st.integers(2, 4)),
    min_size=1,
    max_size=9,
)
configs = st.builds(
    TrainConfig,
    fm_dim=st.integers(1, 9),
    head_dim=st.integers(1, 5),
    hidden=st.sampled_from([(), (5,), (9, 4), (3, 10, 17)]),
    members=st.integers(1, 3),
    trainer=st.just(Trainer.BATCHES),
)
seeds = st.integers(0, 2**31)
KERNELS, TORCH = -1, 10**9
limits = st.sampled_from([KERNELS, TORCH, 60])
"""Of few rows: everything is scored in compiled code, nothing is, or large blocks and models are."""


@contextmanager
def few_rows(limit: int, *, rows_at_once: int = 65_536) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "FEW", limit)
        patch.setattr(prediction, "ROWS_AT_ONCE", rows_at_once)
        yield


def encoder_of(shape: list[tuple[Side, Kind, int]]) -> FieldEncoder:
    """One field per entry; the number says how long a list's pooled part is."""
    made = []
    for i, (side, kind, slots) in enumerate(shape):
        match kind:
            case Kind.NUMBER:
                made.append(FieldSpec(f"f{i}", side, kind, edges=(0.0, 1.5, 2.0)))
            case Kind.LIST:
                made.append(FieldSpec(f"f{i}", side, kind, values=VALUES, slots=slots))
            case _:
                made.append(FieldSpec(f"f{i}", side, kind, values=VALUES))
    return FieldEncoder(tuple(sorted(made, key=lambda field: list(Side).index(field.side))))


def model_of(encoder: FieldEncoder, config: TrainConfig, seed: int) -> TrainedModel:
    """Every weight counts, levels and calibration included; the second member leaves out every second field."""
    rng = np.random.default_rng(seed)
    members = []
    for index in range(config.members):
        network = FactorisedNetwork(encoder, config, rng)
        with torch.no_grad():
            for tensor in network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.from_numpy(rng.normal(0, 0.3, tuple(tensor.shape)).astype(np.float32)))
        if index == 1:
            tie(network, encoder, [field.name for field in encoder.fields[::2]])
        members.append(network.eval())
    return TrainedModel(encoder, tuple(members), SCHEMA, config, seed, (), 1, scale=0.7, shift=-0.4)


def table_of(encoder: FieldEncoder, n: int, seed: int) -> pa.Table:
    """Few distinct rows, with values that no vocabulary holds, missing values, and empty and long lists."""
    rng = np.random.default_rng(seed)
    texts = [*VALUES, "unseen", None]

    def value(kind: Kind) -> object:
        match kind:
            case Kind.NUMBER:
                return [None, float("nan"), -1.0, 0.0, 1.7, 9.0][rng.integers(6)]
            case Kind.LIST:
                return None if rng.random() < 0.1 else [texts[i] for i in rng.integers(0, 6, rng.integers(0, 7))]
            case _:
                return texts[rng.integers(6)]

    types = {Kind.NUMBER: pa.float64(), Kind.LIST: pa.list_(pa.string()), Kind.CATEGORY: pa.string()}
    distinct = {f.name: pa.array([value(f.kind) for _ in range(max(1, n // 2))], types[f.kind]) for f in encoder.fields}
    # Sides repeat apart from one another.
    rows = {side: pa.array(rng.integers(0, max(1, n // 2), n)) for side in Side}
    return pa.table({field.name: distinct[field.name].take(rows[field.side]) for field in encoder.fields})


def torch_logits(model: TrainedModel, table: pa.Table) -> np.ndarray:
    """The slow twin: each member's own forward pass over all rows."""
    inputs = [torch.from_numpy(model.encoder.encode(table, side)) for side in Side]
    with torch.inference_mode():
        each = [member(*inputs).double().numpy() for member in model.members]
    return model.scale * np.mean(each, axis=0) + model.shift


@given(fields, configs, st.sampled_from([0, 1, 7, 90]), limits, seeds)
@settings(max_examples=90, deadline=None)
def test_tables_score_as_the_networks_do(
    shape: list[tuple[Side, Kind, int]], config: TrainConfig, n: int, limit: int, seed: int
) -> None:
    model = model_of(encoder_of(shape), config, seed)
    table = table_of(model.encoder, n, seed + 1)
    with few_rows(limit, rows_at_once=40):
        scored = model.logits(table)
        encoded = mean_logits_of(model.members, [model.encoder.encode(table, side) for side in Side])
    expected = torch_logits(model, table)

    assert scored.shape == (n,)
    assert np.array_equal(model.scale * encoded + model.shift, scored)
    assert np.abs(scored - expected).max(initial=0) <= 1e-5 * (1 + np.abs(expected).max(initial=0))


@given(fields, configs, st.sampled_from([KERNELS, TORCH]), seeds)
@settings(max_examples=40, deadline=None)
def test_vectors_of_a_side_are_the_networks(
    shape: list[tuple[Side, Kind, int]], config: TrainConfig, limit: int, seed: int
) -> None:
    model = model_of(encoder_of(shape), config, seed)
    table = table_of(model.encoder, 20, seed + 1)
    for side, network in model.members[-1].sides.items():
        indices = model.encoder.encode(table, side)
        with torch.inference_mode():
            expected = network(torch.from_numpy(indices))
        with few_rows(limit):
            vectors = side_vectors(network, indices)
        for found, wanted in zip(vectors, expected, strict=True):
            assert found.shape == wanted.shape
            assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_fields_that_share_lines_score_the_same() -> None:
    """Enough rows for small fields to be joined, in two and three, beside a list and a field of many values."""
    many = FieldSpec("many", Side.USER, Kind.CATEGORY, values=tuple(sorted(str(v) for v in range(900))))
    small = [FieldSpec(f"s{i}", Side.USER, Kind.CATEGORY, values=("a", "b")) for i in range(7)]
    seen = FieldSpec("list", Side.USER, Kind.LIST, values=VALUES, slots=3)
    encoder = FieldEncoder((many, *small, seen, FieldSpec("ad", Side.AD, Kind.CATEGORY, values=VALUES)))
    model = model_of(encoder, TrainConfig(fm_dim=4, head_dim=3, hidden=(6,), members=2), 3)
    rng = np.random.default_rng(4)
    table = pa.table(
        {
            "many": [str(v) for v in rng.integers(0, 1_000, 2_000)],
            **{field.name: [("a", "b", "c")[v] for v in rng.integers(0, 3, 2_000)] for field in small},
            "list": [[VALUES[v] for v in rng.integers(0, 4, rng.integers(0, 5))] for _ in range(2_000)],
            "ad": [VALUES[v] for v in rng.integers(0, 4, 2_000)],
        }
    )
    columns = encoder.columns(table, Side.USER)
    first, _ = group_rows(columns)
    values = prediction.SideValues.of(model.members[0].user, columns[:, first])

    assert values.plain.shape[1] < 5 < len(small)
    with few_rows(KERNELS):
        assert np.abs(model.logits(table) - torch_logits(model, table)).max() < 1e-5


def test_the_number_of_threads_changes_nothing() -> None:
    model = model_of(encoder_of([(side, Kind.CATEGORY, 2) for side in Side]), TrainConfig(members=5), 1)
    table = table_of(model.encoder, 300, 2)
    before, scored = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            with few_rows(KERNELS):
                scored.append(model.logits(table))
        finally:
            torch.set_num_threads(before)

    assert np.array_equal(*scored)


def test_a_wrong_term_would_be_noticed() -> None:
    """The comparison is sharp: one weight of each kind moves the logits by far more than the tolerance."""
    shape = [(side, kind, 3) for side in Side for kind in (Kind.CATEGORY, Kind.NUMBER, Kind.LIST)]
    model = model_of(encoder_of(shape), TrainConfig(fm_dim=3, head_dim=2, hidden=(4,)), 5)
    table = table_of(model.encoder, 50, 6)
    whole = mean_logits(model.encoder, model.members, table)
    for name in model.members[0].state_dict():
        if name.endswith("offsets"):
            continue
        changed = model_of(model.encoder, model.config, 5)
        tensor = changed.members[0].state_dict()[name]
        tensor.view(-1)[-1] += 1.0
        with few_rows(KERNELS):
            moved = np.abs(mean_logits(changed.encoder, changed.members, table) - whole).max()

            assert moved > 1e-3, name
            assert np.allclose(changed.logits(table), torch_logits(changed, table), rtol=1e-5, atol=1e-5), name


@given(st.integers(0, 5), st.integers(0, 60), seeds)
@settings(max_examples=50, deadline=None)
def test_rows_are_grouped_as_numpy_groups_them(width: int, n: int, seed: int) -> None:
    columns = np.random.default_rng(seed).integers(0, 3, (width, n)).astype(np.int32)
    first, place = group_rows(columns)
    order = rows_in_order(place)

    assert np.array_equal(columns[:, first][:, place], columns)
    assert len(np.unique(columns[:, first], axis=1).T) == len(first) == len(np.unique(place))
    assert np.array_equal(order, np.argsort(place, kind="stable"))


@given(st.lists(st.integers(0, 9)))
@settings(deadline=None)
def test_values_are_numbered_as_numpy_numbers_them(values: list[int]) -> None:
    expected = np.unique(np.array(values, np.int32), return_inverse=True)

    for found, wanted in zip(number_values(np.array(values, np.int32)), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_a_dictionary_column_with_small_codes_and_missing_values_is_encoded() -> None:
    """As pandas makes them: 127 categories and 8-bit codes leave no code for "missing" in their type."""
    field = FieldSpec("city", Side.USER, Kind.CATEGORY, values=tuple(sorted(str(v) for v in range(127))))
    codes = [*range(127), None]
    column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), [str(v) for v in range(127)])

    assert np.array_equal(field.encode(column), field.encode(column.dictionary_decode()))
    assert field.encode(column)[-1] == 0
    assert replace(field, values=()).encode(column).max() == 0
