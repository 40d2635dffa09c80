"""A job: which templates of a contract to run on which of its datasets. Plain data, checked against the contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import CheckedQuery, Measure, check_sql
from adyton.cleanroom.contract import TEMPLATE_OF, Contract, Output, Template
from adyton.cleanroom.engine import DEFAULT_MEMORY_MB, MAX_MEMORY_MB, MIN_MEMORY_MB, EngineKind
from adyton.cleanroom.errors import TemplateRefusedError
from adyton.cleanroom.joined_view import JoinedView, joined_view
from adyton.kernel.canonical import Json, canonical_hash
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import ContractHash, DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.ctr.features import Counter, Statistic
from adyton.learning.schema import Role

Progress = Callable[[float, str], None]
"""Told the fraction of a job that is done, in [0, 1], and what is being done."""
MAX_QUERIES = 64
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True)
class SynthesizeRequest:
    """One synthetic table of the joined rows.

    loss: user-level epsilon and delta.   rows: how many to sample.   columns: names of the joined table's columns.
    """

    loss: PrivacyLoss
    rows: int
    columns: tuple[str, ...]
    max_rows_per_user: int = 4

    def __post_init__(self) -> None:
        if self.loss.epsilon <= 0 or not 0 < self.loss.delta < 1:
            raise BadInputError("a synthetic table needs epsilon > 0 and 0 < delta < 1", where="synthesize")
        if self.rows < 1 or self.max_rows_per_user < 1:
            raise BadInputError("rows and max_rows_per_user must be at least 1", where="synthesize")


@dataclass(frozen=True)
class PrivateTraining:
    """The train template's model under differential privacy.

    loss: user-level epsilon and delta of the whole model: values, weights, and which ads and contexts it lists.
    max_rows_per_user: so many random rows of a user are learned from at most.
    """

    loss: PrivacyLoss
    max_rows_per_user: int = 16

    def __post_init__(self) -> None:
        if self.loss.epsilon <= 0 or not 0 < self.loss.delta < 1:
            raise BadInputError("private training needs epsilon > 0 and 0 < delta < 1", where="private_training")
        if self.max_rows_per_user < 1:
            raise BadInputError("max_rows_per_user must be at least 1", where="private_training")


@dataclass(frozen=True)
class JobSpec:
    """validation_from_ms, test_from_ms: when the validation and test rows of the base table begin (epoch ms); needed to
    train and synthesize only.   queries: of the aggregate template, on the view `joined`.

    statistics_loss: user-level epsilon of noised join statistics; None asks for exact ones, which the contract must
    allow to leave without a guarantee.   counters: point-in-time features over a dataset's events; standard ones for a
    dataset that is not named.   features: columns of the joined table that models may use, all of them if empty.
    members, max_epochs: of each model's training (`TrainConfig`).   private_training: one model under differential
    privacy instead of two without, to which neither of those applies.   engine: what computes joins, features and
    groups; Spark runs code that no measurement covers, so every owner must allow development runs.

    incremental: continue from the state of the run before, reading only versions that were appended since; templates
    then see the new rows, with everything known before (models: all rows so far).   lateness_ms: how far back in time
    a later base table may reach into an earlier one (`join_state`).   continues: in the receipts of a stream's batches,
    the job that trained the model.
    """

    job_id: JobId
    base: DatasetId
    partners: tuple[DatasetId, ...]
    templates: frozenset[Template]
    validation_from_ms: int = 0
    test_from_ms: int = 1
    seed: int = 0
    queries: tuple[AggregateRequest, ...] = ()
    synthesize: SynthesizeRequest | None = None
    statistics_loss: PrivacyLoss | None = None
    memory_mb: int = DEFAULT_MEMORY_MB
    engine: EngineKind = EngineKind.DUCKDB
    max_epochs: int = 8
    members: int = 1
    private_training: PrivateTraining | None = None
    counters: Mapping[DatasetId, tuple[Counter, ...]] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    incremental: bool = False
    lateness_ms: int = 0
    continues: str = ""

    def __post_init__(self) -> None:
        if not _JOB_ID.fullmatch(self.job_id):
            raise BadInputError("a job id has 1 to 63 letters, digits, dashes or underscores")
        if not self.validation_from_ms < self.test_from_ms:
            raise BadInputError("validation must begin before test")
        if Template.SYNTHESIZE in self.templates and self.synthesize is None:
            raise BadInputError("the synthesize template needs its parameters", where="synthesize")
        if self.private_training is not None:
            if Template.TRAIN not in self.templates:
                raise BadInputError("private_training goes with the train template", where="private_training")
            if self.members != 1:
                raise BadInputError("a private model is one network", where="members", hint="leave members out")
        if not self.templates:
            raise BadInputError("a job runs at least one template", where="templates")
        if self.continues and self.templates != {Template.SCORE}:
            raise BadInputError("a batch of a stream is scored, nothing else", where="templates")
        if Template.SCORE in self.templates and Template.TRAIN not in self.templates and not self.continues:
            raise BadInputError(
                "score needs train in the same job: no model outlives an enclave", where="templates", hint="add train"
            )
        if (Template.AGGREGATE in self.templates) != bool(self.queries):
            raise BadInputError("the aggregate template and queries go together", where="queries")
        if len({query.name for query in self.queries}) != len(self.queries) or len(self.queries) > MAX_QUERIES:
            raise BadInputError(f"a job has at most {MAX_QUERIES} queries, each with its own name", where="queries")
        if self.base in self.partners or not self.partners:
            raise BadInputError("a job joins a base dataset with at least one other dataset")
        if self.statistics_loss is not None and self.statistics_loss.epsilon <= 0:
            raise BadInputError("noised statistics need epsilon > 0", where="statistics_loss")
        if not MIN_MEMORY_MB <= self.memory_mb <= MAX_MEMORY_MB:
            # Looked at here, before anything is reserved: an engine refuses it only once the job's id is used up.
            raise BadInputError(f"memory_mb lies in {MIN_MEMORY_MB} to {MAX_MEMORY_MB}", where="memory_mb")
        if self.lateness_ms < 0:
            raise BadInputError("lateness_ms is at least 0", where="lateness_ms")
        if set(self.counters) - {self.base, *self.partners}:
            raise BadInputError("counters are declared for a dataset that the job does not use", where="counters")

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the job makes.

        A private model comes alone: a second one would cost as much again, and an exact evaluation has no guarantee.
        """
        left_out = {Output.MODEL_WITHOUT_PARTNER, Output.EVALUATION} if self.private_training else set()
        return tuple(o for o, template in TEMPLATE_OF.items() if template in self.templates and o not in left_out)

    def check_against(self, contract: Contract) -> None:
        """Raises TemplateRefusedError if a template is not allowed, ContractError for a strange dataset."""
        refused = sorted(t.value for t in self.templates - contract.binding_rule.templates)
        if refused:
            raise TemplateRefusedError(
                f"not every owner allows: {', '.join(refused)}",
                where=contract.contract_id,
                hint="the contract's rules list the templates",
            )
        if self.engine is EngineKind.SPARK and not contract.binding_rule.allow_dev:
            raise TemplateRefusedError(
                "Spark runs code that no measurement covers, and not every owner allows development runs",
                where=contract.contract_id,
                hint="use the engine duckdb",
            )
        for dataset_id in (self.base, *self.partners):
            contract.dataset(dataset_id)
        if self.queries:
            self.checked_queries(joined_view(contract, self.base, self.partners))

    def checked_queries(self, view: JoinedView) -> tuple[CheckedQuery, ...]:
        """Every query, parsed and checked. Raises TemplateRefusedError, BadInputError for missing bounds."""
        checked = []
        for request in self.queries:
            query = check_sql(request.sql, view.types, view.user_id, where=request.name)
            summed = {m.name for m in query.measures if m.measure in (Measure.SUM, Measure.MEAN)}
            if summed != set(request.bounds):
                raise BadInputError("every SUM and AVG has bounds under its column's name", where=request.name)
            checked.append(query)
        return tuple(checked)

    def lineage(self, contract_hash: ContractHash) -> str:
        """32 hex digits that jobs share which may continue from one another: what a state holds depends on these."""
        shape = self.as_json()
        facts: dict[str, Json] = {name: shape[name] for name in ("base", "partners", "counters", "lateness_ms")}
        row_level = {Template.TRAIN, Template.SCORE, Template.SYNTHESIZE} & self.templates
        facts |= {"rows": bool(row_level), "queries": bool(self.queries), "contract": str(contract_hash)}
        return canonical_hash(facts)[:32]

    def as_json(self) -> dict[str, Json]:
        synthesize: Json = None
        if self.synthesize is not None:
            synthesize = {
                "loss": self.synthesize.loss.as_json(),
                "rows": self.synthesize.rows,
                "columns": list(self.synthesize.columns),
                "max_rows_per_user": self.synthesize.max_rows_per_user,
            }
        return {
            "job_id": str(self.job_id),
            "base": str(self.base),
            "partners": [str(p) for p in self.partners],
            "templates": sorted(t.value for t in self.templates),
            "validation_from_ms": self.validation_from_ms,
            "test_from_ms": self.test_from_ms,
            "seed": self.seed,
            "queries": [query.as_json() for query in self.queries],
            "synthesize": synthesize,
            "statistics_loss": self.statistics_loss.as_json() if self.statistics_loss else None,
            "memory_mb": self.memory_mb,
            "engine": self.engine.value,
            "max_epochs": self.max_epochs,
            "members": self.members,
            "private_training": (
                {
                    "loss": self.private_training.loss.as_json(),
                    "max_rows_per_user": self.private_training.max_rows_per_user,
                }
                if self.private_training
                else None
            ),
            "counters": {str(dataset): [_counter_json(c) for c in some] for dataset, some in self.counters.items()},
            "features": list(self.features),
            "incremental": self.incremental,
            "lateness_ms": self.lateness_ms,
            "continues": self.continues,
        }

    @classmethod
    def from_json(cls, value: object) -> JobSpec:
        """Parse `as_json()`. Raises BadInputError."""
        if not isinstance(value, Mapping):
            raise BadInputError("a job must be a JSON object")
        # A misspelt field would be a job without it: exact statistics instead of noised ones, say.
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(map(str, value)) - known):
            raise BadInputError(
                f"unknown fields: {', '.join(unknown)}", where="job", hint=f"a job has {', '.join(sorted(known))}"
            )
        needed = ("job_id", "base", "partners", "templates")
        if missing := [name for name in needed if name not in value]:
            raise BadInputError(f"missing fields: {', '.join(missing)}", where="job")
        try:
            return cls(
                job_id=JobId(str(value["job_id"])),
                base=DatasetId(str(value["base"])),
                partners=tuple(DatasetId(str(p)) for p in value["partners"]),
                templates=frozenset(Template(t) for t in value["templates"]),
                validation_from_ms=int(value.get("validation_from_ms", 0)),
                test_from_ms=int(value.get("test_from_ms", 1)),
                seed=int(value.get("seed", 0)),
                queries=tuple(AggregateRequest.from_json(one) for one in value.get("queries", ())),
                synthesize=_synthesize(value.get("synthesize")),
                statistics_loss=_loss(value.get("statistics_loss")),
                memory_mb=int(value.get("memory_mb", DEFAULT_MEMORY_MB)),
                engine=EngineKind(value.get("engine", EngineKind.DUCKDB.value)),
                max_epochs=int(value.get("max_epochs", 8)),
                members=int(value.get("members", 1)),
                private_training=_private_training(value.get("private_training")),
                counters={
                    DatasetId(str(dataset)): tuple(_counter(one) for one in some)
                    for dataset, some in value.get("counters", {}).items()
                },
                features=tuple(str(name) for name in value.get("features", ())),
                incremental=_yes_or_no(value.get("incremental", False)),
                lateness_ms=int(value.get("lateness_ms", 0)),
                continues=str(value.get("continues", "")),
            )
        except (AttributeError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise BadInputError(f"a field is malformed ({type(error).__name__}: {error})", where="job") from error


def _counter_json(counter: Counter) -> dict[str, Json]:
    return {
        "name": counter.name,
        "key": counter.key,
        "role": counter.role.value,
        "statistic": counter.statistic.value,
        "column": counter.column,
        "prior": repr(counter.prior),
        "strength": repr(counter.strength),
    }


def _counter(value: Mapping[str, Any]) -> Counter:
    return Counter(
        name=str(value["name"]),
        key=str(value["key"]),
        role=Role(value["role"]),
        statistic=Statistic(value["statistic"]),
        column=None if value.get("column") is None else str(value["column"]),
        prior=float(value.get("prior", 0)),
        strength=float(value.get("strength", 0)),
    )


def _synthesize(value: object) -> SynthesizeRequest | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise BadInputError("`synthesize` is an object or null", where="job")
    loss = _loss(value["loss"])
    if loss is None:
        raise BadInputError("a synthetic table has a privacy loss", where="job: synthesize")
    return SynthesizeRequest(
        loss=loss,
        rows=int(value["rows"]),
        columns=tuple(str(name) for name in value["columns"]),
        max_rows_per_user=int(value.get("max_rows_per_user", 4)),
    )


def _private_training(value: object) -> PrivateTraining | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise BadInputError("`private_training` is an object or null", where="job")
    # A misspelt price would train without one.
    if unknown := sorted(set(map(str, value)) - {one.name for one in fields(PrivateTraining)}):
        raise BadInputError(f"unknown fields: {', '.join(unknown)}", where="job: private_training")
    loss = _loss(value["loss"])
    if loss is None:
        raise BadInputError("a private model has a privacy loss", where="job: private_training")
    return PrivateTraining(loss, int(value.get("max_rows_per_user", 16)))


def _yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("incremental is true or false")
    return value


def _loss(value: object) -> PrivacyLoss | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        # Taking it for "none" would make noised statistics exact.
        raise BadInputError('a loss is an object like {"epsilon": "1/2", "delta": "0"}', where="job")
    return PrivacyLoss.of(str(value["epsilon"]), str(value["delta"]))
