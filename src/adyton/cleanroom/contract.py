"""The contract: what every party signs before a key is released.

It names the parties, the sealed tables (schema, ciphertext hash, rows), the join key, who receives which output, and
one rule per owner and population: the code that may run (measurements), templates, smallest group, privacy budget,
whether a development enclave will do. Where owners differ, the strictest rule wins (`binding_rule`).

One contract has one byte string (`kernel.canonical`) and one hash; signatures are Ed25519 over a domain and the bytes.
Numbers that money or privacy hang on are exact: epsilon and delta are written as decimal strings or fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from adyton.cleanroom.errors import ContractError
from adyton.cleanroom.party import PartyIdentity
from adyton.cleanroom.table_columns import TableColumn, columns_from_json, columns_to_json
from adyton.kernel.canonical import Json, canonical_bytes, canonical_hash
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import ContractHash, DatasetId, PartyName
from adyton.kernel.ledger import Account, PrivacyLoss

CONTRACT_FORMAT = "adyton-contract/1"
DEFAULT_K = 50
MIN_K = 2


class Template(Enum):
    """A kind of job that a contract may allow."""

    JOIN_STATISTICS = "join_statistics"
    AGGREGATE = "aggregate"
    SYNTHESIZE = "synthesize"
    TRAIN = "train"
    SCORE = "score"


class Output(Enum):
    """What may leave the enclave."""

    JOIN_STATISTICS = "join_statistics"
    AGGREGATE = "aggregate"
    SYNTHETIC_TABLE = "synthetic_table"
    MODEL = "model"
    MODEL_WITHOUT_PARTNER = "model_without_partner"
    PREDICTIONS = "predictions"
    EVALUATION = "evaluation"


TEMPLATE_OF: Mapping[Output, Template] = {
    Output.JOIN_STATISTICS: Template.JOIN_STATISTICS,
    Output.AGGREGATE: Template.AGGREGATE,
    Output.SYNTHETIC_TABLE: Template.SYNTHESIZE,
    Output.MODEL: Template.TRAIN,
    Output.MODEL_WITHOUT_PARTNER: Template.TRAIN,
    Output.PREDICTIONS: Template.SCORE,
    Output.EVALUATION: Template.TRAIN,
}


@dataclass(frozen=True)
class DatasetTerms:
    """One sealed table. `ciphertext_sha256` is 64 lower-case hex digits; `population` names the users it describes.

    appends: whether later versions that the owner seals and signs, with the same columns, belong to the dataset too:
    the next days of a log, or the batches of a stream.
    """

    dataset_id: DatasetId
    version: int
    owner: PartyName
    population: str
    columns: tuple[TableColumn, ...]
    join_column: str
    rows: int
    ciphertext_sha256: str
    appends: bool = False

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if self.join_column not in names:
            raise ContractError("the join column is not in the schema", where=str(self.dataset_id))
        if len(self.ciphertext_sha256) != 64 or set(self.ciphertext_sha256) - set("0123456789abcdef"):
            raise ContractError("the ciphertext hash must be 64 lower-case hex digits", where=str(self.dataset_id))
        if self.rows < 0 or self.version < 1:
            raise ContractError("rows must be >= 0 and version >= 1", where=str(self.dataset_id))

    def account(self) -> Account:
        return Account(str(self.owner), self.population)

    def as_json(self) -> dict[str, Json]:
        return {
            "dataset_id": str(self.dataset_id),
            "version": self.version,
            "owner": str(self.owner),
            "population": self.population,
            "columns": columns_to_json(self.columns),
            "join_column": self.join_column,
            "rows": self.rows,
            "ciphertext_sha256": self.ciphertext_sha256,
            # Said only where it is so: contracts from before it could be said keep their hash.
            **({"appends": True} if self.appends else {}),
        }


@dataclass(frozen=True)
class OwnerRule:
    """What one owner allows with one population of its users.

    k: smallest number of distinct users behind any figure that leaves.   budget: for all jobs of all time (no refresh).
    measurements: hex code measurements that may get the key.   without_guarantee: outputs that may leave although no
    differential privacy covers them; everything else needs a guarantee within the budget.   query_columns: the columns
    of this population's tables that aggregate queries may read, none by default.
    """

    owner: PartyName
    population: str
    budget: PrivacyLoss
    measurements: frozenset[str]
    templates: frozenset[Template]
    k: int = DEFAULT_K
    allow_dev: bool = False
    without_guarantee: frozenset[Output] = frozenset()
    query_columns: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        where = f"{self.owner}/{self.population}"
        if self.k < MIN_K:
            raise ContractError(f"k must be at least {MIN_K}, got {self.k}", where=where)
        if not self.measurements:
            raise ContractError("at least one measurement must be allowed", where=where)

    @property
    def account(self) -> Account:
        return Account(str(self.owner), self.population)

    def as_json(self) -> dict[str, Json]:
        return {
            "owner": str(self.owner),
            "population": self.population,
            "epsilon": str(self.budget.epsilon),
            "delta": str(self.budget.delta),
            "measurements": sorted(self.measurements),
            "templates": sorted(template.value for template in self.templates),
            "k": self.k,
            "allow_dev": self.allow_dev,
            "without_guarantee": sorted(output.value for output in self.without_guarantee),
            "query_columns": sorted(self.query_columns),
        }


@dataclass(frozen=True)
class BindingRule:
    """The strictest of several owners' rules: what all of them allow."""

    k: int
    measurements: frozenset[str]
    templates: frozenset[Template]
    allow_dev: bool
    without_guarantee: frozenset[Output]


