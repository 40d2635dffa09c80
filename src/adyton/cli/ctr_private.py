"""What `adyton ctr train` does when it is given --dp-epsilon: hold the loss in the owner's ledger, train, settle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.cli.ctr_data import FILE, write_or_explain
from adyton.kernel.chance import OsRandom
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import Account, PrivacyLoss

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from adyton.learning.schema import TableSchema


@dataclass(frozen=True)
class Charge:
    """One private training: what it costs, on which account of which ledger, and the account's budget."""

    loss: PrivacyLoss
    budget: PrivacyLoss
    account: Account
    ledger: Path
    counter: Path


def private_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options of a private training."""
    for option in reversed(
        (
            click.option("--dp-epsilon", metavar="EPSILON", help="Train with user-level differential privacy."),
            click.option("--dp-delta", default="1e-6", show_default=True),
            click.option("--ledger", type=FILE, help="SQLite file of the owner's privacy ledger."),
            click.option("--counter", type=FILE, help="File that guards the ledger; keep it elsewhere."),
            click.option("--owner", default="owner", show_default=True, help="Whose budget."),
            click.option("--population", default="users", show_default=True, help="Whom the rows describe."),
            click.option("--budget-epsilon", default="3", show_default=True, help="Of the account, for good."),
            click.option("--budget-delta", default="1e-5", show_default=True),
        )
    ):
        command = option(command)
    return command


def charge_of(
    epsilon: str,
    delta: str,
    ledger: Path | None,
    counter: Path | None,
    owner: str,
    population: str,
    budget_epsilon: str,
    budget_delta: str,
) -> Charge:
    """Raises UsageError without a ledger, BadInputError for numbers that are none."""
    if ledger is None or counter is None:
        raise click.UsageError("--dp-epsilon needs --ledger and --counter: every private model is paid for")
    return Charge(
        _loss(epsilon, delta), _loss(budget_epsilon, budget_delta), Account(owner, population), ledger, counter
    )


def train_and_pay(
    table: pa.Table,
    schema: TableSchema,
    rows: NDArray[np.int64],
    features: tuple[str, ...] | None,
    charge: Charge,
    output: Path,
    *,
    seed: int,
    as_json: bool,
) -> None:
    """Train on `rows`, write the model and say what is left.

    Raises OverBudgetError before anything is computed.   A training that fails gives its budget back only if it had
    drawn nothing at random yet: a later failure is an answer too.
    """
    from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
    from adyton.learning.ctr import store
    from adyton.learning.ctr.private_trainer import train_private

    if not output.parent.is_dir():
        raise BadInputError("the model's folder does not exist", where=str(output.parent))
    random = _WatchedRandom()
    charge.counter.parent.mkdir(parents=True, exist_ok=True)
    account = LedgerStore(charge.ledger, FileCounter(charge.counter))
    reservation = f"ctr-{OsRandom().token(8).hex()}/model"
    left = account.reserve(reservation, charge.account, "model", charge.loss, charge.budget)
    try:
        model = train_private(table, schema, rows=rows, loss=charge.loss, source=random, features=features, seed=seed)
    except BaseException:
        settle = account.commit if random.was_drawn else account.cancel
        settle(reservation)
        raise
    account.commit(reservation)
    write_or_explain(lambda: store.save(model, output), output)
    fields = [field.name for field in model.encoder.fields]
    if as_json:
        report = {"model": str(output), "fields": fields, "privacy": model.privacy, "loss": charge.loss.as_json()}
        click.echo(json.dumps({**report, "epsilon_left": str(left.epsilon), "seed": seed}))
    else:
        click.echo(f"{output}: {len(fields)} fields, {model.privacy}")
        click.echo(f"epsilon left: {float(left.epsilon):g}", err=True)


class _WatchedRandom(OsRandom):
    """The operating system's generator, which knows whether it was asked."""

    was_drawn = False

    def token(self, n_bytes: int) -> bytes:
        self.was_drawn = True
        return super().token(n_bytes)


def _loss(epsilon: str, delta: str) -> PrivacyLoss:
    try:
        return PrivacyLoss.of(epsilon, delta)
    except (ValueError, ZeroDivisionError) as error:
        raise BadInputError("epsilon and delta are numbers such as 0.5 or 1e-6") from error
