"""Near-real-time inside the enclave: sealed micro-batches in, sealed scores out, features kept fresh in between.

A stream begins as an incremental job that trains and scores (`enclave`). Its process then stays: it keeps the model and
the state in memory, and for every batch (later versions of the contract's growing datasets)

    1 asks the owners' brokers for the batch's keys, with fresh evidence and a fresh key pair
    2 adds what was known before to each new row of the base, by the same expressions as every other job
    3 scores these rows with the model, passes the gate, seals the scores to their recipients, signs a receipt
    4 takes the batch into the state; a batch of partners' rows alone ends here

A batch that is refused changes nothing and ends nothing. What a batch knew is summed up between batches, so that a
batch costs what it and its users are large, and one look at the keys of the state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.cleanroom.broker import KeyGrant
from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.enclave import Enclave, EnclaveResult
from adyton.cleanroom.engine import Engine
from adyton.cleanroom.gate import Candidate, check_candidate, require_all
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.join import JoinedTable, in_steps, join_tables
from adyton.cleanroom.join_state import JoinState, check_order, past_of, users_with
from adyton.cleanroom.key_exchange import EnclaveKeys
from adyton.cleanroom.literal_scan import LiteralScan, texts_of
from adyton.cleanroom.number_steps import NumberSteps
from adyton.cleanroom.opened_inputs import ChosenTable, OpenedTable, SealedInput, choose_tables
from adyton.cleanroom.receipt_writer import RunFacts
from adyton.cleanroom.workload import MadeOutput, summed_columns
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import JobId

if TYPE_CHECKING:
    from adyton.learning.ctr.training import TrainedModel

FOLD_ROWS = 50_000
"""So many rows of a party wait in the tail before they are summed up."""


@dataclass
class ScoredStream:
    """A stream after its first job. One batch at a time."""

    enclave: Enclave
    job: JobSpec
    state: JoinState
    model: TrainedModel
    training_users: int
    steps: Mapping[str, NumberSteps]
    engine: Engine
    batches: int = field(default=0)

    def score(self, inputs: Mapping[str, SealedInput]) -> EnclaveResult | None:
        """Scores of the batch's new base rows; None if it holds partners' rows only.

        inputs: sealed files by `DATASET@vN`.   Raises what its parts raise; then the stream is as it was.
        """
        enclave, started_at_ms = self.enclave, self.enclave.clock.now_ms()
        contract = enclave.signed.contract
        enclave.signed.require_active(started_at_ms)
        dataset_ids = (self.job.base, *self.job.partners)
        keys = EnclaveKeys(enclave.random)
        grants: list[KeyGrant] = []
        chosen = choose_tables(contract, dataset_ids, inputs, self.state.versions, needs_base=False)
        tables = enclave.open_tables(self.job, chosen, keys, grants, self.state.versions)
        keys.forget_receiving()
        joined = self._joined(tables)
        result = None
        if joined.table.num_rows:
            batch_job = self._batch_job()
            made = self._scores(joined, chosen)
            found = LiteralScan([one.party_table() for one in tables]).found_in({"batch": texts_of(made.content)})
            checks = require_all(
                check_candidate(made.candidate, contract, reserved=None, user_ids_found=found["batch"])
            )
            outputs = enclave.seal_outputs([made], batch_job, keys)
            facts = RunFacts(
                contract=contract,
                job=batch_job,
                terms=[one.terms for one in chosen],
                grants=grants,
                hardening=enclave.hardening,
                spent=(),
                ledger_head=enclave.ledger.head(),
                checks=checks,
                outputs=outputs,
                started_at_ms=started_at_ms,
                finished_at_ms=enclave.clock.now_ms(),
                appended={one.terms.dataset_id: one.manifest for one in chosen},
            )
            result = enclave.result_of(facts, keys)
        self.state = self._with(tables, joined)
        self.batches += 1
        return result

    def sum_up(self) -> None:
        """Fold what waits into the sums, if it is much; for the time between batches."""
        if any(past.tail.num_rows > FOLD_ROWS for past in self.state.parties.values()):
            self.state = self._with_watermark(self.state.newest_base_ms - self.job.lateness_ms)

    def _joined(self, tables: Sequence[OpenedTable]) -> JoinedTable:
        base, *partners = (one.party_table() for one in tables)
        check_order(base.table[base.schema.time.name].cast(pa.int64()), self.state.watermark_ms)
        counters = {one.name: tuple(self.job.counters.get(one.dataset_id, ())) for one in tables}
        return join_tables(
            self.engine,
            base,
            partners,
            key=self.state.join_key,
            counters=counters,
            past=self.state.parties,
            is_small=True,
        )

    def _scores(self, joined: JoinedTable, chosen: Sequence[ChosenTable]) -> MadeOutput:
        """Which row of which version, and the model's probability."""
        base = [one for one in chosen if one.manifest.dataset_id == self.job.base]
        scores = pa.table(
            {
                "version": np.repeat([one.terms.version for one in base], [one.terms.rows for one in base]),
                "row": np.concatenate([np.arange(one.terms.rows) for one in base]),
                "with_partner": self.model.predict(in_steps(joined, self.steps).table),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(scores, buffer, compression="zstd")
        return MadeOutput(Candidate(Output.PREDICTIONS, self.training_users, None), buffer.getvalue())

    def _batch_job(self) -> JobSpec:
        return replace(
            self.job,
            job_id=JobId(f"{self.job.job_id[:50]}-{self.batches + 1}"),
            templates=frozenset({Template.SCORE}),
            continues=str(self.job.job_id),
            queries=(),
            synthesize=None,
            private_training=None,
            statistics_loss=None,
        )

    def _with(self, tables: Sequence[OpenedTable], joined: JoinedTable) -> JoinState:
        """The state with the batch in it; nothing is summed up yet."""
        state, parties = self.state, {}
        users, rows = dict(state.users), dict(state.party_rows)
        for place, one in enumerate(tables):
            events = joined.events[one.name]
            columns = summed_columns(one, place == 0, self.job)
            parties[one.name] = past_of(state.parties[one.name], events, state.watermark_ms, *columns)
            rows[one.name] += events.num_rows
            if events.num_rows:
                users[one.name] = users_with(users[one.name], events["user_key"].to_numpy())
        times = joined.table[joined.schema.time.name].cast(pa.int64()).to_numpy()
        return replace(
            state,
            versions={str(one.dataset_id): one.newest_version for one in tables},
            users=users,
            party_rows=rows,
            parties=parties,
            newest_base_ms=max([state.newest_base_ms, *times.tolist()]),
        )

    def _with_watermark(self, watermark_ms: int) -> JoinState:
        contract, parties = self.enclave.signed.contract, {}
        terms = [contract.dataset(d) for d in (self.job.base, *self.job.partners)]
        for place, (name, past) in enumerate(self.state.parties.items()):
            one = OpenedTable(terms[place].dataset_id, name, terms[place], (), [])
            nothing = past.tail.slice(0, 0)
            parties[name] = past_of(past, nothing, watermark_ms, *summed_columns(one, place == 0, self.job))
        return replace(self.state, parties=parties, watermark_ms=max(self.state.watermark_ms, watermark_ms))


def start_stream(
    enclave: Enclave, job: JobSpec, engine: Engine, progress: Progress
) -> tuple[EnclaveResult, ScoredStream]:
    """Run the first job and keep what batches need. Raises BadInputError for a job that cannot go on as a stream."""
    if not job.incremental or not {Template.TRAIN, Template.SCORE} <= job.templates:
        raise BadInputError("a stream's job is incremental, trains and scores", where="templates")
    result, work = enclave.run_and_keep(job, progress)
    assert work.state is not None, "an incremental job leaves a state"
    assert work.model is not None, "a job that trains has a model"
    # Rows so far were needed to train; batches need what they added up to.
    state = replace(work.state, rows=None)
    return result, ScoredStream(enclave, job, state, work.model, work.training_users, work.steps, engine)
