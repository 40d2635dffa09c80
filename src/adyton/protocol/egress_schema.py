"""What an egress payload may hold: an ad tech's schema, and payloads checked against it (protected-auction §11.1-11.3).

Two dialects. SHIPPED is what the reference code reads: members called `name`, no nullable features. DOCUMENTED is what
its documents show: members called `type` with values ending in `-type`, and nullable features (`"nullable": true` on a
feature or sub-feature; `"nullable-elements": true` on a bucket, since its elements have no schema of their own).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeGuard

from adyton.protocol.errors import EgressPayloadError, EgressSchemaError

MAX_SCHEMA_BITS = 1 << 20
"""Our own bound on one payload, far above any use, so that a schema cannot ask for endless memory."""
_CDDL_VERSION = "1.0.0"


class Kind(Enum):
    """The five kinds of feature, by their name in JSON."""

    BOOLEAN = "boolean-feature"
    UNSIGNED = "unsigned-integer-feature"
    SIGNED = "signed-integer-feature"
    BUCKET = "bucket-feature"
    HISTOGRAM = "histogram-feature"


class Dialect(Enum):
    """How schemas and payloads are spelled."""

    SHIPPED = "shipped"
    DOCUMENTED = "documented"


_INTEGERS = (Kind.UNSIGNED, Kind.SIGNED)


@dataclass(frozen=True)
class Feature:
    """One feature of a schema.

    size: bits of an integer, number of elements of a bucket or histogram, 1 for a boolean.
    parts: the integer sub-features of a histogram.   nullable: one extra bit says whether a value is there.
    nullable_elements: the same for each boolean of a bucket.
    """

    kind: Kind
    size: int = 1
    parts: tuple[Feature, ...] = ()
    nullable: bool = False
    nullable_elements: bool = False

    @property
    def value_bits(self) -> int:
        """Bits of the value, without the feature's own null bit."""
        if self.kind is Kind.HISTOGRAM:
            return sum(part.bits for part in self.parts)
        if self.kind is Kind.BUCKET:
            return self.size * (2 if self.nullable_elements else 1)
        return self.size

    @property
    def bits(self) -> int:
        """Bits on the wire."""
        return self.value_bits + self.nullable

    @property
    def low(self) -> int:
        """The smallest value of an integer feature."""
        return -(1 << (self.size - 1)) if self.kind is Kind.SIGNED else 0

    @property
    def high(self) -> int:
        """The largest value of an integer feature."""
        return (1 << (self.size - (self.kind is Kind.SIGNED))) - 1


Value = None | bool | int | tuple["Value", ...]
"""bool; int; a tuple of booleans (bucket) or integers (histogram), element 0 first; None where nullable."""


@dataclass(frozen=True)
class EgressSchema:
    """A valid schema. `version` is 0...7; `features` in wire order, the first in the lowest bits."""

    version: int
    features: tuple[Feature, ...]
    dialect: Dialect = Dialect.SHIPPED

    @property
    def bits(self) -> int:
        """Bits of every payload of this schema."""
        return sum(feature.bits for feature in self.features)

    @classmethod
    def parse(cls, document: object, *, dialect: Dialect = Dialect.SHIPPED) -> EgressSchema:
        """From JSON text (str or bytes) or an already parsed JSON object.

        Raises EgressSchemaError naming the place.   Source: protected-auction §11.1.
        """
        tree = _object(_load(document, EgressSchemaError), "$", EgressSchemaError)
        _members(tree, {"cddl_version", "version", "features"}, "$")
        if tree.get("cddl_version") != _CDDL_VERSION:
            raise EgressSchemaError(f'cddl_version must be "{_CDDL_VERSION}"', where="$.cddl_version")
        version = tree.get("version")
        if not _is_int(version) or not 0 <= version <= 7:
            raise EgressSchemaError("version must be an integer from 0 to 7", where="$.version")
        entries = tree.get("features")
        if not isinstance(entries, list):
            raise EgressSchemaError("features must be an array", where="$.features")
        features = tuple(_feature(entry, f"$.features[{i}]", dialect) for i, entry in enumerate(entries))
        schema = cls(version, features, dialect)
        if schema.bits > MAX_SCHEMA_BITS:
            raise EgressSchemaError(f"a payload may have at most {MAX_SCHEMA_BITS} bits", where="$.features")
        return schema

    def as_json(self) -> dict[str, object]:
        """The schema's JSON, in its own dialect."""
        features = [self._feature_json(feature) for feature in self.features]
        return {"cddl_version": _CDDL_VERSION, "version": self.version, "features": features}

    def _feature_json(self, feature: Feature) -> dict[str, object]:
        entry = dict(_named(feature.kind, self.dialect))
        if feature.kind is not Kind.BOOLEAN:
            entry["size"] = feature.size
        if feature.kind is Kind.HISTOGRAM:
            entry["value"] = [self._feature_json(part) for part in feature.parts]
        if feature.nullable:
            entry["nullable"] = True
        if feature.nullable_elements:
            entry["nullable-elements"] = True
        return entry


