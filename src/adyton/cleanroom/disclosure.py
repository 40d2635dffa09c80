"""Join statistics that may be shown: exact and thresholded, or noised and thresholded.

Match rates can be probed by adding and removing single users, so an exact count leaves only if the contract says that
join statistics may leave without a guarantee. Otherwise each of the three user counts gets discrete Laplace noise
(OpenDP) at a third of epsilon: one user changes each count by at most one. Row counts are in the contract already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction

from adyton.cleanroom.join import JoinCounts
from adyton.cleanroom.noise import noised
from adyton.kernel.chance import RandomSource
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss


def join_statistics(
    counts: JoinCounts, *, k: int, loss: PrivacyLoss | None, source: RandomSource | None = None
) -> bytes:
    """JSON: each user count, or null where it is below `k`; how many were suppressed; the guarantee.

    loss: user-level budget of noised counts, None for exact ones.   source: of noise; only a fixed one is read.
    Raises BadInputError for epsilon 0.
    """
    users = {
        "users_base": counts.users_base,
        "users_partners": counts.users_partners,
        "users_joined": counts.users_joined,
    }
    shown = users if loss is None else _noised(users, loss.epsilon, source)
    visible = {name: value if value >= k else None for name, value in shown.items()}
    return json.dumps(
        {
            "rows_base": counts.rows_base,
            "rows_partners": counts.rows_partners,
            **visible,
            "k": k,
            "suppressed": sum(value is None for value in visible.values()),
            "guarantee": loss.as_json() if loss is not None else None,
        },
        indent=1,
    ).encode()


def _noised(counts: Mapping[str, int], epsilon: Fraction, source: RandomSource | None) -> dict[str, int]:
    if epsilon <= 0:
        raise BadInputError("noised statistics need epsilon > 0")
    made = noised(list(counts.values()), float(len(counts) / epsilon), source=source)
    return {name: max(0, value) for name, value in zip(counts, made, strict=True)}
