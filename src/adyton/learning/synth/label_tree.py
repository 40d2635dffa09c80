"""The label-aware tree: every measured table has the label in it.

1. Star: each part with the label.
2. Structure: a spanning tree over the parts, each edge chosen by the exponential mechanism among all edges that would
   join a new part; score = L1 distance of the pair from independence, less what noise alone would show.
3. Tree: each part with the label and its chosen parent.

A part with many codes enters the tree in a coarse form (frequent codes alone, the tail in groups of like label rate)
and is refined by its star. Source: the marginal-then-model scheme of McKenna, Miklau, Sheldon 2021 ("Winning the NIST
contest", MST), with the label in every table instead of feature pairs.

`B` rows, `P` parts, `L` label classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from adyton.learning.synth.accounting import Spending, scale_for
from adyton.learning.synth.coded_table import CodedTable, Codes, narrow
from adyton.learning.synth.draws import drawn, refined
from adyton.learning.synth.estimate import Floats, label_aware_joint, label_totals, onto_simplex
from adyton.learning.synth.noise import Ints, Noise

STAR_SHARE, STRUCTURE_SHARE = Fraction(60, 100), Fraction(6, 100)
"""Shares of the tree's rho; the rest measures the tree's own tables."""
COARSE_CODES, TAIL_GROUPS = 56, 8


@dataclass(frozen=True)
class Edge:
    """One measured table: the joint of (label, coarse parent, coarse child), float64[L, Q, V] > 0."""

    parent: int
    child: int
    joint: Floats


@dataclass(frozen=True)
class LabelTree:
    """A distribution over (label, parts), made of released noisy tables only.

    stars: float64[L, K_p] for each part, >= 0, rows sum to the label totals.   coarse: int64[K_p] for each part.
    edges: in an order in which every parent comes before its child.   root: the part that the first edge hangs on.
    """

    stars: tuple[Floats, ...]
    coarse: tuple[Ints, ...]
    root: int
    edges: tuple[Edge, ...]

    @property
    def label_totals(self) -> Floats:
        """Noisy rows of each label class in the bounded table: float64[L]."""
        return np.asarray(self.stars[0].sum(axis=1))

    def sample(self, n_rows: int, rng: np.random.Generator) -> tuple[Ints, tuple[Codes, ...]]:
        """(label int64[n_rows], for each part codes [n_rows] as narrow as they can be).

        Draws are spread evenly (`draws`), so that the released tables come back up to rounding.
        """
        label = drawn(self.label_totals[None, :], np.zeros(n_rows, np.int64), rng).astype(np.int64)
        coarse = {self.root: drawn(_grouped(self.stars[self.root], self.coarse[self.root]), label, rng)}
        for edge in self.edges:
            classes, parents, children = edge.joint.shape
            given = label * parents + coarse[edge.parent]
            coarse[edge.child] = drawn(edge.joint.reshape(classes * parents, children), given, rng)
        codes = []
        for part, (star, groups) in enumerate(zip(self.stars, self.coarse, strict=True)):
            n_groups = int(groups.max()) + 1
            if n_groups < star.shape[1]:
                codes.append(refined(star, groups, label * n_groups + coarse[part], rng))
            else:
                codes.append(coarse[part])
        return label, tuple(codes)


def fit_tree(table: CodedTable, noise: Noise, spending: Spending, sensitivity: int, rho: Fraction) -> LabelTree:
    """Measure `table` within `rho` and give back the distribution.

    sensitivity: how many rows one unit of privacy may bring.   Raises PrivacySpendError if `spending` has less left.
    """
    n_parts = len(table.sizes)
    single = n_parts == 1
    star_rho = rho if single else rho * STAR_SHARE
    star_cells = [table.label_classes * size for size in table.sizes]
    noisy_stars, variances = [], []
    for part, share in enumerate(_shares(star_cells)):
        scale = scale_for(sensitivity, star_rho * share)
        spending.charge(f"star {part}", sensitivity, scale)
        noisy_stars.append(noise.gaussian(table.with_label(part), scale).astype(float))
        variances.append(scale**2)
    totals = label_totals(noisy_stars, variances)
    stars = tuple(
        np.stack([onto_simplex(row, total) for row, total in zip(star, totals, strict=True)]) for star in noisy_stars
    )
    coarse = tuple(_coarse_groups(star) for star in stars)
    if single:
        return LabelTree(stars, coarse, 0, ())
    coarse_sizes = tuple(int(groups.max()) + 1 for groups in coarse)
    coded = CodedTable(
        tuple(narrow(groups[table.codes[part]], int(groups.max()) + 1) for part, groups in enumerate(coarse)),
        coarse_sizes,
        table.label,
        table.label_classes,
    )
    coarse_stars = [_grouped(star, groups) for star, groups in zip(stars, coarse, strict=True)]
    tree_rho = rho * (1 - STAR_SHARE - STRUCTURE_SHARE)
    links = _chosen_links(coded, coarse_stars, noise, spending, sensitivity, rho * STRUCTURE_SHARE, tree_rho)
    cells = [table.label_classes * coarse_sizes[parent] * coarse_sizes[child] for parent, child in links]
    edges = []
    for (parent, child), share in zip(links, _shares(cells), strict=True):
        scale = scale_for(sensitivity, tree_rho * share)
        spending.charge(f"tree {parent}-{child}", sensitivity, scale)
        noisy = noise.gaussian(coded.with_label(parent, child), scale).astype(float)
        edges.append(Edge(parent, child, label_aware_joint(noisy, coarse_stars[parent], coarse_stars[child], scale**2)))
    return LabelTree(stars, coarse, links[0][0], tuple(edges))


def _shares(cells: list[int]) -> list[Fraction]:
    """How a budget is split over tables so that the summed L1 error is least: shares ~ cells^(2/3), sum below 1.

    For L1 error cells * scale and cost 1/scale^2 the Lagrange condition gives cost ~ cells^(2/3).
    """
    weights = [int(1000 * size ** (2 / 3)) for size in cells]
    # One part in ten million is left over, so that rounding scales up never passes the limit.
    return [Fraction(weight, sum(weights)) * (1 - Fraction(1, 10**7)) for weight in weights]


def _chosen_links(
    table: CodedTable,
    stars: list[Floats],
    noise: Noise,
    spending: Spending,
    sensitivity: int,
    rho: Fraction,
    tree_rho: Fraction,
) -> list[tuple[int, int]]:
    """(parent, child) pairs of a spanning tree, in the order of growth.

    Every score is an L1 distance between exact counts and a fixed integer table, less a number that depends on released
    tables only; one unit changes it by at most `sensitivity`. One exponential mechanism for each step.
    """
    n_parts = len(table.sizes)
    steps = n_parts - 1
    scale = scale_for(sensitivity, rho * (1 - Fraction(1, 10**7)) / steps)
    later_scale = scale_for(sensitivity, tree_rho / steps)
    scores = np.zeros((n_parts, n_parts), np.int64)
    margins = [star.sum(axis=0) for star in stars]
    for a in range(n_parts):
        for b in range(a):
            scores[a, b] = scores[b, a] = _dependence(table, a, b, margins, later_scale)
    # The root is free: the part with the largest released variety of label rates, from stars alone.
    inside = [int(np.argmax([_label_contrast(star) for star in stars]))]
    outside = [part for part in range(n_parts) if part not in inside]
    links: list[tuple[int, int]] = []
    while outside:
        candidates = [(parent, child) for parent in inside for child in outside]
        spending.charge(f"structure {len(links)}", sensitivity, scale)
        chosen = candidates[noise.noisy_max(np.array([scores[link] for link in candidates]), scale)]
        links.append(chosen)
        inside.append(chosen[1])
        outside.remove(chosen[1])
    return links


def _dependence(table: CodedTable, a: int, b: int, margins: list[Floats], later_scale: float) -> int:
    exact = table.without_label(a, b)
    expected = np.outer(margins[a], margins[b]) / max(margins[a].sum(), 1.0)
    distance = int(np.abs(exact - np.rint(expected).astype(np.int64)).sum())
    by_chance = 0.8 * np.sqrt(expected).sum()
    # What the later noise will hide: no more than a cell holds.
    hidden = 0.5 * np.minimum(1.13 * later_scale, expected).sum()
    return distance - round(float(by_chance + hidden))


def _label_contrast(star: Floats) -> float:
    shares = star / np.maximum(star.sum(axis=1, keepdims=True), 1.0)
    return float(np.abs(shares - shares.mean(axis=0)).sum())


def _coarse_groups(star: Floats) -> Ints:
    """int64[K]: each frequent code alone, the tail in groups of like label rate and like mass."""
    size = star.shape[1]
    if size <= COARSE_CODES:
        return np.arange(size)
    mass = star.sum(axis=0)
    order = np.argsort(-mass, kind="stable")
    alone = COARSE_CODES - TAIL_GROUPS
    groups = np.empty(size, np.int64)
    groups[order[:alone]] = np.arange(alone)
    tail = order[alone:]
    rate = star[-1, tail] / np.maximum(mass[tail], 1e-9)
    tail = tail[np.argsort(rate, kind="stable")]
    tail_mass = mass[tail] + 1e-9
    middle = (np.cumsum(tail_mass) - tail_mass / 2) / tail_mass.sum()
    _, position = np.unique(np.floor(middle * TAIL_GROUPS), return_inverse=True)
    groups[tail] = alone + position
    return groups


def _grouped(star: Floats, groups: Ints) -> Floats:
    """float64[L, G]: columns of one group added up."""
    return np.stack([np.bincount(groups, weights=row, minlength=int(groups.max()) + 1) for row in star])