@dataclass(frozen=True)
class EgressPayload:
    """One value per feature of a schema, in its order. The repr does not show them."""

    values: tuple[Value, ...] = field(repr=False)

    @classmethod
    def parse(cls, schema: EgressSchema, document: object) -> EgressPayload:
        """From JSON text (str or bytes) or an already parsed JSON object, checked against `schema`.

        Raises EgressPayloadError with every problem.   Source: protected-auction §11.2.
        """
        values: list[Value] = []
        problems = _read(schema, document, values)
        if problems:
            raise EgressPayloadError(
                problems[0].rule,
                where=problems[0].where,
                hint=f"{len(problems)} problems in all" if len(problems) > 1 else None,
                problems=[str(problem) for problem in problems],
            )
        return cls(tuple(values))

    def as_json(self, schema: EgressSchema) -> dict[str, object]:
        """The payload's JSON, in the schema's dialect."""
        pairs = zip(schema.features, self.values, strict=True)
        return {"features": [_value_json(feature, value, schema.dialect) for feature, value in pairs]}


@dataclass(frozen=True)
class Problem:
    """One finding of `validate`: a place in the payload and the rule it breaks, never a value."""

    where: str
    rule: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}"


def validate(payload: object, schema: EgressSchema) -> list[Problem]:
    """Every problem of a payload (JSON text or parsed JSON); empty if it fits."""
    return _read(schema, payload, [])


def _read(schema: EgressSchema, document: object, values: list[Value]) -> list[Problem]:
    try:
        tree = _object(_load(document, EgressPayloadError), "$", EgressPayloadError)
    except EgressPayloadError as error:
        return [Problem(error.where or "$", error.what)]
    entries = tree.get("features")
    if set(tree) != {"features"} or not isinstance(entries, list):
        return [Problem("$", "a payload is an object with the one member features, an array")]
    if len(entries) != len(schema.features):
        return [Problem("$.features", f"{len(schema.features)} features expected, got {len(entries)}")]
    problems: list[Problem] = []
    for i, (feature, entry) in enumerate(zip(schema.features, entries, strict=True)):
        values.append(_value(feature, entry, f"$.features[{i}]", schema.dialect, problems))
    return problems


def _value(feature: Feature, entry: object, where: str, dialect: Dialect, problems: list[Problem]) -> Value:
    key, name = _named(feature.kind, dialect)[0]
    if not isinstance(entry, dict) or set(entry) != {key, "value"} or entry[key] != name:
        problems.append(Problem(where, f'must be an object with "{key}": "{name}" and a value'))
        return None
    return _bare(feature, entry["value"], f"{where}.value", dialect, problems)


def _bare(feature: Feature, value: object, where: str, dialect: Dialect, problems: list[Problem]) -> Value:
    if value is None and feature.nullable:
        return None
    if feature.kind is Kind.BOOLEAN:
        if isinstance(value, bool):
            return value
        problems.append(Problem(where, "must be true or false"))
    elif feature.kind in _INTEGERS:
        if _is_int(value) and feature.low <= value <= feature.high:
            return value
        problems.append(Problem(where, f"must be an integer of {feature.size} bits, {feature.kind.value}"))
    elif not isinstance(value, list) or len(value) != feature.size:
        problems.append(Problem(where, f"must be an array of {feature.size} elements"))
    elif feature.kind is Kind.BUCKET:
        element = Feature(Kind.BOOLEAN, nullable=feature.nullable_elements)
        return tuple(_element(element, item, f"{where}[{i}]", dialect, problems) for i, item in enumerate(value))
    else:
        return tuple(
            _value(part, item, f"{where}[{i}]", dialect, problems)
            for i, (part, item) in enumerate(zip(feature.parts, value, strict=True))
        )
    return None


