"""The job's work on opened tables: join, templates, and every check that the gate will ask about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from adyton.cleanroom.contract import Contract, Output, Template
from adyton.cleanroom.disclosure import join_statistics
from adyton.cleanroom.engine import open_engine
from adyton.cleanroom.gate import Candidate, GateCheck, GateLimits, check_candidate, check_model, check_synthetic
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.join import JoinedTable, PartyTable, join_tables
from adyton.cleanroom.join_keys import contract_join_key
from adyton.cleanroom.outputs import model_bytes, synthetic_bytes
from adyton.cleanroom.reservations import Reservations
from adyton.cleanroom.templates import (
    TimeSplit,
    literals_in_json,
    literals_in_parquet,
    split_by_time,
    synthesize,
    train_pair,
)
from adyton.kernel.chance import RandomSource
from adyton.learning.schema import Role

MIN_LITERAL_CHARACTERS = 6


@dataclass(frozen=True)
class MadeOutput:
    """An output in the clear, inside the enclave, with what the gate needs to know of it."""

    candidate: Candidate
    content: bytes


@dataclass(frozen=True)
class Workload:
    """One job on opened tables. `tables`: the base first."""

    contract: Contract
    job: JobSpec
    tables: Sequence[PartyTable]
    held: Reservations
    random: RandomSource
    noise: RandomSource
    limits: GateLimits
    threads: int

    def run(self, progress: Progress) -> tuple[list[MadeOutput], list[GateCheck]]:
        """The outputs and all their checks, failed ones included."""
        joined = self._join(progress)
        split = split_by_time(joined, self.job)
        made: list[MadeOutput] = []
        attacks: list[GateCheck] = []
        if Template.JOIN_STATISTICS in self.job.templates:
            made.append(self._statistics(joined))
        if Template.TRAIN in self.job.templates:
            models, checks = self._train(joined, split, progress)
            made += models
            attacks += checks
        if Template.SYNTHESIZE in self.job.templates:
            progress(0.7, "synthesizing and attacking")
            table, checks = self._synthesize(joined, split)
            made.append(table)
            attacks += checks
        progress(0.9, "release gate")
        user_ids = _user_ids(self.tables)
        general = [
            check
            for one in made
            for check in check_candidate(
                one.candidate,
                self.contract,
                reserved=self.held.losses.get(one.candidate.output),
                user_ids=user_ids,
            )
        ]
        return made, general + attacks

    def _join(self, progress: Progress) -> JoinedTable:
        progress(0.1, "joining and looking back")
        key = contract_join_key(self.contract.hash, self.random)
        with open_engine(self.job.memory_mb, self.threads) as engine:
            return join_tables(
                engine,
                self.tables[0],
                self.tables[1:],
                key=key,
                k=self.contract.binding_rule.k,
                counters={one.name: self.job.counters.get(one.dataset_id, ()) for one in self.tables},
            )

    def _statistics(self, joined: JoinedTable) -> MadeOutput:
        loss = self.job.statistics_loss
        self.held.is_noise_drawn = self.held.is_noise_drawn or loss is not None
        content = join_statistics(joined.counts, k=self.contract.binding_rule.k, loss=loss)
        return MadeOutput(Candidate(Output.JOIN_STATISTICS, joined.counts.users_joined, loss, frozenset()), content)

    def _train(
        self, joined: JoinedTable, split: TimeSplit, progress: Progress
    ) -> tuple[list[MadeOutput], list[GateCheck]]:
        pair = train_pair(joined, self.job, split, lambda done, what: progress(0.3 + 0.4 * done, what))
        made, checks = [], []
        for output, artifact in pair.artifacts.items():
            literals = literals_in_json(dict(artifact.manifest))
            literals |= literals_in_parquet(artifact.ad_vectors_parquet)
            literals |= literals_in_parquet(artifact.context_vectors_parquet)
            candidate = Candidate(output, pair.training_users, None, literals)
            made.append(MadeOutput(candidate, model_bytes(artifact)))
            checks += check_model(output, pair.membership[output], self.limits)
        others = [(Output.EVALUATION, pair.evaluation_json)]
        if Template.SCORE in self.job.templates:
            others.append((Output.PREDICTIONS, pair.predictions_parquet))
        for output, content in others:
            made.append(MadeOutput(Candidate(output, pair.training_users, None, frozenset()), content))
        return made, checks

    def _synthesize(self, joined: JoinedTable, split: TimeSplit) -> tuple[MadeOutput, list[GateCheck]]:
        request = self.job.synthesize
        assert request is not None, "a job with this template has its parameters"
        self.held.is_noise_drawn = True
        table = synthesize(joined, request, split, self.job.seed, self.noise)
        literals = literals_in_parquet(table.record.table_parquet)
        candidate = Candidate(Output.SYNTHETIC_TABLE, table.users, request.loss, literals)
        return MadeOutput(candidate, synthetic_bytes(table.record)), check_synthetic(table.measures, self.limits)


def _user_ids(tables: Sequence[PartyTable]) -> frozenset[str]:
    """All user ids as text, for the literal scan; very short ones meet other values by chance and say nothing."""
    ids: set[str] = set()
    for one in tables:
        column = one.table[one.schema.single(Role.USER_ID).name].cast(pa.string())
        texts = pc.unique(column).drop_null().to_pylist()
        ids.update(text for text in texts if len(text) >= MIN_LITERAL_CHARACTERS)
    return frozenset(ids)
