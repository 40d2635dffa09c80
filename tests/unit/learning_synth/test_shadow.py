"""Shadow models catch a synthesizer that remembers, and clear one that does not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.kernel.chance import InsecureFixedRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.errors import TableError
from adyton.learning.schema import TableSchema
from adyton.learning.synth.shadow import shadow_attack
from adyton.learning.synth.synthesizer import fit

COLUMNS = ["user", "clicked", "age", "city", "slot"]


def _people(n: int, seed: int) -> pa.Table:
    """Two rows each of users with several columns of many values, so that a person is recognisable."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n), 2)
    of_user = rng.integers(0, 12, (n, 3))[user]
    return pa.table(
        {
            "user": user,
            "clicked": pa.array(rng.integers(0, 2, 2 * n).astype(np.int8)),
            **{name: of_user[:, column] for column, name in enumerate(COLUMNS[2:])},
        }
    )


def _copies(rows: pa.Table, number: int) -> pa.Table:
    return rows


def test_a_synthesizer_that_copies_is_caught(schema: TableSchema) -> None:
    found = shadow_attack(_people(200, 1), schema.select(COLUMNS), _copies, shadows=8, targets=100)

    assert found.auc.low > 0.95
    assert found.caught > 0.5
    assert (found.shadows, found.targets) == (8, 100)


def test_a_synthesizer_that_copies_half_of_the_rows_is_caught_too(schema: TableSchema) -> None:
    def some_copied(rows: pa.Table, number: int) -> pa.Table:
        kept = np.random.default_rng(number).random(rows.num_rows) < 0.5
        return pa.concat_tables([rows.filter(pa.array(kept)), _people(100, 100 + number)])

    assert shadow_attack(_people(300, 1), schema.select(COLUMNS), some_copied, shadows=16).auc.low > 0.55


def test_a_synthesizer_that_looks_at_nobody_is_cleared(schema: TableSchema) -> None:
    """Fixed seeds: the outcome is the same on every run."""
    found = shadow_attack(
        _people(300, 1), schema.select(COLUMNS), lambda _, number: _people(300, 50 + number), shadows=8
    )

    assert found.auc.low < 0.5 < found.auc.high
    assert abs(found.auc.value - 0.5) < 0.04


def test_differential_privacy_leaves_little_to_shadow_models(schema: TableSchema) -> None:
    def refit(rows: pa.Table, number: int) -> pa.Table:
        loss = PrivacyLoss.of(1, "1e-6")
        model = fit(rows, schema.select(COLUMNS), loss=loss, source=InsecureFixedRandom(number))
        return model.sample(2000, stream(number, "shadow"))

    assert shadow_attack(_people(600, 1), schema.select(COLUMNS), refit, shadows=6).auc.high < 0.56


def test_too_few_shadows_or_users_are_refused(schema: TableSchema) -> None:
    with pytest.raises(TableError):
        shadow_attack(_people(100, 1), schema.select(COLUMNS), _copies, shadows=3)
    with pytest.raises(TableError):
        shadow_attack(_people(10, 1), schema.select(COLUMNS), _copies)
