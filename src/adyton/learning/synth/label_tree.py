"""What a fit releases: a distribution over the label and all parts, every table of which has the label in it.

A part with many codes enters the tables of several parts in a coarse form and is refined by its own table with the
label, its star.

`B` rows, `P` parts, `L` label classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adyton.learning.synth.coded_table import Codes
from adyton.learning.synth.draws import drawn, refined
from adyton.learning.synth.estimate import Floats
from adyton.learning.synth.noise import Ints


@dataclass(frozen=True)
class Clique:
    """The joint of (label, coarse parents, coarse child): float64[L, Q, V] > 0, or [L, Q, Q2, V] with two parents."""

    parents: tuple[int, ...]
    child: int
    joint: Floats


@dataclass(frozen=True)
class LabelTree:
    """A distribution over (label, parts), made of released noisy tables only.

    stars: float64[L, K_p] for each part, >= 0, rows sum to the label totals.   coarse: int64[K_p] for each part.
    cliques: in an order in which all parents come before their child and share an older clique.   root: the part that
    the first hangs on.   A part in no clique depends on the label only.
    """

    stars: tuple[Floats, ...]
    coarse: tuple[Ints, ...]
    root: int
    cliques: tuple[Clique, ...]

    @property
    def label_totals(self) -> Floats:
        """Noisy rows of each label class in the bounded table: float64[L]."""
        return np.asarray(self.stars[0].sum(axis=1))

    def sample(self, n_rows: int, rng: np.random.Generator) -> tuple[Ints, tuple[Codes, ...]]:
        """(label int64[n_rows], for each part codes [n_rows] as narrow as they can be).

        Draws are spread evenly (`draws`), so that the released tables come back up to rounding.
        """
        label = drawn(self.label_totals[None, :], np.zeros(n_rows, np.int64), rng).astype(np.int64)
        coarse: dict[int, Codes] = {}
        if self.cliques:
            coarse[self.root] = drawn(grouped(self.stars[self.root], self.coarse[self.root]), label, rng)
        for clique in self.cliques:
            given = label
            for parent, size in zip(clique.parents, clique.joint.shape[1:], strict=False):
                given = given * size + coarse[parent]
            coarse[clique.child] = drawn(clique.joint.reshape(-1, clique.joint.shape[-1]), given, rng)
        codes = []
        for part, (star, groups) in enumerate(zip(self.stars, self.coarse, strict=True)):
            n_groups = int(groups.max()) + 1
            if part not in coarse:
                codes.append(drawn(star, label, rng))
            elif n_groups < star.shape[1]:
                codes.append(refined(star, groups, label * n_groups + coarse[part], rng))
            else:
                codes.append(coarse[part])
        return label, tuple(codes)


def grouped(star: Floats, groups: Ints) -> Floats:
    """float64[L, G]: columns of one group added up."""
    return np.stack([np.bincount(groups, weights=row, minlength=int(groups.max()) + 1) for row in star])
