"""Fit and sample: types, domains, budgets, users, and what must be refused."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adyton.kernel.chance import InsecureFixedRandom, OsRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.errors import TableError
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth import store
from adyton.learning.synth.accounting import rho_for
from adyton.learning.synth.domains import Edges, Span, Values
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.fidelity import fidelity
from adyton.learning.synth.synthesizer import SynthesizerModel, fit, to_record

LOSS = PrivacyLoss.of(3, "1e-6")


@pytest.fixture(scope="module")
def model(table: pa.Table, schema: TableSchema) -> SynthesizerModel:
    return fit(table, schema, loss=LOSS, source=OsRandom())


@pytest.fixture(scope="module")
def synthetic(model: SynthesizerModel) -> pa.Table:
    return model.sample(9000, stream(1, "sample"))


def test_columns_keep_order_and_type_and_ignored_ones_are_left_out(synthetic: pa.Table, table: pa.Table) -> None:
    assert synthetic.column_names == ["user", "clicked", "age", "city", "slot", "price", "at", "tags"]
    for name in ("clicked", "city", "slot", "price", "at", "tags"):
        assert synthetic.schema.field(name).type == table.schema.field(name).type


def test_the_label_keeps_its_relation_to_a_column(synthetic: pa.Table, table: pa.Table) -> None:
    def click_rate(rows: pa.Table, slot: str) -> float:
        return float(pc.mean(rows.filter(pc.equal(rows["slot"], slot))["clicked"]).as_py())

    for slot in ("slot0", "slot1", "slot2"):
        assert abs(click_rate(synthetic, slot) - click_rate(table, slot)) < 0.08


def test_all_columns_together_resemble_the_real_table(
    synthetic: pa.Table, table: pa.Table, schema: TableSchema
) -> None:
    assert fidelity(table, synthetic, schema).quality > 0.88


def test_dates_stay_on_real_days_and_lists_hold_known_tags(synthetic: pa.Table) -> None:
    days = np.unique(synthetic["at"].to_numpy() // 86_400_000)
    tags = {tag for tags in synthetic["tags"].to_pylist() for tag in tags}

    assert set(days.tolist()) <= {19097, 19098, 19099, 19100}
    assert tags <= {"news", "sport", "cars"}


def test_synthetic_users_are_made_up_and_bounded(synthetic: pa.Table, table: pa.Table) -> None:
    assert not set(synthetic["user"].to_pylist()) & set(table["user"].to_pylist())
    assert max(synthetic["user"].value_counts().field("counts").to_pylist()) <= 4


def test_what_was_spent_is_what_was_asked_and_no_mechanism_is_free(model: SynthesizerModel) -> None:
    total = sum(rho for _, rho in model.mechanisms)

    assert model.spent == LOSS
    assert all(rho > 0 for _, rho in model.mechanisms)
    assert total <= rho_for(LOSS)
    assert total > rho_for(LOSS) * 8 / 10


def test_public_domains_cost_nothing(table: pa.Table, schema: TableSchema) -> None:
    small = schema.select(["user", "clicked", "slot", "price"])
    public = {"slot": Values(("slot0", "slot1", "slot2", "slot3")), "price": Edges((0, 1, 2, 4, 8, 16, 100))}
    model = fit(table, small, loss=LOSS, domains=public, source=OsRandom())

    purposes = [purpose for purpose, _ in model.mechanisms]
    assert "slot" not in purposes
    assert "price" not in purposes


def test_a_value_of_one_user_is_never_released(table: pa.Table, schema: TableSchema) -> None:
    """The domain is found under DP: a value that only one person has must not come out."""
    slots = table["slot"].to_pylist()
    rows = np.flatnonzero(np.array(table["user"].to_pylist()) == table["user"][0].as_py())
    for row in rows:
        slots[row] = "only-one-person-has-this"
    marked = table.set_column(table.column_names.index("slot"), "slot", pa.array(slots))
    for seed in range(5):
        model = fit(marked, schema.select(["user", "clicked", "slot"]), loss=LOSS, source=InsecureFixedRandom(seed))
        made = set(model.sample(20_000, stream(seed, "s"))["slot"].to_pylist())
        assert "only-one-person-has-this" not in made
        assert "slot0" in made


def test_numbers_whose_range_fewer_users_share_than_asked_are_not_known(table: pa.Table, schema: TableSchema) -> None:
    """Most users have a price from 2 to 8; few have one below 1 or above 16."""
    small = schema.select(["user", "clicked", "price"])

    def prices(least_users: int) -> tuple[float, float]:
        model = fit(table, small, loss=PrivacyLoss.of(40, "1e-6"), source=OsRandom(), least_users=least_users)
        found = pc.min_max(model.sample(2_000, stream(0, "s"))["price"])
        return found["min"].as_py(), found["max"].as_py()

    few, many = prices(1), prices(400)
    assert few[0] < 1
    assert few[1] > 16
    assert many[0] >= 2
    assert many[1] <= 8


def test_row_unit_needs_no_users_and_says_so(table: pa.Table, schema: TableSchema) -> None:
    without_users = TableSchema(tuple(c for c in schema.columns if c.role is not Role.USER_ID))
    model = fit(table, without_users, loss=LOSS, unit="row", source=OsRandom())

    assert "user" not in model.sample(10, stream(0)).column_names
    assert "unit row" in model.accountant


def test_a_table_without_label_is_synthesized_too(table: pa.Table, schema: TableSchema) -> None:
    model = fit(table, schema.select(["user", "age", "slot"]), loss=LOSS, source=OsRandom())

    assert model.sample(100, stream(0)).column_names == ["user", "age", "slot"]


def test_less_budget_gives_a_worse_table(table: pa.Table, schema: TableSchema) -> None:
    """If epsilon changed nothing, no noise would be there."""

    def quality(epsilon: str) -> float:
        days = {"at": Span(1_650_000_000_000, 1_650_000_000_000 + 3 * 86_400_000)}
        loss = PrivacyLoss.of(epsilon, "1e-6")
        model = fit(table, schema, loss=loss, domains=days, source=InsecureFixedRandom(3))
        return fidelity(table, model.sample(8000, stream(0, "q")), schema).quality

    assert quality("0.2") < quality("10") - 0.02


def test_fixed_noise_repeats_itself_and_is_marked_everywhere(table: pa.Table, schema: TableSchema) -> None:
    def made() -> tuple[SynthesizerModel, pa.Table]:
        model = fit(table, schema, loss=LOSS, source=InsecureFixedRandom(7))
        return model, model.sample(500, stream(0, "same"))

    (model, first), (_, second) = made(), made()
    record = to_record(model, first, "partner")
    assert first.equals(second)
    assert not record.noise_is_secure
    assert "INSECURE" in record.accountant


def test_the_record_holds_the_table_and_its_guarantee(model: SynthesizerModel, synthetic: pa.Table) -> None:
    record = to_record(model, synthetic, "publisher")

    assert pq.read_table(io.BytesIO(record.table_parquet)).equals(synthetic)
    assert (record.rows, record.unit, record.guarantee, record.noise_is_secure) == (9000, "user", LOSS, True)


def test_high_cardinality_columns_are_coarsened_in_the_tree_and_restored(schema: TableSchema) -> None:
    rng = np.random.default_rng(0)
    n = 60_000
    item = np.minimum(rng.geometric(0.01, n), 300)
    rows = pa.table({"clicked": (rng.random(n) < 0.3).astype(np.int8), "city": item, "slot": item % 7})
    model = fit(
        rows, schema.select(["clicked", "city", "slot"]), loss=LOSS, unit="row", source=InsecureFixedRandom(0),
        domains={"city": Values(tuple(range(1, 301)))},
    )  # fmt: skip
    made = model.sample(40_000, stream(0))

    assert len(made["city"].unique()) > 150
    agree = np.mean(made["city"].to_numpy() % 7 == made["slot"].to_numpy())
    assert agree > 0.5  # one in seven by chance


def test_dates_that_too_few_rows_share_are_refused_with_a_way_out(table: pa.Table, schema: TableSchema) -> None:
    with pytest.raises(SynthesisInputError) as refused:
        fit(table, schema, loss=PrivacyLoss.of("0.02", "1e-6"), source=OsRandom())
    assert "public span" in str(refused.value.hint)


@pytest.mark.parametrize(
    "bad",
    [
        {"unit": "household"},
        {"max_rows_per_user": 0},
        {"domains": {"nowhere": Values((1,))}},
        {"domains": {"age": Span(0, 1)}},
        {"domains": {"price": Values((1, 2))}},
        {"loss": PrivacyLoss.of(1, 0)},
        {"least_users": 0},
        {"least_users": 2, "unit": "row"},
    ],
)
def test_what_cannot_be_meant_is_refused(bad: dict[str, object], table: pa.Table, schema: TableSchema) -> None:
    arguments: dict[str, object] = {"loss": LOSS, "source": OsRandom(), **bad}
    with pytest.raises(SynthesisInputError):
        fit(table, schema, **arguments)  # type: ignore[arg-type]


def test_user_level_privacy_without_a_user_id_is_refused(table: pa.Table, schema: TableSchema) -> None:
    with pytest.raises(SynthesisInputError, match="user id"):
        fit(table, schema.select(["clicked", "age"]), loss=LOSS, source=OsRandom())


def test_a_table_that_does_not_fit_its_schema_is_refused(table: pa.Table, schema: TableSchema) -> None:
    with pytest.raises(TableError):
        fit(table.drop_columns(["age"]), schema, loss=LOSS, source=OsRandom())


@pytest.mark.parametrize(
    "make", [lambda: Values(()), lambda: Values((1, 1)), lambda: Edges((1, 1)), lambda: Span(2, 1)]
)
def test_public_domains_are_valid_from_birth(make: object) -> None:
    with pytest.raises(SynthesisInputError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("public", [False, True])
def test_missing_times_stay_missing_in_their_share(table: pa.Table, schema: TableSchema, public: bool) -> None:
    rng = np.random.default_rng(0)
    at = table.column_names.index("at")
    gaps = table.set_column(at, "at", pa.array(table["at"].to_numpy(), mask=rng.random(table.num_rows) < 0.3))
    span = Span(1_650_000_000_000, 1_650_000_000_000 + 3 * 86_400_000, nullable=True)
    model = fit(
        gaps,
        schema.select(["user", "clicked", "slot", "at"]),
        loss=PrivacyLoss.of(8, "1e-6"),
        domains={"at": span} if public else {},
        source=InsecureFixedRandom(1),
    )
    made = store.from_bytes(store.to_bytes(model)).sample(6000, stream(0, "gaps"))

    assert made["at"].null_count / 6000 == pytest.approx(0.3, abs=0.03)
    days = np.unique(made["at"].drop_null().to_numpy() // 86_400_000)
    assert set(days.tolist()) <= {19097, 19098, 19099, 19100}


def test_times_without_gaps_get_none(synthetic: pa.Table) -> None:
    assert synthetic["at"].null_count == 0