@dataclass(frozen=True)
class OutputTerms:
    """Who may receive an output."""

    output: Output
    recipients: tuple[PartyName, ...]

    def as_json(self) -> dict[str, Json]:
        return {"output": self.output.value, "recipients": [str(name) for name in self.recipients]}


@dataclass(frozen=True)
class Contract:
    """Everything that is signed. Times are milliseconds since the epoch."""

    contract_id: str
    parties: tuple[PartyIdentity, ...]
    datasets: tuple[DatasetTerms, ...]
    rules: tuple[OwnerRule, ...]
    outputs: tuple[OutputTerms, ...]
    starts_at_ms: int
    expires_at_ms: int

    def __post_init__(self) -> None:
        names = {party.name for party in self.parties}
        _refuse_twice("party", [str(party.name) for party in self.parties])
        _refuse_twice("dataset", [str(terms.dataset_id) for terms in self.datasets])
        _refuse_twice("rule", [f"{rule.owner}/{rule.population}" for rule in self.rules])
        _refuse_twice("output", [terms.output.value for terms in self.outputs])
        if len(names) < 2:
            raise ContractError("a contract needs at least two parties", hint="give --party for each")
        if not self.datasets:
            raise ContractError("a contract needs at least one dataset")
        if self.expires_at_ms <= self.starts_at_ms:
            raise ContractError("the contract ends before it starts")
        accounts = {rule.account for rule in self.rules}
        for terms in self.datasets:
            if terms.owner not in names:
                raise ContractError(
                    f"its owner {terms.owner} is not a party",
                    where=str(terms.dataset_id),
                    hint=f"give --party {terms.owner}.party.json too",
                )
            if terms.account() not in accounts:
                raise ContractError("its owner states no rule for this population", where=str(terms.dataset_id))
            if any(r.account == terms.account() and terms.join_column in r.query_columns for r in self.rules):
                raise ContractError("queries may count users but never read the join column", where=terms.join_column)
        for rule in self.rules:
            if rule.owner not in names:
                raise ContractError("a rule's owner is not a party", where=str(rule.owner))
        for output in self.outputs:
            for recipient in output.recipients:
                if recipient not in names:
                    raise ContractError(f"recipient {recipient} is not a party", where=output.output.value)
        if not self.binding_rule.measurements:
            raise ContractError("no measurement is allowed by every owner")

    @property
    def binding_rule(self) -> BindingRule:
        """The strictest rule: largest k, and only what every owner allows."""
        rules = self.rules
        return BindingRule(
            k=max(rule.k for rule in rules),
            measurements=frozenset.intersection(*(rule.measurements for rule in rules)),
            templates=frozenset.intersection(*(rule.templates for rule in rules)),
            allow_dev=all(rule.allow_dev for rule in rules),
            without_guarantee=frozenset.intersection(*(rule.without_guarantee for rule in rules)),
        )

    @property
    def hash(self) -> ContractHash:
        return ContractHash(canonical_hash(self.as_json()))

    def party(self, name: str) -> PartyIdentity:
        """The party called `name`. Raises ContractError."""
        for party in self.parties:
            if party.name == name:
                return party
        raise ContractError(f"{name} is not a party of this contract")

    def dataset(self, dataset_id: str) -> DatasetTerms:
        """The terms of a dataset. Raises ContractError."""
        for terms in self.datasets:
            if terms.dataset_id == dataset_id:
                return terms
        raise ContractError("this dataset is not in the contract", where=dataset_id)

    def recipients(self, output: Output) -> tuple[PartyName, ...]:
        """Who receives `output`: nobody, unless the contract says so."""
        return next((terms.recipients for terms in self.outputs if terms.output is output), ())

    def budgets(self) -> dict[Account, PrivacyLoss]:
        """The budget of every account."""
        return {rule.account: rule.budget for rule in self.rules}

    def rule_of(self, owner: str, population: str) -> OwnerRule:
        """What one owner allows with one population. Raises ContractError."""
        for rule in self.rules:
            if (rule.owner, rule.population) == (owner, population):
                return rule
        raise ContractError("this owner states no rule for this population", where=f"{owner}/{population}")

    def with_rule(self, changed: OwnerRule) -> Contract:
        """The same contract with one owner's rule replaced: another contract, which nobody has signed."""
        self.rule_of(changed.owner, changed.population)
        rules = tuple(changed if rule.account == changed.account else rule for rule in self.rules)
        return replace(self, rules=rules)

    def as_json(self) -> dict[str, Json]:
        return {
            "format": CONTRACT_FORMAT,
            "contract_id": self.contract_id,
            "parties": [party.as_json() for party in self.parties],
            "datasets": [terms.as_json() for terms in self.datasets],
            "rules": [rule.as_json() for rule in self.rules],
            "outputs": [terms.as_json() for terms in self.outputs],
            "starts_at_ms": self.starts_at_ms,
            "expires_at_ms": self.expires_at_ms,
        }

    def signed_bytes(self) -> bytes:
        """What a party signs: the domain, then the canonical bytes."""
        return b"adyton contract v1\x00" + canonical_bytes(self.as_json())

    @classmethod
    def from_json(cls, value: object) -> Contract:
        """Parse `as_json()`; unknown fields are refused, since a signer would not have seen them.

        Raises ContractError naming the field.
        """
        root = _object(value, "contract", cls._FIELDS)
        if root["format"] != CONTRACT_FORMAT:
            raise ContractError(f"unknown format (wanted {CONTRACT_FORMAT})")
        try:
            return cls(
                contract_id=_text(root["contract_id"], "contract_id"),
                parties=tuple(PartyIdentity.from_json(item) for item in _list(root["parties"], "parties")),
                datasets=tuple(_dataset(item) for item in _list(root["datasets"], "datasets")),
                rules=tuple(_rule(item) for item in _list(root["rules"], "rules")),
                outputs=tuple(_output(item) for item in _list(root["outputs"], "outputs")),
                starts_at_ms=_whole(root["starts_at_ms"], "starts_at_ms"),
                expires_at_ms=_whole(root["expires_at_ms"], "expires_at_ms"),
            )
        except ContractError:
            raise
        except (BadInputError, ValueError) as error:
            raise ContractError(str(error)) from error

    _FIELDS = frozenset(
        ("format", "contract_id", "parties", "datasets", "rules", "outputs", "starts_at_ms", "expires_at_ms")
    )


