"""What a guarantee for users may be given on: columns of the joined table that no other user's rows move.

Checked on the contract and the job alone, before a key is asked for or anything is reserved: a refusal tells nothing
and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adyton.cleanroom.contract import Contract, Template
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.join import joined_shape
from adyton.cleanroom.joined_view import short_name
from adyton.cleanroom.table_columns import table_schema
from adyton.kernel.errors import BadInputError
from adyton.learning.errors import FeatureError
from adyton.learning.schema import Role, TableSchema


@dataclass(frozen=True)
class _Party:
    """A table of the contract, not opened."""

    name: str
    schema: TableSchema


def check_single_users(contract: Contract, job: JobSpec) -> None:
    """What of the job has a guarantee for users asks for columns of single users only.

    Raises FeatureError naming columns that are counted over items, BadInputError for what cannot be synthesized.
    """
    if job.private_training is None and Template.SYNTHESIZE not in job.templates:
        return
    terms = [contract.dataset(dataset_id) for dataset_id in (job.base, *job.partners)]
    parties = [_Party(short_name(one, terms), table_schema(one.columns)) for one in terms]
    declared = zip(parties, terms, strict=True)
    counters = {party.name: job.counters.get(one.dataset_id, ()) for party, one in declared}
    shape = joined_shape(parties[0], parties[1:], counters)
    if job.private_training is not None:
        refuse_item_columns(job.features, shape.item_columns, where="private_training")
    if Template.SYNTHESIZE in job.templates:
        assert job.synthesize is not None, "a job with this template has its parameters"
        synthetic_schema(shape.schema, shape.item_columns, job.synthesize.columns)


def refuse_item_columns(names: Iterable[str], item_columns: Sequence[str], *, where: str) -> None:
    """Raises FeatureError naming those that are counted over items."""
    if over_items := [name for name in names if name in item_columns]:
        raise FeatureError(
            f"{', '.join(over_items)}: counted over items, so other users' rows are in it",
            where=where,
            hint="leave it out: a guarantee for users is on what no other user moves",
        )


def synthetic_schema(schema: TableSchema, item_columns: Sequence[str], columns: Sequence[str]) -> TableSchema:
    """The schema of a synthetic table: `columns` of the joined table, its user id and its label.

    Raises BadInputError for an unknown column or an exact time, FeatureError for a column counted over items.
    """
    if unknown := sorted(set(columns) - set(schema.names)):
        raise BadInputError(f"unknown columns: {', '.join(unknown)}", where="synthesize")
    refuse_item_columns(columns, item_columns, where="synthesize")
    wanted = {*columns, schema.user_id.name, schema.label.name}
    chosen = schema.select([name for name in schema.names if name in wanted])
    if chosen.with_role(Role.TIME):
        raise BadInputError("exact times are not synthesized", where="synthesize", hint="use hour or day columns")
    return chosen
