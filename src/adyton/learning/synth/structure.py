"""Which tables of a coded table are measured, and with what share of the loss: star, tree or junction tree.

Star: each part with the label.
Tree: also a spanning tree over the parts, each edge chosen by the exponential mechanism among all edges that would
join a new part (score = L1 distance of the pair from independence, less what noise alone would show), and measured
with the label.
Junction tree: also a second parent for parts that need one (`junction_tree`).

A part with many codes enters tree and cliques in a coarse form: frequent codes alone, the tail in groups of like label
rate. Source: the marginal-then-model scheme of McKenna, Miklau, Sheldon 2021 ("Winning the NIST contest", MST), with
the label in every table instead of feature pairs.

`B` rows, `P` parts, `L` label classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np

from adyton.learning.synth.accounting import scale_for
from adyton.learning.synth.coded_table import CodedTable, narrow
from adyton.learning.synth.estimate import Floats, label_totals, onto_simplex
from adyton.learning.synth.junction_tree import chosen_parts, consistent_cliques
from adyton.learning.synth.label_tree import LabelTree, grouped
from adyton.learning.synth.mechanisms import Mechanisms
from adyton.learning.synth.noise import Ints

COARSE_CODES, TAIL_GROUPS = 56, 8


class Structure(StrEnum):
    """Which tables are measured besides those of each part with the label."""

    STAR = "star"
    """None."""
    TREE = "tree"
    """Each part with one parent."""
    JUNCTION_TREE = "junction-tree"
    """Each part with one or two parents."""


@dataclass(frozen=True)
class Split:
    """Shares of rho, sum 1: the stars, choosing links, measuring them, choosing second parents, measuring cliques."""

    stars: Fraction
    links: Fraction = Fraction(0)
    edges: Fraction = Fraction(0)
    seconds: Fraction = Fraction(0)
    cliques: Fraction = Fraction(0)


def _percent(*shares: int) -> Split:
    return Split(*(Fraction(share, 100) for share in shares))


SPLITS = {
    Structure.STAR: _percent(100),
    Structure.TREE: _percent(60, 6, 34),
    Structure.JUNCTION_TREE: _percent(60, 5, 17, 4, 14),
}


def fit_tree(
    table: CodedTable, mechanisms: Mechanisms, rho: Fraction, structure: Structure = Structure.TREE
) -> LabelTree:
    """Measure `table` within `rho` and give back the distribution.   Raises PrivacySpendError if less is left."""
    n_parts = len(table.sizes)
    split = SPLITS[Structure.STAR if n_parts == 1 else structure]
    noisy_stars = mechanisms.tables(table, [(part,) for part in range(n_parts)], rho * split.stars, "star")
    totals = label_totals([star.counts for star in noisy_stars], [star.variance for star in noisy_stars])
    stars = tuple(
        np.stack([onto_simplex(row, total) for row, total in zip(star.counts, totals, strict=True)])
        for star in noisy_stars
    )
    coarse = tuple(_coarse_groups(star) for star in stars)
    if not split.edges:
        return LabelTree(stars, coarse, 0, ())
    coarse_sizes = tuple(int(groups.max()) + 1 for groups in coarse)
    coded = CodedTable(
        tuple(narrow(groups[table.codes[part]], int(groups.max()) + 1) for part, groups in enumerate(coarse)),
        coarse_sizes,
        table.label,
        table.label_classes,
    )
    coarse_stars = [grouped(star, groups) for star, groups in zip(stars, coarse, strict=True)]
    later_scale = scale_for(mechanisms.sensitivity, rho * split.edges / (n_parts - 1))
    links = _chosen_links(coded, coarse_stars, mechanisms, rho * split.links, later_scale)
    edges = mechanisms.tables(coded, links, rho * split.edges, "tree")
    cliques = consistent_cliques(links, edges, coarse_stars)
    if split.cliques:
        later_scale = scale_for(mechanisms.sensitivity, rho * split.cliques / (n_parts - 1))
        parts_of = chosen_parts(coded, cliques, mechanisms, rho * split.seconds, later_scale)
        noisy = mechanisms.tables(coded, parts_of, rho * split.cliques, "clique")
        cliques = consistent_cliques(parts_of, [*edges, *noisy], coarse_stars)
    return LabelTree(stars, coarse, links[0][0], cliques)


def _chosen_links(
    table: CodedTable, stars: list[Floats], mechanisms: Mechanisms, rho: Fraction, later_scale: float
) -> list[tuple[int, int]]:
    """(parent, child) pairs of a spanning tree, in the order of growth.

    Every score is an L1 distance between exact counts and a fixed integer table, less a number that depends on released
    tables only; one unit changes it by at most its rows. One exponential mechanism for each step.
    """
    n_parts = len(table.sizes)
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
        best = mechanisms.best([int(scores[link]) for link in candidates], rho / (n_parts - 1), f"link {len(links)}")
        links.append(candidates[best])
        inside.append(candidates[best][1])
        outside.remove(candidates[best][1])
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
