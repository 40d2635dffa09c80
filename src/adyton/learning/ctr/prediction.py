"""Scores of many rows on the CPU: each side once for each distinct row, and members at once in compiled code.

Few rows are scored by `SideNetwork.forward` itself: to compile the kernels takes seconds, and not every process may
keep what it compiled (the clean room's enclave never does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray

from adyton.learning.ctr.fields import FieldEncoder, Side
from adyton.learning.ctr.network import FactorisedNetwork, SideNetwork, SideVectors, combine
from adyton.learning.ctr.side_kernels import (
    Floats,
    Ints,
    Places,
    dot_rows,
    group_rows,
    lines_of_values,
    number_values,
    rows_in_order,
    side_rows,
)

ROWS_AT_ONCE = 65_536
"""Rows of a table that are encoded and scored together: bounds memory, and distinct rows are found among them."""
ROWS_PER_LINE = 8
"""Fields share a line while their combinations are this many times fewer than rows."""
FEW = 50_000
"""Rows, times networks, that are not worth compiling for: torch needs some 20 ms for them."""
LARGEST_PRODUCT = 1 << 20
"""Of combinations and values: more are not even counted."""


def mean_logits(encoder: FieldEncoder, members: Sequence[FactorisedNetwork], table: pa.Table) -> NDArray[np.float64]:
    """Mean of the members' logits float64[B].   Raises TableError for a missing or unfit column.

    B impressions of U users, A ads and C contexts cost U + A + C towers and B dot products of each member. Columns, and
    members after them, are shared out among as many threads as torch would take; the result is the same with any.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:

        def columns(start: int, side: Side) -> Places:
            return encoder.columns(table.slice(start, ROWS_AT_ONCE), side, pool.map)

        return _mean_logits(members, columns, table.num_rows, pool)


def mean_logits_of(members: Sequence[FactorisedNetwork], inputs: Sequence[Ints]) -> NDArray[np.float64]:
    """`mean_logits` of encoded rows: int64[B, width] of each side, in `Side` order."""
    of = dict(zip(Side, inputs, strict=True))

    def columns(start: int, side: Side) -> Places:
        return np.ascontiguousarray(of[side][start : start + ROWS_AT_ONCE].T, np.int32)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return _mean_logits(members, columns, len(inputs[0]), pool)


def _mean_logits(
    members: Sequence[FactorisedNetwork], columns: Callable[[int, Side], Places], n: int, pool: ThreadPoolExecutor
) -> NDArray[np.float64]:
    """columns: from the first row of a block and a side to its indices int32[width, rows of the block]."""
    parts = []
    for start in range(0, max(1, n), ROWS_AT_ONCE):
        of_block = partial(columns, start)
        is_few = min(n - start, ROWS_AT_ONCE) * len(members) <= FEW
        parts.append(_mean_logits_of_few(members, of_block) if is_few else _block_mean_logits(members, of_block, pool))
    return np.concatenate(parts)


def _mean_logits_of_few(members: Sequence[FactorisedNetwork], columns: Callable[[Side], Places]) -> NDArray[np.float64]:
    inputs = [columns(side).T.astype(np.int64) for side in Side]
    distinct, places = zip(*(np.unique(x, axis=0, return_inverse=True) for x in inputs), strict=True)
    rows = [torch.from_numpy(place.reshape(-1)) for place in places]
    total = torch.zeros(len(inputs[0]), dtype=torch.float64)
    for member in members:
        vectors = [side_vectors(side, x) for side, x in zip(member.sides.values(), distinct, strict=True)]
        total += combine(*(SideVectors(*(v[r] for v in vs)) for vs, r in zip(vectors, rows, strict=True)))
    mean: NDArray[np.float64] = total.numpy() / len(members)
    return mean


def _block_mean_logits(
    members: Sequence[FactorisedNetwork], columns: Callable[[Side], Places], pool: ThreadPoolExecutor
) -> NDArray[np.float64]:
    networks = members[0].sides
    # A side's rows are found while the next side's columns are encoded.
    found = [pool.submit(_distinct, networks[side], columns(side)) for side in Side]
    sides, places = zip(*(future.result() for future in found), strict=True)
    # Rows of one user after the other find the user's vectors where the row before left them.
    order = rows_in_order(places[0])
    users, ads, contexts = (place[order] for place in places)
    logits = np.empty((len(members), len(order)), np.float32)
    free: SimpleQueue[list[Workspace]] = SimpleQueue()
    for _ in range(torch.get_num_threads()):
        free.put([Workspace.of(side, of) for side, of in zip(networks.values(), sides, strict=True)])

    def score(member: FactorisedNetwork, logits: Floats) -> None:
        spaces = free.get()
        try:
            for side, of, space in zip(member.sides.values(), sides, spaces, strict=True):
                space.fill(side, of)
            (user, of_user), (ad, of_ad), (context, of_context) = ((space.vectors, space.biases) for space in spaces)
            dot_rows(user, ad, context, of_user, of_ad, of_context, users, ads, contexts, logits)
        finally:
            free.put(spaces)

    list(pool.map(score, members, logits))
    mean = np.empty(len(order))
    mean[order] = logits.mean(axis=0, dtype=np.float64)
    return mean


def _distinct(side: SideNetwork, columns: Places) -> tuple[SideValues, Places]:
    """The distinct rows of columns int32[width, B], and for each row its place among them [B]."""
    first, place = group_rows(columns)
    return SideValues.of(side, columns.take(first, axis=1)), place


