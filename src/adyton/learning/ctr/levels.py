"""A user's level and a user's taste: two parts of a factorised score that two networks can share between them.

The level is the user's mean logit over the ads and contexts of training. With mean vectors a of ads and c of contexts,

    level(u) = bias(u) + first(u) . a + second(u) . c          taste(u, ad, context) = logit - level(u)

so both are sums of the user's own outputs. AUC over all rows asks for good levels, GAUC looks at tastes only. One pass
of training gives the better levels and a second one the better tastes (learning §3, lesson a).
"""

from __future__ import annotations

import torch

from adyton.learning.ctr.network import FactorisedNetwork, SideVectors


def share(
    level: FactorisedNetwork, taste: FactorisedNetwork, ads: list[SideVectors], contexts: list[SideVectors]
) -> None:
    """Change both user sides so that their mean logit is the level of one and the mean taste of both.

    ads, contexts: vectors of the training rows by `level` and by `taste`.
    """
    _set(level, gain=2.0, sign=1.0, ads=ads[0], contexts=contexts[0])
    _set(taste, gain=0.0, sign=-1.0, ads=ads[1], contexts=contexts[1])


def unshare(network: FactorisedNetwork) -> None:
    """The network's own bias again, for more training."""
    _fill(network, 1.0, torch.zeros_like(network.user.bias_of_first), torch.zeros_like(network.user.bias_of_second))


def _set(network: FactorisedNetwork, *, gain: float, sign: float, ads: SideVectors, contexts: SideVectors) -> None:
    _fill(network, gain, sign * ads.first.mean(dim=0), sign * contexts.first.mean(dim=0))


def _fill(network: FactorisedNetwork, gain: float, of_first: torch.Tensor, of_second: torch.Tensor) -> None:
    network.user.bias_gain.fill_(gain)
    network.user.bias_of_first.copy_(of_first)
    network.user.bias_of_second.copy_(of_second)
