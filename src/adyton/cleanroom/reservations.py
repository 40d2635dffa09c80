"""What one job holds in the ledger: reserved with every owner before anything is computed, settled once at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adyton.cleanroom.contract import Contract, DatasetTerms, Output, Template
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.ledger_store import LedgerStore
from adyton.kernel.canonical import Json
from adyton.kernel.ledger import Account, PrivacyLoss


def planned_losses(job: JobSpec) -> dict[Output, PrivacyLoss]:
    """What the job's noised outputs will spend, by output."""
    losses: dict[Output, PrivacyLoss] = {}
    if Template.JOIN_STATISTICS in job.templates and job.statistics_loss is not None:
        losses[Output.JOIN_STATISTICS] = job.statistics_loss
    if Template.SYNTHESIZE in job.templates and job.synthesize is not None:
        losses[Output.SYNTHETIC_TABLE] = job.synthesize.loss
    return losses


@dataclass
class Reservations:
    """Held for one job. `is_noise_drawn` turns True when a mechanism has run: from then on nothing is given back."""

    losses: Mapping[Output, PrivacyLoss]
    accounts: Sequence[Account]
    is_noise_drawn: bool = False
    _ledger: LedgerStore = field(repr=False, kw_only=True)
    _open: list[str] = field(repr=False, kw_only=True, default_factory=list)

    def settle(self) -> None:
        """Everything held counts as spent."""
        for reservation_id in self._open:
            self._ledger.mark_releasing(reservation_id)
        for reservation_id in self._open:
            self._ledger.commit(reservation_id)
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
                "purpose": output.value,
                **loss.as_json(),
                "noise_is_secure": noise_is_secure,
            }
            for output, loss in self.losses.items()
            for account in self.accounts
        ]


def reserve(ledger: LedgerStore, contract: Contract, job: JobSpec, terms: Sequence[DatasetTerms]) -> Reservations:
    """Hold the job's losses with every owner whose users are in the join; all or nothing.

    Raises OverBudgetError, LedgerStateError if this job id was used before.
    """
    accounts = sorted({one.account() for one in terms}, key=lambda account: (account.owner, account.population))
    budgets = contract.budgets()
    held = Reservations(planned_losses(job), accounts, _ledger=ledger)
    try:
        for output, loss in held.losses.items():
            for account in accounts:
                reservation_id = f"{job.job_id}/{output.value}/{account.owner}/{account.population}"
                ledger.reserve(reservation_id, account, output.value, loss, budgets[account])
                held._open.append(reservation_id)
    except BaseException:
        held.abandon()
        raise
    return held
