"""Probabilities that mean what they say: two numbers fitted on rows that training did not use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEWTON_STEPS = 50
# The prior pulls towards "leave the logits alone" with the weight of a few rows, so that a day without clicks in some
# region of scores, or a perfectly separated small set, cannot send the scale to infinity.
_PRIOR_PRECISION = 4.0


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sigmoid of logits, of any shape."""
    found: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return found


def platt(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> tuple[float, float]:
    """Scale a > 0 and shift b that make sigmoid(a z + b) most likely, with a weak Gaussian prior at (1, 0).

    labels: 0/1 [B].   logits: [B].   Order of scores is kept.   Source: Platt 1999, with a prior instead of targets.
    """
    a, b = 1.0, 0.0
    for _ in range(_NEWTON_STEPS):
        p = probabilities(a * logits + b)
        slack, weight = p - labels, p * (1 - p)
        gradient = np.array([slack @ logits + _PRIOR_PRECISION * (a - 1), slack.sum() + _PRIOR_PRECISION * b])
        hessian = np.array(
            [
                [weight @ (logits * logits) + _PRIOR_PRECISION, weight @ logits],
                [weight @ logits, weight.sum() + _PRIOR_PRECISION],
            ]
        )
        step = np.linalg.solve(hessian, gradient)
        step /= max(1.0, float(np.abs(step).max()))
        a, b = float(a - step[0]), float(b - step[1])
        if np.abs(step).max() < 1e-10:
            break
    return max(a, 1e-3), b
