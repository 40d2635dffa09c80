"""The job's work on opened tables: join, templates, and every check that the gate will ask about."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from adyton.cleanroom.aggregate import aggregates_bytes, noised_result
from adyton.cleanroom.contract import Contract, Output, Template
from adyton.cleanroom.disclosure import join_statistics
from adyton.cleanroom.engine import open_engine_of
from adyton.cleanroom.gate import Candidate, GateCheck, GateLimits, check_candidate, check_model, check_synthetic
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.join import (
    JoinCounts,
    JoinedTable,
    PartyTable,
    join_tables,
    mask_rare,
    party_counters,
    rows_to_keep,
    with_earlier_rows,
)
from adyton.cleanroom.join_keys import UserKeys, contract_join_key, keys_of_tables
from adyton.cleanroom.join_state import NEVER_MS, JoinState, PartyPast, check_order, past_of, users_with
from adyton.cleanroom.joined_view import joined_view
from adyton.cleanroom.literal_scan import LiteralScan, texts_of
from adyton.cleanroom.number_steps import NumberSteps
from adyton.cleanroom.opened_inputs import SLAB_ROWS, OpenedTable, give_back_unused
from adyton.cleanroom.outputs import model_bytes, synthetic_bytes
from adyton.cleanroom.reservations import Reservations
from adyton.cleanroom.user_level import UserLevelWork, parts_needed, read_columns
from adyton.kernel.chance import RandomSource
from adyton.kernel.ids import DatasetId
from adyton.learning.ctr.features import Counter
from adyton.learning.schema import Role

if TYPE_CHECKING:
    from adyton.cleanroom.templates import TimeSplit
    from adyton.learning.ctr.training import TrainedModel

USER_LEVEL = frozenset((Template.JOIN_STATISTICS, Template.AGGREGATE))
"""Templates that need join keys and named columns only."""
ROOMY_MB = 2048
"""From this much memory on, the ids of several large tables are decoded at once."""
ROW_LEVEL = frozenset((Template.TRAIN, Template.SCORE, Template.SYNTHESIZE))
"""Templates that need whole tables and features."""


def needed_columns(contract: Contract, job: JobSpec) -> dict[DatasetId, tuple[str, ...]]:
    """By dataset, the stored columns that the job reads."""
    terms = [contract.dataset(d) for d in (job.base, *job.partners)]
    if job.templates & ROW_LEVEL:
        return {one.dataset_id: tuple(column.name for column in one.columns) for one in terms}
    view = joined_view(contract, job.base, job.partners)
    used: frozenset[str] = frozenset().union(*(query.columns for query in job.checked_queries(view)))
    sources = view_columns(contract, job) if job.incremental else view.sources(used)
    needed = {}
    for one in terms:
        times = [c.name for c in one.columns if c.column.role is Role.TIME] if sources[one.dataset_id] else []
        needed[one.dataset_id] = tuple(dict.fromkeys((one.join_column, *times, *sources[one.dataset_id])))
    return needed


def view_columns(contract: Contract, job: JobSpec) -> dict[DatasetId, tuple[str, ...]]:
    """By dataset, every stored column that a query may ever read."""
    view = joined_view(contract, job.base, job.partners)
    return view.sources(frozenset(view.columns))


def summed_columns(one: OpenedTable, is_base: bool, job: JobSpec) -> tuple[list[str], list[str]]:
    """What a party's counters over users sum, and what those over items do."""
    declared = {one.name: job.counters.get(one.dataset_id, ())}
    counters = party_counters(one, "own" if is_base else one.name, declared)
    ids = (one.schema.user_id.name, one.schema.item_id.name)
    user, item = ([c.column for c in counters if c.key == key and c.column is not None] for key in ids)
    return list(dict.fromkeys(user)), list(dict.fromkeys(item))


@dataclass(frozen=True)
class MadeOutput:
    """An output in the clear, inside the enclave, with what the gate needs to know of it."""

    candidate: Candidate
    content: bytes


