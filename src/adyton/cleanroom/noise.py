"""Discrete Laplace noise from OpenDP's secure generator, the only noise that counts get here.

The modules are imported one by one: `opendp.prelude` also loads scikit-learn, which costs an enclave seconds.
Source: OpenDP `make_laplace` on integers; Ghosh, Roughgarden and Sundararajan (2009).
"""

from __future__ import annotations

from collections.abc import Sequence

from opendp.domains import atom_domain, vector_domain
from opendp.measurements import make_laplace
from opendp.metrics import l1_distance
from opendp.mod import enable_features


def noised(values: Sequence[int], scale: float) -> list[int]:
    """`values`, each with independent noise of `scale` = L1 sensitivity / epsilon."""
    if not values:
        return []
    enable_features("contrib")
    mechanism = make_laplace(vector_domain(atom_domain(T="i64")), l1_distance(T="i64"), scale=scale)
    return [int(value) for value in mechanism([int(value) for value in values])]
