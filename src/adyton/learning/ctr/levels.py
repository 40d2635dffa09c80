"""Levels of users, ads and contexts, and what is left: parts of a factorised score that two networks share.

The level of one of a side's outputs is its mean logit over the other sides of training. With mean vectors of the other
sides, a bar over them,

    level(user) = bias(user) + first(user) . mean first(ads) + second(user) . mean first(contexts)

and so for ads and contexts; the rest of the score is pairs. All of it is sums of a side's own outputs, so that a model
of two networks can take each part from the one that knows it better. One pass of training gives the better levels of
users, and the better half of the ads' (AUC over all rows asks for these); a second pass overfits ids, and orders the
rows of one user better, by contexts above all (GAUC looks at nothing else). See docs/explanation/one-model-of-many.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from adyton.learning.ctr.fields import Side
from adyton.learning.ctr.network import FactorisedNetwork, SideVectors, combine

SHARE_OF_LATER = {Side.USER: 0.0, Side.AD: 0.4, Side.CONTEXT: 1.0}
"""How much of each level comes from the network of the later pass; of pairs it is a half. Chosen on 4 May of KuaiRand,
the validation day of `bench/ctr.py`."""

Means = Mapping[Side, SideVectors]
"""Each side's mean bias [] and mean vectors [V] over the training rows."""


def share(first: FactorisedNetwork, later: FactorisedNetwork, means: Means, later_means: Means) -> None:
    """Change all sides of both so that their mean logit is made of both as `SHARE_OF_LATER` says.

    The mean logit over independent users, ads and contexts stays the mean of both networks'.
    """
    wanted = (_mean_logit(means) + _mean_logit(later_means)) / 2
    for side, part in SHARE_OF_LATER.items():
        _set(first, side, 2 * (1 - part), means)
        _set(later, side, 2 * part, later_means)
    given = sum(_mean_logit(_changed(one, of)) for one, of in ((first, means), (later, later_means))) / 2
    # Only the later network's own bias moves: training goes on from the first one.
    with torch.no_grad():
        later.context.out_bias[0] += 2 * (wanted - given) / float(later.context.bias_gain)


def unshare(network: FactorisedNetwork) -> None:
    """The network's own biases again, for more training."""
    for side in network.sides.values():
        side.bias_gain.fill_(1.0)
        side.bias_of_first.zero_()
        side.bias_of_second.zero_()


def _set(network: FactorisedNetwork, side: Side, gain: float, means: Means) -> None:
    """Let the side's level count `gain` times, and its pairs once."""
    part = network.sides[side]
    facing_first, facing_second = _facing(side, means)
    part.bias_gain.fill_(gain)
    # The dot products bring the means once already.
    part.bias_of_first.copy_((gain - 1) * facing_first)
    part.bias_of_second.copy_((gain - 1) * facing_second)


def _facing(side: Side, means: Means) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean vectors of the two other sides that meet the side's `first` and `second` (`combine`)."""
    match side:
        case Side.USER:
            return means[Side.AD].first, means[Side.CONTEXT].first
        case Side.AD:
            return means[Side.USER].first, means[Side.CONTEXT].second
        case Side.CONTEXT:
            return means[Side.USER].second, means[Side.AD].second


def _changed(network: FactorisedNetwork, means: Means) -> Means:
    """The means that the network's sides give now, from those that they gave before `share`."""
    return {
        side: SideVectors(
            part.bias_gain * of.bias + of.first @ part.bias_of_first + of.second @ part.bias_of_second,
            of.first,
            of.second,
        )
        for side, part, of in ((side, part, means[side]) for side, part in network.sides.items())
    }


def _mean_logit(means: Means) -> float:
    one = (SideVectors(of.bias[None], of.first[None], of.second[None]) for of in (means[side] for side in Side))
    return float(combine(*one))