@dataclass(frozen=True)
class WorkResult:
    """state: what an incremental run leaves to the next.   model, training_users: of the model with partner.
    steps: what partners' numbers were replaced with."""

    made: Sequence[MadeOutput]
    checks: Sequence[GateCheck]
    state: JoinState | None
    model: TrainedModel | None = None
    training_users: int = 0
    steps: Mapping[str, NumberSteps] = field(default_factory=dict)


@dataclass(frozen=True)
class Workload:
    """One job on opened tables.

    tables: the base first, with what is new where the run is incremental.   past: what it continues from.
    """

    contract: Contract
    job: JobSpec
    tables: Sequence[OpenedTable]
    held: Reservations
    random: RandomSource
    noise: RandomSource
    limits: GateLimits
    threads: int
    past: JoinState | None = None

    def run(self, progress: Progress) -> WorkResult:
        """The outputs and all their checks, failed ones included."""
        made: list[MadeOutput] = []
        attacks: list[GateCheck] = []
        key = self.past.join_key if self.past else contract_join_key(self.contract.hash, self.random)
        progress(0.1, "joining")
        work = self._user_level(key)
        if Template.JOIN_STATISTICS in self.job.templates:
            made.append(self._statistics(work.counts()))
        if Template.AGGREGATE in self.job.templates:
            progress(0.2, "aggregating")
            made.append(self._aggregate(work))
        new = whole = model = None
        steps: Mapping[str, NumberSteps] = {}
        training_users = 0
        if self.job.templates & ROW_LEVEL:
            new = self._join(key, progress)
            whole = new if self.past is None or self.past.rows is None else with_earlier_rows(new, self.past.rows)
            row_level = self._row_level(whole, progress)
            made += row_level.made
            attacks += row_level.checks
            model, training_users, steps = row_level.model, row_level.training_users, row_level.steps
        state = self._next_state(key, work, new, whole) if self.job.incremental else None
        progress(0.9, "release gate")
        texts = {one.candidate.output.value: texts_of(one.content) for one in made}
        user_ids_found = LiteralScan(self._id_tables(whole)).found_in(texts)
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
        return WorkResult(made, general + attacks, state, model, training_users, steps)

    def _user_level(self, key: bytes) -> UserLevelWork:
        is_needed = bool(self.job.templates & USER_LEVEL) or self.job.incremental
        past = self.past
        return UserLevelWork(
            self.tables,
            self._user_keys(key) if is_needed else [],
            self.job.memory_mb,
            self.threads,
            self.job.engine,
            known=past.known if past else {},
            past_users=past.users if past else {},
            past_rows=past.party_rows if past else {},
        )

    def _user_keys(self, key: bytes) -> list[UserKeys]:
        # Large tables one by one where memory is short, for the room that decoding takes.
        is_tight = self.job.memory_mb < ROOMY_MB and any(one.rows > SLAB_ROWS for one in self.tables)
        ahead = {} if is_tight else self._first_read()
        with _quick_switching(), ThreadPoolExecutor(1 if is_tight else self.threads) as pool:
            coding = [pool.submit(one.coded_users) for one in self.tables]
            # Hashing in Python keeps one core busy, whatever the number of threads: others read meanwhile.
            reading = [pool.submit(one.read_ahead, ahead[one.name]) for one in self.tables if ahead.get(one.name)]
            codes, texts = zip(*(waiting.result() for waiting in coding), strict=True)
            found = list(map(UserKeys, codes, keys_of_tables(texts, key, pool)))
            for rows in reading:
                rows.result()
        # Allocators keep what decoding took; the engine's memory would come on top of it.
        give_back_unused()
        return found

    def _first_read(self) -> dict[str, list[str]]:
        """By table, what the first query reads, if it looks at all users at once."""
        if not self.job.queries:
            return {}
        view = joined_view(self.contract, self.job.base, self.job.partners)
        read = read_columns(self.tables, view, self.job.checked_queries(view)[0])
        known = self.past.known if self.past else {}
        return read if parts_needed(self.tables, read, self.job.memory_mb, known) == 1 else {}

    def _next_state(
        self, key: bytes, work: UserLevelWork, new: JoinedTable | None, whole: JoinedTable | None
    ) -> JoinState:
        """What the next incremental run needs to know of everything joined so far."""
        past = self.past
        named = list(zip((one.name for one in self.tables), work.keys, strict=True))
        watermark_ms = past.watermark_ms if past else NEVER_MS
        newest_ms = past.newest_base_ms if past else NEVER_MS
        parties: dict[str, PartyPast] = {}
        if new is not None:
            newest_ms = max(newest_ms, pc.max(new.table[new.schema.time.name].cast(pa.int64())).as_py())
            watermark_ms = newest_ms - self.job.lateness_ms
            for place, one in enumerate(self.tables):
                before = past.parties.get(one.name) if past else None
                columns = summed_columns(one, place == 0, self.job)
                parties[one.name] = past_of(before, new.events[one.name], watermark_ms, *columns)
        known: dict[str, pa.Table] = {}
        if Template.AGGREGATE in self.job.templates:
            known = work.newly_known(view_columns(self.contract, self.job))
        return JoinState(
            join_key=key,
            versions={str(one.dataset_id): one.newest_version for one in self.tables},
            users={n: users_with(past.users.get(n) if past else None, keys.distinct()) for n, keys in named},
            party_rows={n: len(keys) + (past.party_rows.get(n, 0) if past else 0) for n, keys in named},
            watermark_ms=watermark_ms,
            parties=parties,
            known=known,
            rows=rows_to_keep(whole) if whole is not None else None,
            newest_base_ms=newest_ms,
        )

    def _id_tables(self, whole: JoinedTable | None) -> list[PartyTable]:
        """Every user id that the run has seen in the clear, for the scan."""
        made = []
        for place, one in enumerate(self.tables):
            ids = one.distinct_ids()
            column = one.schema.user_id.name
            if place == 0 and whole is not None:
                ids = whole.table[column].cast(pa.string())
            made.append(PartyTable(one.dataset_id, one.name, pa.table({column: ids}), one.schema))
        return made

    def _row_level(self, joined: JoinedTable, progress: Progress) -> WorkResult:
        # Imported here: torch takes seconds to load, which a job without models need not wait for.
        import torch

        from adyton.cleanroom.templates import split_by_time

        torch.set_num_threads(self.threads)
        made: list[MadeOutput] = []
        attacks: list[GateCheck] = []
        trained = WorkResult([], [], None)
        if Template.TRAIN in self.job.templates:
            split = split_by_time(joined, self.job)
            trained = (self._train_private if self.job.private_training else self._train)(joined, split, progress)
            made += trained.made
            attacks += trained.checks
        if Template.SYNTHESIZE in self.job.templates:
            progress(0.7, "synthesizing and attacking")
            table, checks = self._synthesize(joined)
            made.append(table)
            attacks += checks
        return replace(trained, made=made, checks=attacks)

    def _join(self, key: bytes, progress: Progress) -> JoinedTable:
        """The new rows with their features; values are not masked yet."""
        progress(0.25, "joining and looking back")
        base, *partners = (one.party_table() for one in self.tables)
        past = self.past.parties if self.past else None
        if self.past is not None:
            check_order(base.table[base.schema.time.name].cast(pa.int64()), self.past.watermark_ms)
        with open_engine_of(self.job.engine, self.job.memory_mb, self.threads) as engine:
            return join_tables(engine, base, partners, key=key, counters=self._counters(), past=past)

    def _counters(self) -> dict[str, tuple[Counter, ...]]:
        return {one.name: tuple(self.job.counters.get(one.dataset_id, ())) for one in self.tables}

    def _statistics(self, counts: JoinCounts) -> MadeOutput:
        loss = self.job.statistics_loss
        self.held.is_noise_drawn = self.held.is_noise_drawn or loss is not None
        content = join_statistics(counts, k=self.contract.binding_rule.k, loss=loss, source=self.noise)
        return MadeOutput(Candidate(Output.JOIN_STATISTICS, counts.users_joined, loss), content)

    def _aggregate(self, work: UserLevelWork) -> MadeOutput:
        view = joined_view(self.contract, self.job.base, self.job.partners)
        k = self.contract.binding_rule.k
        # From here on data is looked at: a query that fails has been answered too.
        self.held.is_noise_drawn = True
        results = [
            noised_result(work.groups(view, query, request), query, request, k, self.noise)
            for query, request in zip(self.job.checked_queries(view), self.job.queries, strict=True)
        ]
        shown = [r.smallest_group for r in results if r.smallest_group is not None]
        candidate = Candidate(Output.AGGREGATE, min(shown, default=k), self.held.losses[Output.AGGREGATE])
        return MadeOutput(candidate, aggregates_bytes(results))

    def _train(self, joined: JoinedTable, split: TimeSplit, progress: Progress) -> WorkResult:
        from adyton.cleanroom.templates import train_pair

        masked, steps = mask_rare(joined, self.contract.binding_rule.k, self.job.test_from_ms)
        pair = train_pair(masked, self.job, split, lambda done, what: progress(0.3 + 0.4 * done, what))
        made: list[MadeOutput] = []
        checks: list[GateCheck] = []
        for output, artifact in pair.artifacts.items():
            candidate = Candidate(output, pair.training_users, None)
            made.append(MadeOutput(candidate, model_bytes(artifact)))
            checks += check_model(output, pair.attacks[output], self.limits)
        others = [(Output.EVALUATION, pair.evaluation_json)]
        if Template.SCORE in self.job.templates:
            others.append((Output.PREDICTIONS, pair.predictions_parquet))
        for output, content in others:
            made.append(MadeOutput(Candidate(output, pair.training_users, None), content))
        return WorkResult(made, checks, None, pair.model, pair.training_users, steps)

    def _train_private(self, joined: JoinedTable, split: TimeSplit, progress: Progress) -> WorkResult:
        from adyton.cleanroom.templates import private_features, train_private_model

        request = self.job.private_training
        assert request is not None, "asked by whoever calls"
        private_features(joined, self.job)
        progress(0.3, "training under differential privacy")
        # From here on data is looked at: a training that fails has been answered too.
        self.held.is_noise_drawn = True
        trained = train_private_model(joined, self.job, request, split, self.contract.binding_rule.k, self.noise)
        candidate = Candidate(Output.MODEL, trained.training_users, request.loss)
        made = [MadeOutput(candidate, model_bytes(trained.artifact))]
        if Template.SCORE in self.job.templates:
            made.append(
                MadeOutput(Candidate(Output.PREDICTIONS, trained.training_users, None), trained.predictions_parquet)
            )
        checks = check_model(Output.MODEL, trained.attacks, self.limits)
        return WorkResult(made, checks, None, trained.model, trained.training_users)

    def _synthesize(self, joined: JoinedTable) -> tuple[MadeOutput, list[GateCheck]]:
        from adyton.cleanroom.templates import synthesize

        request = self.job.synthesize
        assert request is not None, "a job with this template has its parameters"
        self.held.is_noise_drawn = True
        k = self.contract.binding_rule.k
        table = synthesize(joined, request, self.job.test_from_ms, k, self.job.seed, self.noise)
        candidate = Candidate(Output.SYNTHETIC_TABLE, table.users, request.loss)
        return MadeOutput(candidate, synthetic_bytes(table.record)), check_synthetic(table.measures, self.limits)


@contextmanager
def _quick_switching() -> Iterator[None]:
    """Let threads that read wait 0.5 ms for the interpreter instead of 5: they ask for it at every block of a file."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
