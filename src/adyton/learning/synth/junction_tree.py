"""Second parents for a tree: small cliques of the label and three parts that form a junction tree.

A tree links each part with one parent. Here a part v with parent p may get a second parent q, if p and q already share
a clique. Then (label, p, q, v) is a new clique whose separator (label, p, q) lies in an older one: the running
intersection property holds by construction, at most three parts share a clique, and none has more than `MOST_CELLS`
cells.

1. Choice: for each part one exponential mechanism over its possible second parents and "none"; score = L1 distance of
   the exact table from what the released tree expects, less what chance and later noise alone would show.
2. Measure: each clique; a part without second parent has its pair measured again.
3. Consistency: all noisy views of a pair are averaged by inverse variance; then, from the root on, each clique is
   fitted to its separator as the older clique has it, and to its pairs.

Source: error of the released model as score, McKenna et al. 2022, "AIM"; degree-bounded networks grown part by part,
Zhang et al. 2017, "PrivBayes". Different from both, the label is in every table.

`L` label classes, `Q` codes of a parent, `V` codes of the child.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

import numpy as np

from adyton.learning.synth.coded_table import CodedTable
from adyton.learning.synth.estimate import Floats, fitted_to, label_aware_joint, shrunk
from adyton.learning.synth.label_tree import Clique
from adyton.learning.synth.mechanisms import Mechanisms, NoisyTable

MOST_CELLS = 1 << 15
Pair = tuple[int, int]
Margins = tuple[tuple[tuple[int, ...], Floats], ...]


def chosen_parts(
    table: CodedTable, tree: Sequence[Clique], mechanisms: Mechanisms, rho: Fraction, later_scale: float
) -> list[tuple[int, ...]]:
    """The parts of each clique, child last: (parent, child) or (parent, second parent, child), in the order of `tree`.

    tree: a released tree of pairs.   later_scale: of the noise that the cliques will be measured with.
    """
    expected = _Expected(tree)
    chosen: list[tuple[int, ...]] = [(*tree[0].parents, tree[0].child)]
    for edge in tree[1:]:
        (parent,), child = edge.parents, edge.child
        seconds = [
            second
            for second in _sharing_a_clique(parent, chosen)
            if table.label_classes * int(np.prod([table.sizes[part] for part in (parent, second, child)])) <= MOST_CELLS
        ]
        if not seconds:
            chosen.append((parent, child))
            continue
        scores = [
            0,
            *(_gain(table, expected, edge, second, mechanisms.sensitivity, later_scale) for second in seconds),
        ]
        best = mechanisms.best(scores, rho / (len(tree) - 1), f"second parent of {child}")
        chosen.append((parent, seconds[best - 1], child) if best else (parent, child))
    return chosen


def consistent_cliques(
    parts_of: Sequence[tuple[int, ...]], noisy: Sequence[NoisyTable], stars: Sequence[Floats]
) -> tuple[Clique, ...]:
    """Positive tables of all cliques that agree exactly on their separators.

    parts_of: as `chosen_parts` gave them.   noisy: every measured table, several for some parts.   stars: float64[L, V]
    of each part, same label totals.   Pure post-processing.
    """
    pairs = _Pairs(noisy, stars)
    by_parts = {table.parts: table for table in noisy}
    made: list[Clique] = []
    for parts in parts_of:
        *parents, child = parts
        if len(parents) == 1:
            joint = pairs.joint(parents[0], child)
        else:
            first, second = parents
            margins = (
                ((1,), pairs.joint(second, child)[:, None]),
                ((2,), pairs.joint(first, child)[:, :, None]),
                ((3,), _margin(made, (first, second))[..., None]),
            )
            joint = _clique_joint(by_parts[parts], margins)
        if made:
            separator = _margin(made, tuple(parents))
            joint = joint * (separator / joint.sum(axis=-1))[..., None]
        made.append(Clique(tuple(parents), child, joint))
    return tuple(made)


def _clique_joint(noisy: NoisyTable, margins: Margins) -> Floats:
    """The joint of (label, parent, second, child) that the noisy table and its pairs suggest: float64[L, Q, Q2, V] > 0.

    Two steps as for pairs (`estimate.label_aware_joint`), so that noise does not pass for a relation of the label to
    three parts at once: the table summed over labels is shrunk towards what the pairs imply; the full table is then
    shrunk towards "the label acts through pairs".
    """
    prior = fitted_to(np.ones(noisy.counts.shape), margins)
    summed, classes = prior.sum(axis=0), noisy.counts.shape[0]
    together = shrunk(noisy.counts.sum(axis=0), summed, classes * noisy.variance)
    prior = fitted_to(prior * (together / np.maximum(summed, 1e-12)), (((0,), together[None]), *margins))
    return fitted_to(shrunk(noisy.counts, prior, noisy.variance), margins) + 1e-12


def _sharing_a_clique(part: int, cliques: Sequence[tuple[int, ...]]) -> list[int]:
    return sorted({other for parts in cliques if part in parts for other in parts} - {part})


def _margin(cliques: Sequence[Clique], parts: tuple[int, ...]) -> Floats:
    """The (label, *parts) table of the first clique that holds them all: float64[L, ...]."""
    for clique in cliques:
        own = (*clique.parents, clique.child)
        if set(parts) <= set(own):
            left_out = tuple(1 + axis for axis, part in enumerate(own) if part not in parts)
            kept = [part for part in own if part in parts]
            summed: Floats = clique.joint.sum(axis=left_out)
            return np.transpose(summed, (0, *(1 + kept.index(part) for part in parts)))
    raise AssertionError("the parents of a clique share an older clique")


class _Expected:
    """What a tree of pairs expects of three parts: the child depends on the parent and the label only."""

    def __init__(self, tree: Sequence[Clique]) -> None:
        self._edge_of = {edge.child: edge for edge in tree}
        self._depth: dict[int, int] = {tree[0].parents[0]: 0}
        for edge in tree:
            self._depth[edge.child] = self._depth[edge.parents[0]] + 1
        self._known: dict[Pair, Floats] = {}

    def of(self, edge: Clique, second: int) -> Floats:
        """Expected counts of (label, parent, second, child): float64[L, Q, Q2, V]."""
        given = edge.joint / edge.joint.sum(axis=2, keepdims=True)
        expected: Floats = self._pair(edge.parents[0], second)[..., None] * given[:, :, None, :]
        return expected

    def _pair(self, a: int, b: int) -> Floats:
        """Expected counts of (label, a, b), through the path between them."""
        if self._depth[a] > self._depth[b]:
            return self._pair(b, a).transpose(0, 2, 1)
        if (a, b) not in self._known:
            edge = self._edge_of[b]
            (parent,) = edge.parents
            if parent == a:
                self._known[a, b] = edge.joint
            else:
                given = edge.joint / edge.joint.sum(axis=2, keepdims=True)
                through: Floats = np.matmul(self._pair(a, parent), given)
                self._known[a, b] = through
        return self._known[a, b]


def _gain(
    table: CodedTable, expected: _Expected, edge: Clique, second: int, sensitivity: int, later_scale: float
) -> int:
    """The part of the tree's L1 error on the clique that measuring it could mend; one unit moves it by `sensitivity`.

    Rows of one unit come together, so that chance shows as that of `sensitivity` times fewer draws.
    """
    wanted = expected.of(edge, second)
    exact = table.with_label(edge.parents[0], second, edge.child)
    distance = int(np.abs(exact - np.rint(wanted).astype(np.int64)).sum())
    by_chance = np.minimum(0.8 * np.sqrt(sensitivity * wanted), 2 * wanted).sum()
    hidden = 0.5 * np.minimum(1.13 * later_scale, wanted).sum()
    return distance - round(float(by_chance + hidden))


@dataclass
class _Pairs:
    """Tables of (label, a, b) from all that was measured of them."""

    noisy: Sequence[NoisyTable]
    stars: Sequence[Floats]
    _known: dict[Pair, Floats] = field(default_factory=dict)

    def joint(self, a: int, b: int) -> Floats:
        """float64[L, A, B] > 0, fitted to both stars."""
        if (a, b) not in self._known:
            weighted, precision = (
                np.zeros((self.stars[a].shape[0], self.stars[a].shape[1], self.stars[b].shape[1])),
                0.0,
            )
            for view, variance in self._views(a, b):
                weighted += view / variance
                precision += 1 / variance
            self._known[a, b] = label_aware_joint(weighted / precision, self.stars[a], self.stars[b], 1 / precision)
        return self._known[a, b]

    def _views(self, a: int, b: int) -> Iterator[tuple[Floats, float]]:
        """Each noisy table of the pair and the variance of its cells."""
        for table in self.noisy:
            for x, y in combinations(table.parts, 2):
                if {x, y} == {a, b}:
                    others = tuple(1 + axis for axis, part in enumerate(table.parts) if part not in (a, b))
                    summed = table.counts.sum(axis=others)
                    cells = table.counts.size / summed.size
                    yield (summed if (x, y) == (a, b) else summed.transpose(0, 2, 1)), cells * table.variance
