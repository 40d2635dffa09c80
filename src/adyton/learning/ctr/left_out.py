"""Members that do not read some of the fields, in a model whose parts never show it.

In training such a member sees every value of a left-out field as unknown. Afterwards all values get the unknown one's
weights, so that predicting and exporting need no exception: the member gives the same whatever the field holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from adyton.learning.ctr.fields import FieldEncoder, Side
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.errors import ModelError

Indices = NDArray[np.int64]


def blank(encoder: FieldEncoder, inputs: Sequence[Indices], names: Collection[str]) -> list[Indices]:
    """`inputs` (of each side) with 0 in the slots of the fields `names`.   Raises ModelError for an unknown name."""
    unknown = set(names) - {field.name for field in encoder.fields}
    if unknown:
        raise ModelError(f"no field is called {', '.join(sorted(unknown))}", where="leave_out")
    result = []
    for side, indices in zip(Side, inputs, strict=True):
        is_left_out = np.repeat([f.name in names for f in encoder.of(side)], [f.slots for f in encoder.of(side)])
        result.append(np.where(is_left_out, 0, indices) if is_left_out.any() else indices)
    return result


def tie(network: FactorisedNetwork, encoder: FieldEncoder, names: Collection[str]) -> None:
    """Give every value of the fields `names` the weights of index 0; a list's are 0, as an empty list counts."""
    with torch.no_grad():
        for side, part in network.sides.items():
            first = 0
            for field in encoder.of(side):
                rows = slice(first, first + field.size)
                if field.name in names:
                    for weights in (part.embeddings, part.weights):
                        weights[rows] = 0.0 if field.slots > 1 else weights[first].clone()
                first += field.size
