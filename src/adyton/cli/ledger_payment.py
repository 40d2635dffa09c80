"""What is made outside of the clean room and paid from the owner's privacy ledger: options, and holding the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from adyton.cli.options_given import refuse_if_given
from adyton.kernel.chance import OsRandom
from adyton.kernel.ledger import Account, PrivacyLoss

_FILE = click.Path(dir_okay=False, path_type=Path)


class WatchedRandom(OsRandom):
    """The operating system's generator, which knows whether anything was drawn from it."""

    was_drawn = False

    def token(self, n_bytes: int) -> bytes:
        self.was_drawn = True
        return super().token(n_bytes)


@dataclass(frozen=True)
class Payment:
    """Which account of which ledger pays, and the budget of that account."""

    account: Account
    budget: PrivacyLoss
    ledger: Path
    counter: Path


def ledger_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options of a payment."""
    for option in reversed(
        (
            click.option("--ledger", type=_FILE, help="SQLite file of the owner's privacy ledger, which then pays."),
            click.option("--counter", type=_FILE, help="File that guards the ledger; keep it elsewhere."),
            click.option("--owner", default="owner", show_default=True, help="Whose budget."),
            click.option("--population", default="users", show_default=True, help="Whom the rows describe."),
            click.option("--budget-epsilon", default="3", show_default=True, help="Of the account, for good."),
            click.option("--budget-delta", default="1e-5", show_default=True),
        )
    ):
        command = option(command)
    return command


def payment_of(
    ledger: Path | None, counter: Path | None, owner: str, population: str, budget_epsilon: str, budget_delta: str
) -> Payment | None:
    """None without a ledger.   Raises UsageError for half a ledger, BadInputError for numbers that are none."""
    if (ledger is None) != (counter is None):
        raise click.UsageError("--ledger and --counter go together")
    if ledger is None or counter is None:
        refuse_if_given("owner", "population", "budget_epsilon", "budget_delta", why="needs --ledger and --counter")
        return None
    return Payment(Account(owner, population), PrivacyLoss.of(budget_epsilon, budget_delta), ledger, counter)


@contextmanager
def paid(payment: Payment, loss: PrivacyLoss, random: WatchedRandom, what: str) -> Iterator[PrivacyLoss]:
    """Hold `loss` while the block makes `what` with `random`, and pay at its end.

    A block that fails gets its budget back only if nothing was drawn yet: a later failure is an answer too.
    Gives what is left of the budget.   Raises OverBudgetError before the block is entered.
    """
    from adyton.cleanroom.ledger_store import FileCounter, LedgerStore

    payment.counter.parent.mkdir(parents=True, exist_ok=True)
    with closing(LedgerStore(payment.ledger, FileCounter(payment.counter))) as store:
        reservation = f"{what.replace(' ', '-')}-{OsRandom().token(8).hex()}"
        # While the lock is held, no enclave on the same ledger takes this reservation for a dead job's.
        with store.job_lock(reservation):
            left = store.reserve(reservation, payment.account, what, loss, payment.budget)
            random.was_drawn = False
            try:
                yield left
            except BaseException:
                settle = store.commit if random.was_drawn else store.cancel
                settle(reservation)
                raise
            store.commit(reservation)
    click.echo(f"epsilon left: {float(left.epsilon):g}", err=True)
