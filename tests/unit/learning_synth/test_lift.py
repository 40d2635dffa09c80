"""The share of a partner's lift: all of it from real columns, none from shuffled ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.lift import lift_kept, own_scores

SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
        Column("taste", Role.USER, Kind.CATEGORY),
    )
)


def _rows(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    slot, taste = rng.integers(0, 4, n), rng.integers(0, 5, n)
    clicked = rng.random(n) < 1 / (1 + np.exp(2.5 - 0.5 * slot - 0.5 * taste))
    return pa.table(
        {"user": rng.integers(0, n // 4, n), "clicked": clicked.astype(np.int8), "slot": slot, "taste": taste}
    )


@pytest.mark.slow
def test_fresh_partner_columns_keep_the_lift_and_shuffled_ones_lose_it() -> None:
    train, fresh, test = _rows(6000, 1), _rows(6000, 2), _rows(6000, 3)
    kept = lift_kept(train, fresh.drop_columns(["user"]), test, SCHEMA, ["taste"])
    order = pa.array(np.random.default_rng(0).permutation(fresh.num_rows))
    shuffled = fresh.set_column(fresh.column_names.index("taste"), "taste", fresh["taste"].take(order))
    lost = lift_kept(train, shuffled, test, SCHEMA, ["taste"])

    assert kept.real.low > 0.03
    assert kept.share.value > 0.85
    assert kept.share.low < kept.share.value < kept.share.high
    assert lost.share.value < 0.3


def test_own_scores_order_rows_as_the_columns_do_and_come_from_other_users() -> None:
    train = _rows(3000, 1)
    scores = own_scores(train, SCHEMA, ["slot"])
    slot = train["slot"].to_numpy()
    means = [scores[slot == value].mean() for value in range(4)]

    assert means == sorted(means)
    memorised = train.append_column("own_label", train["clicked"])
    assert np.corrcoef(own_scores(memorised, SCHEMA, ["slot"]), train["clicked"].to_numpy())[0, 1] < 0.5


@pytest.mark.parametrize("partner", [[], ["nothing"], ["slot", "taste"]])
def test_columns_that_leave_no_comparison_are_refused(partner: list[str]) -> None:
    rows = _rows(100, 1)
    with pytest.raises(SynthesisInputError):
        lift_kept(rows, rows, rows, SCHEMA, partner)


def test_a_score_that_one_table_lacks_is_refused() -> None:
    rows = _rows(100, 1)
    with pytest.raises(SynthesisInputError, match="both tables"):
        lift_kept(rows, rows, rows, SCHEMA, ["taste"], score="own score")
