"""What `adyton ctr train` does when it is given --dp-epsilon: hold the loss in the owner's ledger, train, settle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.cli.ctr_data import write_or_explain
from adyton.cli.ledger_payment import Payment, WatchedRandom, ledger_options, paid

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from adyton.kernel.ledger import PrivacyLoss
    from adyton.learning.schema import TableSchema


def private_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options of a private training."""
    command = ledger_options(command)
    command = click.option("--dp-delta", default="1e-6", show_default=True)(command)
    return click.option("--dp-epsilon", metavar="EPSILON", help="Train with user-level differential privacy.")(command)


def train_and_pay(
    table: pa.Table,
    schema: TableSchema,
    rows: NDArray[np.int64],
    features: tuple[str, ...] | None,
    payment: Payment,
    loss: PrivacyLoss,
    output: Path,
    *,
    seed: int,
    as_json: bool,
) -> None:
    """Train on `rows`, write the model and say what is left.

    Raises OverBudgetError before anything is computed.
    """
    from adyton.learning.ctr import store
    from adyton.learning.ctr.private_trainer import train_private

    random = WatchedRandom()
    with paid(payment, loss, random, "model") as left:
        model = train_private(table, schema, rows=rows, loss=loss, source=random, features=features, seed=seed)
    write_or_explain(lambda: store.save(model, output), output)
    fields = [field.name for field in model.encoder.fields]
    if as_json:
        report = {"model": str(output), "fields": fields, "privacy": model.privacy, "loss": loss.as_json()}
        click.echo(json.dumps({**report, "epsilon_left": str(left.epsilon), "seed": seed}))
    else:
        click.echo(f"{output}: {len(fields)} fields, {model.privacy}")