def side_vectors(side: SideNetwork, indices: Ints) -> SideVectors:
    """What `side` gives in evaluation mode for indices int64[N, width]: the numbers of `SideNetwork.forward`."""
    if len(indices) <= FEW:
        with torch.inference_mode():
            return SideVectors(*side.eval()(torch.from_numpy(indices)))
    of = SideValues.of(side, np.ascontiguousarray(indices.T, np.int32))
    space = Workspace.of(side, of)
    space.fill(side, of)
    first, second = np.split(space.vectors, 2, axis=1)
    return SideVectors(*(torch.from_numpy(np.ascontiguousarray(array)) for array in (space.biases, first, second)))


@dataclass(frozen=True)
class SideValues:
    """Rows of one side as the kernels take them, the same for every member: see `lines_of_values` and `side_rows`."""

    values: Ints
    fields: Ints
    is_list: NDArray[np.bool_]
    parts: Places
    shapes: Ints
    plain: Places
    lists: Places
    list_ends: Ints

    @classmethod
    def of(cls, side: SideNetwork, columns: Places) -> SideValues:
        """columns: int32[width, N], indices."""
        values, fields, plain, lists = [], [], [], []
        n_lines = slot = 0
        for field, slots in enumerate(side.slots):
            codes = columns[slot : slot + slots]
            found, place = number_values(codes.reshape(-1))
            place = place.reshape(codes.shape)
            lines = np.arange(n_lines, n_lines + len(found), dtype=np.int32)
            if slots > 1:
                lists.append(np.where(codes > 0, lines[place], -1).T)
            else:
                plain.append(_Column(place[0], lines[:, None]))
            values.append(found + int(side.offsets[slot]))
            fields.append(np.full(len(found), field))
            n_lines += len(found)
            slot += slots
        rows, parts, shapes = [], [], []
        for column in _shared(plain, columns.shape[1] // ROWS_PER_LINE):
            if column.lines.shape[1] == 1:
                rows.append(column.lines[column.codes])
                continue
            rows.append(n_lines + column.codes[:, None])
            parts.append(column.lines.reshape(-1))
            shapes.append(column.lines.shape)
            n_lines += len(column.lines)
        no_rows = np.zeros((columns.shape[1], 0), np.int32)
        return cls(
            values=_joined(values, np.int64),
            fields=_joined(fields, np.int64),
            is_list=np.array([slots > 1 for slots in side.slots], np.bool_),
            parts=_joined(parts, np.int32),
            shapes=np.array(shapes, np.int64).reshape(-1, 2),
            plain=np.concatenate([no_rows, *rows], axis=1),
            lists=np.concatenate([no_rows, *lists], axis=1),
            list_ends=np.cumsum(_joined([[slots] for slots in side.slots if slots > 1], np.int64)),
        )


@dataclass(frozen=True)
class _Column:
    """One or more fields of one value.   codes: [N], in [0, C).   lines: [C, fields], whose sum a code stands for."""

    codes: Places
    lines: Places

    def beside(self, other: _Column) -> _Column:
        """Codes of the pairs that occur."""
        found, codes = number_values(self.codes * len(other.lines) + other.codes)
        own, others = np.divmod(found, len(other.lines))
        return _Column(codes, np.concatenate([self.lines[own], other.lines[others]], axis=1))


def _shared(columns: Sequence[_Column], most_codes: int) -> list[_Column]:
    """The columns, from few values to many, joined where no more than `most_codes` combinations occur."""
    result: list[_Column] = []
    for column in sorted(columns, key=lambda one: len(one.lines)):
        if result and len(result[-1].lines) * len(column.lines) <= LARGEST_PRODUCT:
            both = result[-1].beside(column)
            if len(both.lines) <= most_codes:
                result[-1] = both
                continue
        result.append(column)
    return result


@dataclass(frozen=True)
class Workspace:
    """What one side of one member fills at a time, kept from member to member: fresh memory costs more than the sums.

    vectors, biases: as in `side_rows`.
    """

    vectors: Floats
    biases: Floats
    _lines: Floats
    _line_biases: Floats

    @classmethod
    def of(cls, side: SideNetwork, values: SideValues) -> Workspace:
        n, n_lines = len(values.plain), len(values.values) + int(values.shapes[:, 0].sum())
        n_first = len(side.hidden_biases[0]) if len(side.hidden_biases) else len(side.out_bias)
        shapes = (n, 2 * side.vector_dim), n, (n_lines, n_first + side.fm_dim), n_lines
        return cls(*(np.empty(shape, np.float32) for shape in shapes))

    def fill(self, side: SideNetwork, of: SideValues) -> None:
        """Compute `vectors` and `biases` of the rows `of`."""
        layers = [*zip(side.hidden_weights, side.hidden_biases, strict=True), (side.out_weight, side.out_bias)]
        (first, first_biases), *deeper = ((_array(weight), _array(bias)) for weight, bias in layers)
        lines_of_values(
            _array(side.embeddings), _array(side.weights), of.values, of.fields, of.is_list, of.parts, of.shapes,
            first, self._lines, self._line_biases,
        )  # fmt: skip
        side_rows(
            of.plain, of.lists, of.list_ends, self._lines, self._line_biases, first_biases,
            _joined([array.reshape(-1) for weight, bias in deeper for array in (weight.T, bias)], np.float32),
            np.array([len(first_biases), *(len(bias) for _, bias in deeper)], np.int64),
            np.float32(side.bias_gain),
            np.concatenate([side.bias_of_first.numpy(), side.bias_of_second.numpy()]),
            self.vectors, self.biases,
        )  # fmt: skip


def _array(tensor: torch.Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def _joined(parts: Sequence[ArrayLike], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False)
