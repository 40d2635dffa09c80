"""Two tables with shared users keep their relation, and cost what they say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.kernel.chance import InsecureFixedRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.linked import fit_linked

LOSS = PrivacyLoss.of(3, "1e-6")
SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
    )
)


def _tables() -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(0)
    taste = rng.random(4000) < 0.5
    made = []
    for seed, low, high in ((1, 0.1, 0.6), (2, 0.2, 0.9)):
        rng = np.random.default_rng(seed)
        user = np.repeat(np.flatnonzero(rng.random(4000) < 0.8), 3)
        clicked = rng.random(user.size) < np.where(taste[user], high, low)
        made.append(pa.table({"user": user, "clicked": clicked.astype(np.int8), "slot": rng.integers(0, 3, user.size)}))
    return made[0], made[1]


def _relation(first: pa.Table, second: pa.Table) -> float:
    """Correlation over shared users of their click rates in the two tables."""
    rates = []
    for table in (first, second):
        users, number = np.unique(table["user"].cast(pa.string()).to_numpy(zero_copy_only=False), return_inverse=True)
        rate = np.bincount(number, table["clicked"].to_numpy()) / np.bincount(number)
        rates.append(dict(zip(users.tolist(), rate.tolist(), strict=True)))
    shared = sorted(rates[0].keys() & rates[1].keys())
    return float(np.corrcoef([rates[0][u] for u in shared], [rates[1][u] for u in shared])[0, 1])


def test_the_relation_between_the_tables_survives_and_the_ids_do_not() -> None:
    first, second = _tables()
    model = fit_linked(first, SCHEMA, second, SCHEMA, loss=LOSS, source=InsecureFixedRandom(1))
    made = model.sample(9000, 9000, stream(0))

    real = _relation(first, second)
    assert real > 0.3
    assert _relation(*made) > 0.5 * real
    assert made[0].column_names == made[1].column_names == ["user", "clicked", "slot"]
    assert set(made[0]["user"].to_pylist()) & set(made[1]["user"].to_pylist())
    assert all(str(user).startswith("s") for user in made[0]["user"].to_pylist())


def test_both_tables_together_cost_the_loss_and_no_more() -> None:
    first, second = _tables()
    model = fit_linked(first, SCHEMA, second, SCHEMA, loss=LOSS, source=InsecureFixedRandom(1))

    assert (model.first.spent + model.second.spent).fits_in(LOSS)
    assert model.spent == LOSS


def test_users_of_one_table_only_stay_there() -> None:
    first, second = _tables()
    strangers = second.set_column(0, "user", pa.array([f"x{u}" for u in second["user"].to_pylist()]))
    made = fit_linked(first, SCHEMA, strangers, SCHEMA, loss=LOSS, source=InsecureFixedRandom(1)).sample(
        6000, 6000, stream(0)
    )
    users = [set(table["user"].to_pylist()) for table in made]

    assert len(users[0] & users[1]) < 0.1 * len(users[0])


@pytest.mark.parametrize("rows", [0, 9])
def test_row_bounds_outside_the_profiles_are_refused(rows: int) -> None:
    first, second = _tables()
    with pytest.raises(SynthesisInputError):
        fit_linked(first, SCHEMA, second, SCHEMA, loss=LOSS, max_rows_per_user=rows, source=InsecureFixedRandom(1))
