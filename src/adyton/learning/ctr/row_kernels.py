"""The factorised network's forward pass and gradient for one row at a time, compiled.

The same network as `FactorisedNetwork` with one hidden layer (its docstring has the formula), written as loops: a row
touches a few hundred of a few hundred thousand weights, and a step that walks only those costs less than a batch's
bookkeeping. Embeddings step after every row, dense layers after every `DENSE_EVERY` rows, both by Adagrad.

`W` index columns (slots), `F` fields, `K` embedding width, `H` hidden units, `O` = 1 + 2 D outputs of a tower.
A `Tower` is (hidden weights [F_s K, H], hidden biases [H], output weights [H, O], output biases [O]).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Tower = tuple[Floats, Floats, Floats, Floats]

DENSE_EVERY = 32


@numba.njit(cache=True, fastmath=True, nogil=True)
def _embed(
    codes: Ints, fields: Ints, is_list: NDArray[np.bool_], first: Ints, w: Floats, v: Floats, share: Floats,
    embedded: Floats,
) -> np.float32:  # fmt: skip
    """Fill `share` [W], a slot's part of its field, and `embedded` [F, K]; give the sum of linear weights."""
    n_slots, k = codes.size, v.shape[1]
    embedded[:] = 0
    linear = np.float32(0)
    slot = 0
    while slot < n_slots:
        field = fields[slot]
        end = slot
        filled = 0
        while end < n_slots and fields[end] == field:
            filled += codes[end] != first[end]
            end += 1
        for s in range(slot, end):
            if not is_list[field]:
                share[s] = 1
            elif codes[s] != first[s]:
                share[s] = np.float32(1) / np.float32(filled)
            else:
                share[s] = 0
                continue
            code = codes[s]
            linear += share[s] * w[code]
            for d in range(k):
                embedded[field, d] += share[s] * v[code, d]
        slot = end
    return linear


@numba.njit(cache=True, fastmath=True, nogil=True)
def _tower_forward(
    embedded: Floats, low: int, high: int, w1: Floats, b1: Floats, w2: Floats, b2: Floats, h: Floats, out: Floats
) -> None:
    k = embedded.shape[1]
    for j in range(h.size):
        h[j] = b1[j]
    row = 0
    for field in range(low, high):
        for d in range(k):
            x = embedded[field, d]
            for j in range(h.size):
                h[j] += x * w1[row, j]
            row += 1
    for o in range(out.size):
        out[o] = b2[o]
    for j in range(h.size):
        if h[j] < 0:
            h[j] = 0
        x = h[j]
        if x > 0:
            for o in range(out.size):
                out[o] += x * w2[j, o]


@numba.njit(cache=True, fastmath=True, nogil=True)
def _tower_backward(
    embedded: Floats, low: int, high: int, w1: Floats, w2: Floats, h: Floats, d_out: Floats, d_h: Floats,
    d_embedded: Floats, d_w1: Floats, d_b1: Floats, d_w2: Floats, d_b2: Floats,
) -> None:  # fmt: skip
    """Add to the dense gradients, set `d_embedded` of the side's fields."""
    k = embedded.shape[1]
    for o in range(d_out.size):
        d_b2[o] += d_out[o]
    for j in range(h.size):
        total = np.float32(0)
        if h[j] > 0:
            for o in range(d_out.size):
                total += d_out[o] * w2[j, o]
                d_w2[j, o] += h[j] * d_out[o]
        d_h[j] = total
        d_b1[j] += total
    row = 0
    for field in range(low, high):
        for d in range(k):
            x, total = embedded[field, d], np.float32(0)
            for j in range(h.size):
                total += d_h[j] * w1[row, j]
                d_w1[row, j] += x * d_h[j]
            d_embedded[field, d] = total
            row += 1


