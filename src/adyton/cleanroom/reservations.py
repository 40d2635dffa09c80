"""What one job holds in the ledger: reserved with every owner before anything is computed, settled once at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adyton.cleanroom.contract import Contract, DatasetTerms, Output, Template
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.ledger_store import LedgerStore
from adyton.kernel.canonical import Json
from adyton.kernel.ledger import ZERO_LOSS, Account, PrivacyLoss, Reservation, ReservationState
from adyton.learning.synth.accounting import ACCOUNTANT

BASIC_COMPOSITION = "basic composition (Dwork & Roth 2014, Theorem 3.16)"


@dataclass(frozen=True)
class Spending:
    """One noised release. `purpose` tells it from others of the same output, such as two queries."""

    output: Output
    purpose: str
    loss: PrivacyLoss
    accountant: str = BASIC_COMPOSITION


def planned_spending(job: JobSpec) -> tuple[Spending, ...]:
    """What the job's noised outputs will spend, one entry per query, statistic, private model and synthetic table."""
    spending: list[Spending] = []
    if Template.JOIN_STATISTICS in job.templates and job.statistics_loss is not None:
        spending.append(Spending(Output.JOIN_STATISTICS, Output.JOIN_STATISTICS.value, job.statistics_loss))
    spending += [Spending(Output.AGGREGATE, f"{Output.AGGREGATE.value}:{q.name}", q.loss) for q in job.queries]
    if Template.SYNTHESIZE in job.templates and job.synthesize is not None:
        spending.append(Spending(Output.SYNTHETIC_TABLE, Output.SYNTHETIC_TABLE.value, job.synthesize.loss, ACCOUNTANT))
    if job.private_training is not None:
        spending.append(Spending(Output.MODEL, Output.MODEL.value, job.private_training.loss, ACCOUNTANT))
    return tuple(spending)


@dataclass
class Reservations:
    """Held for one job. `is_noise_drawn` turns True when a mechanism has run: from then on nothing is given back."""

    spending: Sequence[Spending]
    accounts: Sequence[Account]
    is_noise_drawn: bool = False
    _ledger: LedgerStore = field(repr=False, kw_only=True)
    _open: list[str] = field(repr=False, kw_only=True, default_factory=list)

    @property
    def losses(self) -> Mapping[Output, PrivacyLoss]:
        """What is held for each output, all its releases together."""
        losses: dict[Output, PrivacyLoss] = {}
        for one in self.spending:
            losses[one.output] = losses.get(one.output, ZERO_LOSS) + one.loss
        return losses

    def settle(self) -> None:
        """Everything held counts as spent, in one step: a job that dies meanwhile spent all of it or nothing."""
        self._ledger.commit_all(self._open)
        self._open.clear()

    def abandon(self) -> None:
        """The job ended without releasing anything: give back, unless a mechanism has already looked at the data.

        A failure after that is an answer too, and was computed from what the noise paid for.
        """
        if self.is_noise_drawn:
            self.settle()
        for reservation_id in self._open:
            self._ledger.cancel(reservation_id)
        self._open.clear()

    def as_json(self, noise_is_secure: bool) -> list[Json]:
        """One entry per output and account, for the receipt."""
        return [
            {
                "owner": account.owner,
                "population": account.population,
                "purpose": one.purpose,
                **one.loss.as_json(),
                "unit": "user",
                "accountant": one.accountant,
                "noise_is_secure": noise_is_secure,
            }
            for one in self.spending
            for account in self.accounts
        ]


def reserve(ledger: LedgerStore, contract: Contract, job: JobSpec, terms: Sequence[DatasetTerms]) -> Reservations:
    """Hold the job's losses with every owner whose users are in the join; all or nothing.

    A job that died, or was refused before noise was drawn, gave back what it held and may run again under its id.
    Raises OverBudgetError, LedgerStateError if a job with this id has spent something.
    """
    accounts = sorted({one.account() for one in terms}, key=lambda account: (account.owner, account.population))
    budgets, earlier = contract.budgets(), ledger.ledger({}).reservations
    held = Reservations(planned_spending(job), accounts, _ledger=ledger)
    try:
        for one in held.spending:
            for account in accounts:
                first = f"{job.job_id}/{one.purpose}/{account.owner}/{account.population}"
                reservation_id = _not_given_back(first, earlier)
                ledger.reserve(reservation_id, account, one.purpose, one.loss, budgets[account])
                held._open.append(reservation_id)
    except BaseException:
        held.abandon()
        raise
    return held


def _not_given_back(first: str, earlier: Mapping[str, Reservation]) -> str:
    """`first`, or `first/2` and so on where what was held under the names before was given back."""
    name, attempt = first, 1
    while name in earlier and earlier[name].state is ReservationState.CANCELLED:
        attempt += 1
        name = f"{first}/{attempt}"
    return name