_DATASET_FIELDS = frozenset(
    ("dataset_id", "version", "owner", "population", "columns", "join_column", "rows", "ciphertext_sha256")
)
_RULE_FIELDS = frozenset(
    (
        "owner",
        "population",
        "epsilon",
        "delta",
        "measurements",
        "templates",
        "k",
        "allow_dev",
        "without_guarantee",
        "query_columns",
    )
)


def _dataset(value: object) -> DatasetTerms:
    item = _object(value, "datasets", _DATASET_FIELDS, optional=frozenset({"appends"}))
    if item.get("appends", True) is not True:
        raise ContractError("appends is true or not there", where="datasets")
    return DatasetTerms(
        dataset_id=DatasetId(_text(item["dataset_id"], "dataset_id")),
        version=_whole(item["version"], "version"),
        owner=PartyName(_text(item["owner"], "owner")),
        population=_text(item["population"], "population"),
        columns=columns_from_json(item["columns"]),
        join_column=_text(item["join_column"], "join_column"),
        rows=_whole(item["rows"], "rows"),
        ciphertext_sha256=_text(item["ciphertext_sha256"], "ciphertext_sha256"),
        appends="appends" in item,
    )


def _rule(value: object) -> OwnerRule:
    item = _object(value, "rules", _RULE_FIELDS)
    if not isinstance(item["allow_dev"], bool):
        raise ContractError("allow_dev must be true or false", where="rules")
    return OwnerRule(
        owner=PartyName(_text(item["owner"], "owner")),
        population=_text(item["population"], "population"),
        budget=PrivacyLoss.of(_text(item["epsilon"], "epsilon"), _text(item["delta"], "delta")),
        measurements=frozenset(_text(m, "measurements") for m in _list(item["measurements"], "measurements")),
        templates=frozenset(Template(_text(t, "templates")) for t in _list(item["templates"], "templates")),
        k=_whole(item["k"], "k"),
        allow_dev=item["allow_dev"],
        without_guarantee=frozenset(
            Output(_text(o, "without_guarantee")) for o in _list(item["without_guarantee"], "without_guarantee")
        ),
        query_columns=frozenset(_text(c, "query_columns") for c in _list(item["query_columns"], "query_columns")),
    )


def _output(value: object) -> OutputTerms:
    item = _object(value, "outputs", frozenset(("output", "recipients")))
    recipients = tuple(PartyName(_text(name, "recipients")) for name in _list(item["recipients"], "recipients"))
    return OutputTerms(Output(_text(item["output"], "output")), recipients)


def _object(
    value: object, where: str, fields: frozenset[str], *, optional: frozenset[str] = frozenset()
) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ContractError("must be a JSON object", where=where)
    missing, unknown = fields - set(value), set(value) - fields - optional
    if missing or unknown:
        what = f"missing {sorted(missing)}" if missing else f"unknown {sorted(map(str, unknown))}"
        raise ContractError(f"{what} fields", where=where)
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ContractError("must be a list", where=where)
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ContractError("must be a non-empty string", where=where)
    return value


def _whole(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ContractError("must be a whole number", where=where)
    return value


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ContractError(f"{what} {name} is named twice")
        seen.add(name)
