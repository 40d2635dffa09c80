"""The job's work on opened tables: join, templates, and every check that the gate will ask about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from adyton.cleanroom.aggregate import aggregates_bytes, bounded_groups, noised_result
from adyton.cleanroom.contract import Contract, Output, Template
from adyton.cleanroom.disclosure import join_statistics
from adyton.cleanroom.engine import open_engine_of
from adyton.cleanroom.gate import Candidate, GateCheck, GateLimits, check_candidate, check_model, check_synthetic
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.join import JoinCounts, JoinedTable, PartyTable, count_users, join_tables, mask_rare
from adyton.cleanroom.join_keys import contract_join_key, join_keys
from adyton.cleanroom.joined_view import arrow_for_view, joined_view, view_expression
from adyton.cleanroom.literal_scan import LiteralScan, texts_of
from adyton.cleanroom.outputs import model_bytes, synthetic_bytes
from adyton.cleanroom.reservations import Reservations
from adyton.kernel.chance import RandomSource
from adyton.kernel.ids import DatasetId
from adyton.learning.schema import Role

if TYPE_CHECKING:
    from adyton.cleanroom.templates import TimeSplit

USER_LEVEL = frozenset((Template.JOIN_STATISTICS, Template.AGGREGATE))
"""Templates that need join keys and named columns only."""
ROW_LEVEL = frozenset((Template.TRAIN, Template.SCORE, Template.SYNTHESIZE))
"""Templates that need whole tables and features."""


def needed_columns(contract: Contract, job: JobSpec) -> dict[DatasetId, tuple[str, ...]] | None:
    """By dataset, the stored columns that the job reads; None if it reads all."""
    if job.templates & ROW_LEVEL:
        return None
    view = joined_view(contract, job.base, job.partners)
    used: frozenset[str] = frozenset().union(*(query.columns for query in job.checked_queries(view)))
    needed = {}
    for dataset_id, sources in view.sources(used).items():
        terms = contract.dataset(dataset_id)
        times = [c.name for c in terms.columns if c.column.role is Role.TIME] if sources else []
        needed[dataset_id] = tuple(dict.fromkeys((terms.join_column, *times, *sources)))
    return needed


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
        made: list[MadeOutput] = []
        attacks: list[GateCheck] = []
        key = contract_join_key(self.contract.hash, self.random)
        if self.job.templates & USER_LEVEL:
            progress(0.1, "joining")
            user_keys = [join_keys(one.table[one.schema.user_id.name], key) for one in self.tables]
            if Template.JOIN_STATISTICS in self.job.templates:
                made.append(self._statistics(count_users(user_keys)))
            if Template.AGGREGATE in self.job.templates:
                progress(0.2, "aggregating")
                made.append(self._aggregate(user_keys))
        if self.job.templates & ROW_LEVEL:
            outputs, checks = self._row_level(key, progress)
            made += outputs
            attacks += checks
        progress(0.9, "release gate")
        texts = {one.candidate.output.value: texts_of(one.content) for one in made}
        user_ids_found = LiteralScan(self.tables).found_in(texts)
        general = [
            check
            for one in made
            for check in check_candidate(
                one.candidate,
                self.contract,
                reserved=self.held.losses.get(one.candidate.output),
                user_ids_found=user_ids_found[one.candidate.output.value],
            )
        ]
        return made, general + attacks

    def _row_level(self, key: bytes, progress: Progress) -> tuple[list[MadeOutput], list[GateCheck]]:
        # Imported here: torch takes seconds to load, which a job without models need not wait for.
        import torch

        from adyton.cleanroom.templates import split_by_time

        torch.set_num_threads(self.threads)
        made: list[MadeOutput] = []
        attacks: list[GateCheck] = []
        joined = self._join(key, progress)
        split = split_by_time(joined, self.job)
        if Template.TRAIN in self.job.templates:
            models, checks = self._train(joined, split, progress)
            made += models
            attacks += checks
        if Template.SYNTHESIZE in self.job.templates:
            progress(0.7, "synthesizing and attacking")
            table, checks = self._synthesize(joined, split)
            made.append(table)
            attacks += checks
        return made, attacks

    def _join(self, key: bytes, progress: Progress) -> JoinedTable:
        progress(0.25, "joining and looking back")
        with open_engine_of(self.job.engine, self.job.memory_mb, self.threads) as engine:
            joined = join_tables(
                engine,
                self.tables[0],
                self.tables[1:],
                key=key,
                counters={one.name: self.job.counters.get(one.dataset_id, ()) for one in self.tables},
            )
        return mask_rare(joined, self.contract.binding_rule.k)

    def _statistics(self, counts: JoinCounts) -> MadeOutput:
        loss = self.job.statistics_loss
        self.held.is_noise_drawn = self.held.is_noise_drawn or loss is not None
        content = join_statistics(counts, k=self.contract.binding_rule.k, loss=loss)
        return MadeOutput(Candidate(Output.JOIN_STATISTICS, counts.users_joined, loss), content)

    def _aggregate(self, user_keys: Sequence[pa.ChunkedArray]) -> MadeOutput:
        view = joined_view(self.contract, self.job.base, self.job.partners)
        k = self.contract.binding_rule.k
        # From here on data is looked at: a query that fails has been answered too.
        self.held.is_noise_drawn = True
        results = []
        for query, request in zip(self.job.checked_queries(view), self.job.queries, strict=True):
            with open_engine_of(self.job.engine, self.job.memory_mb, self.threads) as engine:
                sources = view.sources(query.columns)
                registered: dict[DatasetId, Any] = {}
                times: dict[DatasetId, str] = {}
                for one, keys in zip(self.tables, user_keys, strict=True):
                    stored = set(sources[one.dataset_id])
                    if time := [c.name for c in one.schema.with_role(Role.TIME)]:
                        times[one.dataset_id] = time[0]
                        stored |= {time[0]} if stored and one is not self.tables[0] else set()
                    table = arrow_for_view(one.table, keys, sorted(stored))
                    registered[one.dataset_id] = engine.register(f"table_{len(registered)}", table)
                rows = view_expression(view, registered, times, query.columns)
                groups = engine.run(bounded_groups(rows, query, request))
            results.append(noised_result(groups, query, request, k))
        shown = [r.smallest_group for r in results if r.smallest_group is not None]
        candidate = Candidate(Output.AGGREGATE, min(shown, default=k), self.held.losses[Output.AGGREGATE])
        return MadeOutput(candidate, aggregates_bytes(results))

    def _train(
        self, joined: JoinedTable, split: TimeSplit, progress: Progress
    ) -> tuple[list[MadeOutput], list[GateCheck]]:
        from adyton.cleanroom.templates import train_pair

        pair = train_pair(joined, self.job, split, lambda done, what: progress(0.3 + 0.4 * done, what))
        made, checks = [], []
        for output, artifact in pair.artifacts.items():
            candidate = Candidate(output, pair.training_users, None)
            made.append(MadeOutput(candidate, model_bytes(artifact)))
            checks += check_model(output, pair.attacks[output], self.limits)
        others = [(Output.EVALUATION, pair.evaluation_json)]
        if Template.SCORE in self.job.templates:
            others.append((Output.PREDICTIONS, pair.predictions_parquet))
        for output, content in others:
            made.append(MadeOutput(Candidate(output, pair.training_users, None), content))
        return made, checks

    def _synthesize(self, joined: JoinedTable, split: TimeSplit) -> tuple[MadeOutput, list[GateCheck]]:
        from adyton.cleanroom.templates import synthesize

        request = self.job.synthesize
        assert request is not None, "a job with this template has its parameters"
        self.held.is_noise_drawn = True
        table = synthesize(joined, request, split, self.job.seed, self.noise)
        candidate = Candidate(Output.SYNTHETIC_TABLE, table.users, request.loss)
        return MadeOutput(candidate, synthetic_bytes(table.record)), check_synthetic(table.measures, self.limits)
