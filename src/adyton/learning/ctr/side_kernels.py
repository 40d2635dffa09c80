"""One side of one network for many rows, and the dot products between sides, compiled.

`SideNetwork.forward` is the definition. What is done here instead, with the same result up to float32's rounding:

- The first layer is linear, so that a value's part of it is computed once and not for each row that holds the value:
  a row adds up one *line* of a table for each field, and fields that hold few combinations share one.
- FM pairs inside a side are (|sum e|^2 - sum |e|^2) / 2: the second part belongs to the value alone, unless it stands
  in a list, where e is the mean of several.

`N` rows of the side, `L` lines, `F` fields, `K` embedding width, `H` outputs of the first layer, `D` width of a head,
`B` impressions.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Places = NDArray[np.int32]

# Sums may change their order; unlike with all of fastmath, what is not finite stays so, and `export` notices.
_FAST = {"reassoc", "contract", "nsz", "arcp"}
_ODD = 0x9E3779B97F4A7C15 - 2**64
BLOCK = 256
"""Rows of one side that pass through all layers together: they stay in the nearest cache."""


@numba.njit(cache=True, nogil=True)
def group_rows(columns: Places) -> tuple[Ints, Places]:
    """Where each distinct row stands first [N], and for each row its place among them [B].   columns: [width, B]."""
    width, n = columns.shape
    hashes = np.zeros(n, np.int64)
    for column in range(width):
        for row in range(n):
            hashes[row] = (hashes[row] ^ columns[column, row]) * _ODD
    room = 16
    while room < 2 * n:
        room *= 2
    # Open addressing: the place in `first` + 1, or 0 where nothing is.
    found = np.zeros(room, np.int32)
    first, place = np.empty(n, np.int64), np.empty(n, np.int32)
    known = 0
    for row in range(n):
        # Products leave their mixed bits on top.
        at = (hashes[row] >> 32) & (room - 1)
        while True:
            if found[at] == 0:
                first[known] = row
                known += 1
                found[at] = known
                break
            other = first[found[at] - 1]
            if hashes[other] == hashes[row]:
                column = 0
                while column < width and columns[column, row] == columns[column, other]:
                    column += 1
                if column == width:
                    break
            at = (at + 1) & (room - 1)
        place[row] = found[at] - 1
    return first[:known].copy(), place


@numba.njit(cache=True, nogil=True)
def number_values(values: Places) -> tuple[Ints, Places]:
    """The distinct values, ascending, and the place of each of `values` [B] among them; none is below 0."""
    place = np.zeros(values.max() + 1 if values.size else 0, np.int32)
    for value in values:
        place[value] = 1
    known = 0
    found = np.empty(place.size, np.int64)
    for value in range(place.size):
        if place[value]:
            found[known] = value
            place[value] = known
            known += 1
    return found[:known].copy(), place[values]


@numba.njit(cache=True, nogil=True)
def rows_in_order(place: Places) -> Ints:
    """The rows [B] in ascending order of their place, rows of one place as they stand: a sort by counting."""
    starts = np.zeros(place.max() + 2 if place.size else 1, np.int64)
    for row in range(place.size):
        starts[place[row] + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(place.size, np.int64)
    for row in range(place.size):
        order[starts[place[row]]] = row
        starts[place[row]] += 1
    return order


@numba.njit(cache=True, fastmath=_FAST, nogil=True, forceinline=True)
def _product(x: Floats, weights: Floats, start: int, out: Floats) -> None:
    """Set the first of `out`, as many as `weights` is wide, to x @ weights[start : start + len(x)].

    Sixteen terms at once, since `out` is then written once for all of them: that takes a third off the time.
    """
    w, i = start, 0
    if x.size >= 16:
        a, b, c, d, e, f, g, h = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
        k, l, m, n, o, p, q, r = x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15]  # noqa: E741
        for j in range(weights.shape[1]):
            out[j] = (
                (a * weights[w, j] + b * weights[w + 1, j] + c * weights[w + 2, j] + d * weights[w + 3, j])
                + (e * weights[w + 4, j] + f * weights[w + 5, j] + g * weights[w + 6, j] + h * weights[w + 7, j])
                + (k * weights[w + 8, j] + l * weights[w + 9, j] + m * weights[w + 10, j] + n * weights[w + 11, j])
                + (o * weights[w + 12, j] + p * weights[w + 13, j] + q * weights[w + 14, j] + r * weights[w + 15, j])
            )
        i = 16
    else:
        for j in range(weights.shape[1]):
            out[j] = 0
    while i < x.size:
        a = x[i]
        for j in range(weights.shape[1]):
            out[j] += a * weights[w + i, j]
        i += 1


@numba.njit(cache=True, fastmath=_FAST, nogil=True)
def _add_plain(plain: Places, lines: Floats, biases: Floats, totals: Floats, given: Floats) -> None:
    """Add each row's lines to its `totals` and `given`."""
    n_slots = plain.shape[1]
    for row in range(plain.shape[0]):
        total, slot, bias = totals[row], 0, np.float32(0)
        while slot + 4 <= n_slots:
            a, b, c, d = plain[row, slot], plain[row, slot + 1], plain[row, slot + 2], plain[row, slot + 3]
            bias += (biases[a] + biases[b]) + (biases[c] + biases[d])
            for j in range(total.size):
                total[j] += (lines[a, j] + lines[b, j]) + (lines[c, j] + lines[d, j])
            slot += 4
        while slot < n_slots:
            a = plain[row, slot]
            bias += biases[a]
            for j in range(total.size):
                total[j] += lines[a, j]
            slot += 1
        given[row] += bias