@numba.njit(cache=True, fastmath=True, nogil=True)
def _logit(linear: np.float32, embedded: Floats, total: Floats, outs: Floats) -> np.float32:
    """Linear + FM + towers; fills `total` [K], the sum of embeddings."""
    n_fields, k = embedded.shape
    crossed = np.float32(0)
    for d in range(k):
        one, squares = np.float32(0), np.float32(0)
        for field in range(n_fields):
            x = embedded[field, d]
            one += x
            squares += x * x
        total[d] = one
        crossed += one * one - squares
    logit: np.float32 = linear + np.float32(0.5) * crossed + outs[0, 0] + outs[1, 0] + outs[2, 0]
    n_heads = (outs.shape[1] - 1) // 2
    for a in range(n_heads):
        b = n_heads + a
        logit += outs[0, 1 + a] * outs[1, 1 + a]
        logit += outs[0, 1 + b] * outs[2, 1 + a]
        logit += outs[1, 1 + b] * outs[2, 1 + b]
    return logit


@numba.njit(cache=True, fastmath=True, nogil=True)
def _dense_step(weights: Floats, gradient: Floats, squares: Floats, rate: np.float32) -> None:
    p, g, s = weights.reshape(-1), gradient.reshape(-1), squares.reshape(-1)
    for i in range(p.size):
        s[i] += g[i] * g[i]
        p[i] -= rate * g[i] / np.sqrt(s[i])
        g[i] = 0


@numba.njit(cache=True, fastmath=True, nogil=True)
def _step_all(tower: Tower, gradient: Tower, squares: Tower, rate: np.float32) -> None:
    _dense_step(tower[0], gradient[0], squares[0], rate)
    _dense_step(tower[1], gradient[1], squares[1], rate)
    _dense_step(tower[2], gradient[2], squares[2], rate)
    _dense_step(tower[3], gradient[3], squares[3], rate)


@numba.njit(cache=True, fastmath=True, nogil=True)
def score_rows(
    codes: Ints, rows: Ints, fields: Ints, is_list: NDArray[np.bool_], first: Ints, bounds: Ints, w: Floats, v: Floats,
    user: Tower, ad: Tower, context: Tower,
) -> Floats:  # fmt: skip
    """Logits float32[rows] of the given rows of `codes` [B, W]; arguments as in `step_rows`."""
    n_fields, k, n_out = is_list.size, v.shape[1], user[3].size
    embedded, total = np.zeros((n_fields, k), np.float32), np.zeros(k, np.float32)
    h, outs = np.zeros((3, user[1].size), np.float32), np.zeros((3, n_out), np.float32)
    share = np.zeros(codes.shape[1], np.float32)
    result = np.empty(rows.size, np.float32)
    for step in range(rows.size):
        linear = _embed(codes[rows[step]], fields, is_list, first, w, v, share, embedded)
        _tower_forward(embedded, 0, bounds[0], user[0], user[1], user[2], user[3], h[0], outs[0])
        _tower_forward(embedded, bounds[0], bounds[1], ad[0], ad[1], ad[2], ad[3], h[1], outs[1])
        _tower_forward(embedded, bounds[1], n_fields, context[0], context[1], context[2], context[3], h[2], outs[2])
        result[step] = _logit(linear, embedded, total, outs)
    return result


