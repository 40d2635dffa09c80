"""The one call of a release gate: every privacy measure of a synthetic table at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adyton.kernel.chance import stream
from adyton.learning.errors import TableError
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth.codes import combined
from adyton.learning.synth.compared import ComparedColumn, Ints, code_matrices, compared
from adyton.learning.synth.fidelity import Fidelity, fidelity
from adyton.learning.synth.privacy import (
    Advantage,
    Estimate,
    attribute_inference,
    closer_to_train,
    exact_matches,
    linkability,
    membership_inference,
    shared_literals,
    singling_out,
)


@dataclass(frozen=True)
class PrivacyMeasures:
    """What attacks found. Numbers only, never a value of a row.

    exact_matches, attribute_inference, singling_out, linkability: success on members against holdout; `.is_visible`
    says leak.
    membership: AUC with interval, .5 is a coin.   closer_to_train: .5 without copying.
    shared_literals: by column, how many rare real values stand in the synthetic table as they are.
    user_ids_shared: how many real user ids do.
    """

    exact_matches: Advantage
    membership: Estimate
    attribute_inference: Advantage
    attacked_attribute: str
    singling_out: Advantage
    linkability: Advantage
    closer_to_train: Estimate
    shared_literals: dict[str, int]
    user_ids_shared: int
    fidelity: Fidelity

    def as_json(self) -> dict[str, object]:
        return {
            "exact_matches": self.exact_matches.as_json(),
            "membership_auc": self.membership.as_json(),
            "attribute_inference": {"attribute": self.attacked_attribute, **self.attribute_inference.as_json()},
            "singling_out": self.singling_out.as_json(),
            "linkability": self.linkability.as_json(),
            "closer_to_train": self.closer_to_train.as_json(),
            "shared_literals": dict(self.shared_literals),
            "user_ids_shared": self.user_ids_shared,
            "quality": self.fidelity.quality,
        }


def measure(
    real_train: pa.Table, real_holdout: pa.Table, synthetic: pa.Table, schema: TableSchema, *, seed: int
) -> PrivacyMeasures:
    """All measures of `synthetic`, which was made from `real_train` and not from `real_holdout`.

    The holdout should be *other users* of the same days; an earlier or later table differs for reasons that are not
    leaks.
    Raises TableError if a table lacks a column, is empty, or the holdout has fewer than 4 rows.
    """
    if real_holdout.num_rows < 4:
        raise TableError("the holdout is too small to attack", hint="keep at least some hundred rows out of the fit")
    columns = compared([real_train, real_holdout, synthetic], schema)
    train, holdout, made = code_matrices(columns)
    secret = _attribute_worth_hiding(columns)
    literals = shared_literals(real_train, synthetic, schema)
    users = 0
    of_train, of_holdout = _user_numbers(real_train, schema), _user_numbers(real_holdout, schema)
    if schema.with_role(Role.USER_ID):
        name = schema.user_id.name
        users = _shared_ids(real_train, synthetic, name) if name in synthetic.column_names else 0
        literals.pop(name, None)
    return PrivacyMeasures(
        exact_matches=exact_matches(train, holdout, made),
        membership=membership_inference(
            train, holdout, made, stream(seed, "membership"), train_users=of_train, holdout_users=of_holdout
        ),
        attribute_inference=attribute_inference(train, holdout, made, secret, stream(seed, "attribute")),
        attacked_attribute=columns[secret].name,
        singling_out=singling_out(
            train, holdout, made, stream(seed, "singling out"), train_users=of_train, holdout_users=of_holdout
        ),
        linkability=linkability(
            train, holdout, made, stream(seed, "linkability"), train_users=of_train, holdout_users=of_holdout
        ),
        closer_to_train=closer_to_train(train, holdout, made, stream(seed, "distance")),
        shared_literals=literals,
        user_ids_shared=users,
        fidelity=fidelity(real_train, synthetic, schema),
    )


def _attribute_worth_hiding(columns: tuple[ComparedColumn, ...]) -> int:
    """The user column with the most values, since a guess is hardest there; any column if none is the user's."""
    of_user = [i for i, column in enumerate(columns) if column.role is Role.USER]
    return max(of_user or range(len(columns)), key=lambda i: columns[i].binned()[1])


def _user_numbers(table: pa.Table, schema: TableSchema) -> Ints | None:
    if not schema.with_role(Role.USER_ID) or schema.user_id.name not in table.column_names:
        return None
    encoded = combined(table.column(schema.user_id.name)).dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def _shared_ids(real: pa.Table, synthetic: pa.Table, name: str) -> int:
    real_ids = set(real.column(name).cast(pa.string()).to_pylist())
    return len(real_ids.intersection(synthetic.column(name).cast(pa.string()).to_pylist()))