@numba.njit(cache=True, fastmath=_FAST, nogil=True)
def lines_of_values(
    embeddings: Floats, weights: Floats, values: Ints, fields: Ints, is_list: NDArray[np.bool_], parts: Places,
    shapes: Ints, first_layer: Floats, lines: Floats, biases: Floats,
) -> None:  # fmt: skip
    """Fill `lines` [L, H + K], parts of the first layer and of the sum of embeddings, and `biases` [L], of the bias.

    embeddings: [all values, K].   weights: [all values, 1].   values: rows of both, one for each of the first lines.
    fields: of the values.   is_list: [F].   parts: the lines that further lines are sums of, flat.   shapes: [any, 2],
    of matrices in `parts`: so many lines, each of so many.   first_layer: [F K, H].
    """
    n_hidden, k = first_layer.shape[1], embeddings.shape[1]
    for line in range(values.size):
        embedding, field = embeddings[values[line]], fields[line]
        is_new = line == 0 or field != fields[line - 1]
        d = 0
        while not is_new and d < k:
            is_new = embedding[d] != lines[line - 1, n_hidden + d]
            d += 1
        biases[line] = weights[values[line], 0]
        if is_new:
            _product(embedding, first_layer, field * k, lines[line])
            for d in range(k):
                lines[line, n_hidden + d] = embedding[d]
        else:
            # All values of a field that a member leaves out have one embedding.
            for j in range(n_hidden + k):
                lines[line, j] = lines[line - 1, j]
        if not is_list[field]:
            square = np.float32(0)
            for d in range(k):
                square += embedding[d] * embedding[d]
            biases[line] -= np.float32(0.5) * square
    start, at = values.size, 0
    for shape in shapes:
        end, part = start + shape[0], parts[at : at + shape[0] * shape[1]].reshape(shape[0], shape[1])
        lines[start:end] = 0
        biases[start:end] = 0
        _add_plain(part, lines, biases, lines[start:end], biases[start:end])
        start, at = end, at + part.size


@numba.njit(cache=True, fastmath=_FAST, nogil=True)
def _add_lists(
    lists: Places, list_ends: Ints, lines: Floats, biases: Floats, n_hidden: int, totals: Floats, given: Floats
) -> None:
    """Add the mean of each list's lines, and the list's own square to the bias."""
    pooled = np.empty(totals.shape[1], np.float32)
    for row in range(lists.shape[0]):
        total, start = totals[row], 0
        for end in list_ends:
            filled = 0
            for slot in range(start, end):
                filled += lists[row, slot] >= 0
            share = np.float32(1) / np.float32(max(filled, 1))
            pooled[:] = 0
            for slot in range(start, end):
                a = lists[row, slot]
                if a >= 0:
                    given[row] += share * biases[a]
                    for j in range(pooled.size):
                        pooled[j] += share * lines[a, j]
            square = np.float32(0)
            for j in range(n_hidden, pooled.size):
                square += pooled[j] * pooled[j]
            given[row] -= np.float32(0.5) * square
            for j in range(pooled.size):
                total[j] += pooled[j]
            start = end


@numba.njit(cache=True, fastmath=_FAST, nogil=True)
def _layer(x: Floats, weights: Floats, biases: Floats, out: Floats) -> None:
    """out = relu(x) @ weights.T + biases, where `x` is changed to relu(x).

    x: [n, I or more], I of which count.   weights: [O, I].   out: [n, O].
    """
    n_out, n_in = weights.shape
    for row in range(out.shape[0]):
        for i in range(n_in):
            x[row, i] = max(x[row, i], np.float32(0))
        o = 0
        while o + 8 <= n_out:
            a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            e, f, g, h = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(n_in):
                a += x[row, i] * weights[o, i]
                b += x[row, i] * weights[o + 1, i]
                c += x[row, i] * weights[o + 2, i]
                d += x[row, i] * weights[o + 3, i]
                e += x[row, i] * weights[o + 4, i]
                f += x[row, i] * weights[o + 5, i]
                g += x[row, i] * weights[o + 6, i]
                h += x[row, i] * weights[o + 7, i]
            out[row, o], out[row, o + 1] = a + biases[o], b + biases[o + 1]
            out[row, o + 2], out[row, o + 3] = c + biases[o + 2], d + biases[o + 3]
            out[row, o + 4], out[row, o + 5] = e + biases[o + 4], f + biases[o + 5]
            out[row, o + 6], out[row, o + 7] = g + biases[o + 6], h + biases[o + 7]
            o += 8
        while o < n_out:
            a = np.float32(0)
            for i in range(n_in):
                a += x[row, i] * weights[o, i]
            out[row, o] = a + biases[o]
            o += 1