@numba.njit(cache=True, fastmath=True, nogil=True)
def step_rows(
    codes: Ints, labels: Floats, weights: Floats, rows: Ints, fields: Ints, is_list: NDArray[np.bool_], first: Ints,
    bounds: Ints, w: Floats, v: Floats, user: Tower, ad: Tower, context: Tower, squares_w: Floats, squares_v: Floats,
    user_squares: Tower, ad_squares: Tower, context_squares: Tower, rate: np.float32, decay: np.float32,
) -> None:  # fmt: skip
    """One pass over `rows`, changing the weights and the running sums of squared gradients in place.

    codes: int64[B, W], place of each slot's value among all embeddings.   fields: [W], the field of a slot.
    first: [W], the place of a slot's value 0.   bounds: the first ad field and the first context field.
    decay: pull towards zero of the embeddings that a row touches, relative to the gradient.
    """
    n_fields, k, n_hidden, n_out = is_list.size, v.shape[1], user[1].size, user[3].size
    n_heads = (n_out - 1) // 2
    embedded, d_embedded = np.zeros((n_fields, k), np.float32), np.zeros((n_fields, k), np.float32)
    total, share = np.zeros(k, np.float32), np.zeros(codes.shape[1], np.float32)
    h, d_h = np.zeros((3, n_hidden), np.float32), np.zeros(n_hidden, np.float32)
    outs, d_outs = np.zeros((3, n_out), np.float32), np.zeros((3, n_out), np.float32)
    d_user = (np.zeros_like(user[0]), np.zeros_like(user[1]), np.zeros_like(user[2]), np.zeros_like(user[3]))
    d_ad = (np.zeros_like(ad[0]), np.zeros_like(ad[1]), np.zeros_like(ad[2]), np.zeros_like(ad[3]))
    d_context = (
        np.zeros_like(context[0]), np.zeros_like(context[1]), np.zeros_like(context[2]), np.zeros_like(context[3])
    )  # fmt: skip
    for step in range(rows.size):
        row = rows[step]
        code_row = codes[row]
        linear = _embed(code_row, fields, is_list, first, w, v, share, embedded)
        _tower_forward(embedded, 0, bounds[0], user[0], user[1], user[2], user[3], h[0], outs[0])
        _tower_forward(embedded, bounds[0], bounds[1], ad[0], ad[1], ad[2], ad[3], h[1], outs[1])
        _tower_forward(embedded, bounds[1], n_fields, context[0], context[1], context[2], context[3], h[2], outs[2])
        logit = _logit(linear, embedded, total, outs)
        slope = weights[row] * (np.float32(1) / (np.float32(1) + np.exp(-logit)) - labels[row])
        for side in range(3):
            d_outs[side, 0] = slope
        for a in range(n_heads):
            b = n_heads + a
            d_outs[0, 1 + a], d_outs[1, 1 + a] = slope * outs[1, 1 + a], slope * outs[0, 1 + a]
            d_outs[0, 1 + b], d_outs[2, 1 + a] = slope * outs[2, 1 + a], slope * outs[0, 1 + b]
            d_outs[1, 1 + b], d_outs[2, 1 + b] = slope * outs[2, 1 + b], slope * outs[1, 1 + b]
        _tower_backward(
            embedded, 0, bounds[0], user[0], user[2], h[0], d_outs[0], d_h, d_embedded,
            d_user[0], d_user[1], d_user[2], d_user[3],
        )  # fmt: skip
        _tower_backward(
            embedded, bounds[0], bounds[1], ad[0], ad[2], h[1], d_outs[1], d_h, d_embedded,
            d_ad[0], d_ad[1], d_ad[2], d_ad[3],
        )  # fmt: skip
        _tower_backward(
            embedded, bounds[1], n_fields, context[0], context[2], h[2], d_outs[2], d_h, d_embedded,
            d_context[0], d_context[1], d_context[2], d_context[3],
        )  # fmt: skip
        for slot in range(code_row.size):
            if share[slot] == 0:
                continue
            code, field = code_row[slot], fields[slot]
            gradient = share[slot] * slope + decay * w[code]
            squares_w[code] += gradient * gradient
            w[code] -= rate * gradient / np.sqrt(squares_w[code])
            for d in range(k):
                inner = slope * (total[d] - embedded[field, d]) + d_embedded[field, d]
                gradient = share[slot] * inner + decay * v[code, d]
                squares_v[code, d] += gradient * gradient
                v[code, d] -= rate * gradient / np.sqrt(squares_v[code, d])
        if (step + 1) % DENSE_EVERY == 0 or step + 1 == rows.size:
            _step_all(user, d_user, user_squares, rate)
            _step_all(ad, d_ad, ad_squares, rate)
            _step_all(context, d_context, context_squares, rate)