def _element(element: Feature, item: object, where: str, dialect: Dialect, problems: list[Problem]) -> Value:
    # Code wants objects, the CDDL text bare booleans: both are accepted (protected-auction §12, number 11).
    if isinstance(item, dict):
        return _value(element, item, where, dialect, problems)
    return _bare(element, item, where, dialect, problems)


def _value_json(feature: Feature, value: Value, dialect: Dialect) -> dict[str, object]:
    entry = dict(_named(feature.kind, dialect))
    if isinstance(value, tuple):
        element = Feature(Kind.BOOLEAN)
        parts = feature.parts if feature.kind is Kind.HISTOGRAM else (element,) * feature.size
        entry["value"] = [_value_json(part, item, dialect) for part, item in zip(parts, value, strict=True)]
    else:
        entry["value"] = value
    return entry


def _feature(entry: object, where: str, dialect: Dialect, *, inside: bool = False) -> Feature:
    tree = _object(entry, where, EgressSchemaError)
    kind = _kind(tree, where, dialect)
    if inside and kind not in _INTEGERS:
        raise EgressSchemaError("a histogram holds integer features only", where=where)
    allowed = {_named(kind, dialect)[0][0]}
    allowed |= set() if kind is Kind.BOOLEAN else {"size"}
    allowed |= {"value"} if kind is Kind.HISTOGRAM else set()
    if dialect is Dialect.DOCUMENTED:
        allowed |= {"nullable"} | ({"nullable-elements"} if kind is Kind.BUCKET else set())
    _members(tree, allowed, where)
    size = 1 if kind is Kind.BOOLEAN else tree.get("size")
    if not _is_int(size) or not 1 <= size <= MAX_SCHEMA_BITS:
        raise EgressSchemaError(f"size must be an integer from 1 to {MAX_SCHEMA_BITS}", where=f"{where}.size")
    parts: tuple[Feature, ...] = ()
    if kind is Kind.HISTOGRAM:
        entries = tree.get("value")
        if not isinstance(entries, list) or len(entries) != size:
            raise EgressSchemaError(f"value must be an array of {size} features", where=f"{where}.value")
        parts = tuple(_feature(e, f"{where}.value[{i}]", dialect, inside=True) for i, e in enumerate(entries))
    return Feature(kind, size, parts, _flag(tree, "nullable", where), _flag(tree, "nullable-elements", where))


def _kind(tree: Mapping[str, object], where: str, dialect: Dialect) -> Kind:
    for kind in Kind:
        key, name = _named(kind, dialect)[0]
        if tree.get(key) == name:
            return kind
    raise EgressSchemaError(f'needs "{_named(Kind.BOOLEAN, dialect)[0][0]}", the kind of a feature', where=where)


def _named(kind: Kind, dialect: Dialect) -> tuple[tuple[str, object]]:
    return (("name", kind.value),) if dialect is Dialect.SHIPPED else (("type", f"{kind.value}-type"),)


def _flag(tree: Mapping[str, object], name: str, where: str) -> bool:
    value = tree.get(name, False)
    if not isinstance(value, bool):
        raise EgressSchemaError("must be true or false", where=f"{where}.{name}")
    return value


def _members(tree: Mapping[str, object], allowed: set[str], where: str) -> None:
    if set(tree) - allowed:
        raise EgressSchemaError(f"allowed members are {', '.join(sorted(allowed))}", where=where)


def _load(document: object, error_class: type[EgressSchemaError] | type[EgressPayloadError]) -> object:
    if not isinstance(document, str | bytes):
        return document
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise error_class("this is not JSON", where="$") from error


def _object(
    value: object, where: str, error_class: type[EgressSchemaError] | type[EgressPayloadError]
) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise error_class("must be a JSON object", where=where)
    return value


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