@numba.njit(cache=True, fastmath=_FAST, nogil=True)
def _finish(
    totals: Floats, n_hidden: int, last: Floats, bias_gain: np.float32, bias_of_vectors: Floats, vectors: Floats,
    given: Floats,
) -> None:  # fmt: skip
    """Vectors from sums of embeddings, in `totals` after `n_hidden`, and from outputs `last` [n, 1 + 2 D or more].

    given: gets what is still to come to the bias.
    """
    k, half = totals.shape[1] - n_hidden, vectors.shape[1] // 2
    for row in range(vectors.shape[0]):
        total, out, vector = totals[row], last[row], vectors[row]
        square, level = np.float32(0), np.float32(0)
        for d in range(k):
            e = total[n_hidden + d]
            square += e * e
            vector[d] = e
            vector[half + d] = e
        for d in range(half - k):
            vector[k + d] = out[1 + d]
            vector[half + k + d] = out[1 + half - k + d]
        for d in range(2 * half):
            level += vector[d] * bias_of_vectors[d]
        given[row] = bias_gain * (given[row] + np.float32(0.5) * square + out[0]) + level


@numba.njit(cache=True, nogil=True)
def side_rows(
    plain: Places, lists: Places, list_ends: Ints, lines: Floats, biases: Floats, first_biases: Floats, deeper: Floats,
    widths: Ints, bias_gain: np.float32, bias_of_vectors: Floats, vectors: Floats, given: Floats,
) -> None:  # fmt: skip
    """Fill `vectors` [N, 2 (K + D)], `first` and `second` of `SideVectors` side by side, and `given` [N], the biases.

    plain: [N, any], lines that a row adds up.   lists: [N, slots of all lists], lines that are averaged, -1 if empty.
    list_ends: where each list's slots end.   lines, biases: `lines_of_values`.   first_biases: [H].
    deeper: transposed weights and biases of each further layer, flat; the last one gives the bias and the heads.
    widths: of the layers, from H on.   bias_gain, bias_of_vectors: [2 (K + D)], see `SideNetwork`.
    """
    n_hidden = first_biases.size
    totals = np.empty((BLOCK, lines.shape[1]), np.float32)
    spare = np.empty((2, BLOCK * widths.max()), np.float32)
    for start in range(0, plain.shape[0], BLOCK):
        end = min(start + BLOCK, plain.shape[0])
        n = end - start
        for row in range(n):
            for j in range(n_hidden):
                totals[row, j] = first_biases[j]
            for j in range(n_hidden, totals.shape[1]):
                totals[row, j] = 0
        given[start:end] = 0
        _add_plain(plain[start:end], lines, biases, totals, given[start:end])
        _add_lists(lists[start:end], list_ends, lines, biases, n_hidden, totals, given[start:end])
        x, at = totals, 0
        for layer in range(1, widths.size):
            n_in, n_out = widths[layer - 1], widths[layer]
            weights, at = deeper[at : at + n_in * n_out].reshape(n_out, n_in), at + n_in * n_out
            y = spare[layer % 2, : n * n_out].reshape(n, n_out)
            _layer(x, weights, deeper[at : at + n_out], y)
            x, at = y, at + n_out
        _finish(totals, n_hidden, x, bias_gain, bias_of_vectors, vectors[start:end], given[start:end])


@numba.njit(cache=True, fastmath=_FAST, nogil=True)
def dot_rows(
    user: Floats, ad: Floats, context: Floats, user_biases: Floats, ad_biases: Floats, context_biases: Floats,
    users: Places, ads: Places, contexts: Places, logits: Floats,
) -> None:  # fmt: skip
    """Fill `logits` [B], as `combine` gives.   users, ads, contexts: [B], rows of the sides' vectors and biases."""
    half = user.shape[1] // 2
    for row in range(logits.size):
        u, a, c = user[users[row]], ad[ads[row]], context[contexts[row]]
        total = user_biases[users[row]] + ad_biases[ads[row]] + context_biases[contexts[row]]
        for d in range(half):
            total += u[d] * a[d] + u[half + d] * c[d] + a[half + d] * c[half + d]
        logits[row] = total
