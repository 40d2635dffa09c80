"""SQL text to a query that cannot do harm: parsed, checked against an allow-list, and rebuilt as Ibis expressions.

    SELECT group expressions, COUNT(*) | COUNT(DISTINCT user id) | SUM(x) | AVG(x)
    FROM joined [WHERE condition] [GROUP BY the group expressions, their names or positions]
    [HAVING condition on what is selected] [ORDER BY what is selected] [LIMIT n]

The text itself never reaches an engine: only what is named here is translated, everything else is refused. Expressions
are typed (number, text, flag) and total: none of them can fail on a value, since whether a query fails would tell of a
row without noise. Arithmetic is done in floating point for that reason, division by zero gives null, and there are no
casts. Columns are those that their owner put on the contract's list; a user id may only be counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import ibis
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from adyton.cleanroom.errors import TemplateRefusedError

VIEW = "joined"
MAX_SELECTED = 32
MAX_NODES = 1_000
# Beyond this, whole numbers and floating point differ.
_LARGEST_LITERAL = 2**53
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


class ValueType(Enum):
    """What an expression gives."""

    NUMBER = "number"
    TEXT = "text"
    FLAG = "flag"


class Measure(Enum):
    """What is computed for a group."""

    ROWS = "rows"
    USERS = "users"
    SUM = "sum"
    MEAN = "mean"


Build = Callable[[Any], Any]
"""An Ibis expression over a table with the view's columns."""


@dataclass(frozen=True)
class Expression:
    """A checked expression; `columns` are the view's columns that it reads."""

    type: ValueType
    build: Build
    columns: frozenset[str]


@dataclass(frozen=True)
class MeasuredColumn:
    """An aggregate in the result. `of`: what SUM and AVG take, None for counts."""

    name: str
    measure: Measure
    of: Expression | None = None


@dataclass(frozen=True)
class GroupColumn:
    """A group expression in the result."""

    name: str
    value: Expression


@dataclass(frozen=True)
class CheckedQuery:
    """A query that passed. `order`: result columns as the text names them.

    having, ordering, limit: of the noised result; `ordering` is (result column, whether it descends).
    """

    groups: tuple[GroupColumn, ...]
    measures: tuple[MeasuredColumn, ...]
    condition: Expression | None
    order: tuple[str, ...]
    having: Expression | None = None
    ordering: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None

    @property
    def columns(self) -> frozenset[str]:
        """The view's columns that the query reads."""
        parts = [g.value for g in self.groups] + [m.of for m in self.measures if m.of is not None]
        if self.condition is not None:
            parts.append(self.condition)
        return frozenset().union(*(part.columns for part in parts))


def check_sql(text: str, columns: Mapping[str, ValueType], user_id: str, *, where: str) -> CheckedQuery:
    """The query in `text`.

    columns: what may be read, by name.   user_id: the join column, which may only stand in COUNT(DISTINCT ...).
    Raises TemplateRefusedError naming what is not allowed.
    """
    try:
        parsed = sqlglot.parse(text, dialect="duckdb")
        if len(parsed) != 1 or not isinstance(parsed[0], exp.Select):
            raise TemplateRefusedError("a query is one SELECT", where=where)
        if sum(1 for _ in parsed[0].walk()) > MAX_NODES:
            raise TemplateRefusedError(f"a query has at most {MAX_NODES} parts", where=where)
        return _Checker(columns, user_id, where).query(parsed[0])
    except (SqlglotError, RecursionError):
        # Not chained: the parser's text quotes the query, which may hold a literal that is somebody's id.
        raise TemplateRefusedError("the query cannot be parsed", where=where) from None


class _Checker:
    def __init__(self, columns: Mapping[str, ValueType], user_id: str, where: str) -> None:
        self._columns, self._user_id, self._where = columns, user_id, where

    def query(self, select: exp.Select) -> CheckedQuery:
        self._only(select, ("expressions", "from_", "where", "group", "having", "order", "limit"))
        source = select.args.get("from_")
        table = source.this if source is not None else None
        if not isinstance(table, exp.Table) or table.name != VIEW:
            raise self._refused(f"a query reads from {VIEW} alone")
        self._only(table, ("this",))
        items = select.expressions
        if not 1 <= len(items) <= MAX_SELECTED:
            raise self._refused(f"a query selects 1 to {MAX_SELECTED} columns")
        groups, measures = [], []
        order: list[str] = []
        for index, item in enumerate(items):
            inner = item.this if isinstance(item, exp.Alias) else item
            name = item.alias_or_name or f"column_{index + 1}"
            if not _NAME.fullmatch(name) or name.lower() in (one.lower() for one in order):
                raise self._refused("result columns have plain names, each used once")
            order.append(name)
            if isinstance(inner, exp.AggFunc):
                measures.append(self._measure(name, inner))
            else:
                groups.append((GroupColumn(name, self.expression(inner)), inner))
        if not measures:
            raise self._refused("a query has at least one of COUNT, SUM and AVG")
        self._check_grouping(select, [(g.name, inner) for g, inner in groups], items)
        where = select.args.get("where")
        condition = self._typed(where.this, ValueType.FLAG) if where is not None else None
        shape = self._shape(select, items, {g.name: g.value.type for g, _ in groups})
        return CheckedQuery(tuple(g for g, _ in groups), tuple(measures), condition, tuple(order), *shape)

    def _shape(
        self, select: exp.Select, items: Sequence[exp.Expression], groups: Mapping[str, ValueType]
    ) -> tuple[Expression | None, tuple[tuple[str, bool], ...], int | None]:
        """HAVING, ORDER BY and LIMIT, which see nothing but the result's columns."""
        names = [item.alias_or_name or f"column_{index + 1}" for index, item in enumerate(items)]
        by_sql = {(i.this if isinstance(i, exp.Alias) else i).sql(): n for i, n in zip(items, names, strict=True)}
        by_position = {str(i + 1): name for i, name in enumerate(names)}

        def selected(node: exp.Expression) -> exp.Expression:
            name = by_sql.get(node.sql())
            return exp.column(name) if name is not None else node

        having = None
        if (clause := select.args.get("having")) is not None:
            self._only(clause, ("this",))
            checker = _Checker({name: groups.get(name, ValueType.NUMBER) for name in names}, self._user_id, self._where)
            having = checker._typed(clause.this.transform(selected), ValueType.FLAG)
        ordering = []
        if (clause := select.args.get("order")) is not None:
            self._only(clause, ("expressions",))
            for part in clause.expressions:
                self._only(part, ("this", "desc", "nulls_first"))
                text = part.this.sql()
                name = by_sql.get(text) or (text if text in names else None) or by_position.get(text)
                if name is None:
                    raise self._refused("ORDER BY names what the query selects")
                ordering.append((name, part.args.get("desc") is True))
        limit = None
        if (clause := select.args.get("limit")) is not None:
            self._only(clause, ("expression",))
            text = clause.expression.sql()
            if not text.isdigit():
                raise self._refused("LIMIT is a whole number")
            limit = int(text)
        return having, tuple(ordering), limit

    def _check_grouping(
        self, select: exp.Select, groups: Sequence[tuple[str, exp.Expression]], items: Sequence[exp.Expression]
    ) -> None:
        group = select.args.get("group")
        named: set[str] = set()
        if group is not None:
            self._only(group, ("expressions",))
            by_sql = {inner.sql(): name for name, inner in groups}
            by_position = {str(i + 1): item.alias_or_name for i, item in enumerate(items)}
            names = {name for name, _ in groups}
            for part in group.expressions:
                text = part.sql()
                name = by_sql.get(text) or (text if text in names else None) or by_position.get(text)
                if name not in names:
                    raise self._refused("GROUP BY names what the query selects")
                named.add(str(name))
        if named != {name for name, _ in groups}:
            raise self._refused("every selected column that is not an aggregate stands in GROUP BY")

    def _measure(self, name: str, call: exp.AggFunc) -> MeasuredColumn:
        match call:
            case exp.Count():
                self._only(call, ("this", "big_int"))
                if isinstance(call.this, exp.Star):
                    self._only(call.this, ())
                    return MeasuredColumn(name, Measure.ROWS)
                if isinstance(call.this, exp.Distinct):
                    self._only(call.this, ("expressions",))
                    [*counted] = call.this.expressions
                    if len(counted) == 1 and self._plain_column(counted[0]) == self._user_id:
                        return MeasuredColumn(name, Measure.USERS)
                raise self._refused(f"only COUNT(*) and COUNT(DISTINCT {self._user_id}) are counted")
            case exp.Sum() | exp.Avg():
                self._only(call, ("this",))
                measure = Measure.SUM if isinstance(call, exp.Sum) else Measure.MEAN
                value = self.expression(call.this)
                if value.type is ValueType.TEXT:
                    raise self._refused("text has no sum")
                return MeasuredColumn(name, measure, value)
            case _:
                raise self._refused(f"{call.key.upper()} is no aggregate that can be noised")

    def expression(self, node: exp.Expression) -> Expression:
        """The checked expression. Raises TemplateRefusedError."""
        match node:
            case exp.Paren():
                self._only(node, ("this",))
                return self.expression(node.this)
            case exp.Column():
                return self._column(node)
            case exp.Literal():
                return self._literal(node)
            case exp.Boolean():
                return _constant(ValueType.FLAG, bool(node.this))
            case exp.Neg():
                value = self._number(node.this)
                return Expression(ValueType.NUMBER, lambda t: -value.build(t), value.columns)
            case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
                self._only(node, ("this", "expression", "typed", "safe"))
                return _arithmetic(type(node), self._number(node.this), self._number(node.expression))
            case exp.Abs():
                self._only(node, ("this",))
                value = self._number(node.this)
                return Expression(ValueType.NUMBER, lambda t: value.build(t).abs(), value.columns)
            case exp.Floor():
                self._only(node, ("this",))
                return _floor(self._number(node.this))
            case exp.Lower() | exp.Upper():
                self._only(node, ("this",))
                text = self._typed(node.this, ValueType.TEXT)
                is_lower = isinstance(node, exp.Lower)
                return Expression(
                    ValueType.TEXT,
                    lambda t: text.build(t).lower() if is_lower else text.build(t).upper(),
                    text.columns,
                )
            case exp.Coalesce():
                self._only(node, ("this", "expressions", "is_nvl", "is_null"))
                return self._coalesce([node.this, *node.expressions])
            case exp.Case():
                return self._case(node)
            case _:
                return self._condition(node)

    def _condition(self, node: exp.Expression) -> Expression:
        match node:
            case exp.And() | exp.Or():
                self._only(node, ("this", "expression"))
                left, right = (self._typed(n, ValueType.FLAG) for n in (node.this, node.expression))
                is_and = isinstance(node, exp.And)
                return _flag(
                    lambda t: left.build(t) & right.build(t) if is_and else left.build(t) | right.build(t), left, right
                )
            case exp.Not():
                self._only(node, ("this",))
                value = self._typed(node.this, ValueType.FLAG)
                return _flag(lambda t: ~value.build(t), value)
            case exp.EQ() | exp.NEQ() | exp.GT() | exp.GTE() | exp.LT() | exp.LTE():
                self._only(node, ("this", "expression"))
                left, right = self._alike([node.this, node.expression])
                compare = _COMPARISONS[type(node)]
                return _flag(lambda t: compare(left.build(t), right.build(t)), left, right)
            case exp.Between():
                self._only(node, ("this", "low", "high"))
                value, low, high = self._alike([node.this, node.args["low"], node.args["high"]])
                return _flag(
                    lambda t: (value.build(t) >= low.build(t)) & (value.build(t) <= high.build(t)), value, low, high
                )
            case exp.In():
                self._only(node, ("this", "expressions"))
                if not 1 <= len(node.expressions) <= 256:
                    raise self._refused("IN has 1 to 256 values")
                value, *options = self._alike([node.this, *node.expressions])
                return _flag(lambda t: _any_of([value.build(t) == o.build(t) for o in options]), value, *options)
            case exp.Is():
                self._only(node, ("this", "expression"))
                if not isinstance(node.expression, exp.Null):
                    raise self._refused("IS is followed by NULL or NOT NULL")
                value = self.expression(node.this)
                return _flag(lambda t: value.build(t).isnull(), value)
            case exp.Like():
                self._only(node, ("this", "expression"))
                value = self._typed(node.this, ValueType.TEXT)
                pattern = node.expression
                if not isinstance(pattern, exp.Literal) or not pattern.is_string or "\\" in pattern.this:
                    raise self._refused("LIKE is followed by a plain text")
                return _flag(lambda t: value.build(t).like(str(pattern.this)), value)
            case _:
                raise self._refused(f"{node.key.upper()} is not allowed in a query")

    def _column(self, node: exp.Column) -> Expression:
        name = self._plain_column(node)
        if name == self._user_id:
            raise self._refused(f"{name} may only stand in COUNT(DISTINCT {name})")
        if name is None or name not in self._columns:
            raise TemplateRefusedError(
                "a column is not on the list that its owner signed",
                where=self._where,
                hint=f"allowed: {', '.join(sorted(self._columns)) or 'none'}",
            )
        return Expression(self._columns[name], lambda t: t[name], frozenset((name,)))

    def _plain_column(self, node: exp.Expression) -> str | None:
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        qualifier = node.args.get("table")
        self._only(node, ("this", "table"))
        if qualifier is not None and qualifier.name != VIEW:
            raise self._refused(f"a query reads from {VIEW} alone")
        return str(node.name)

    def _literal(self, node: exp.Literal) -> Expression:
        if node.is_string:
            return _constant(ValueType.TEXT, str(node.this))
        try:
            number = int(node.this) if str(node.this).isdigit() else float(node.this)
        except ValueError:
            raise self._refused("a number cannot be read") from None
        if not math.isfinite(number) or abs(number) > _LARGEST_LITERAL:
            raise self._refused("a number lies beyond 2^53")
        return _constant(ValueType.NUMBER, number)

    def _coalesce(self, nodes: Sequence[exp.Expression]) -> Expression:
        values = self._alike(nodes)
        return Expression(values[0].type, lambda t: ibis.coalesce(*(v.build(t) for v in values)), _columns_of(*values))

    def _case(self, node: exp.Case) -> Expression:
        self._only(node, ("ifs", "default"))
        ifs = node.args["ifs"]
        for branch in ifs:
            self._only(branch, ("this", "true"))
        conditions = [self._typed(branch.this, ValueType.FLAG) for branch in ifs]
        default = node.args.get("default")
        results = self._alike([*(branch.args["true"] for branch in ifs), *([default] if default is not None else [])])

        def build(table: Any) -> Any:
            value = results[-1].build(table) if default is not None else ibis.null()
            for condition, result in reversed(list(zip(conditions, results, strict=False))):
                value = ibis.ifelse(condition.build(table), result.build(table), value)
            return value

        return Expression(results[0].type, build, _columns_of(*conditions, *results))

    def _alike(self, nodes: Sequence[exp.Expression]) -> list[Expression]:
        values = [self.expression(node) for node in nodes]
        if len({value.type for value in values}) != 1:
            raise self._refused("numbers, text and flags do not mix")
        return values

    def _number(self, node: exp.Expression) -> Expression:
        value = self.expression(node)
        if value.type is ValueType.TEXT:
            raise self._refused("numbers, text and flags do not mix")
        return Expression(ValueType.NUMBER, lambda t: value.build(t).cast("float64"), value.columns)

    def _typed(self, node: exp.Expression, wanted: ValueType) -> Expression:
        value = self.expression(node)
        if value.type is not wanted:
            raise self._refused(f"a {wanted.value} is needed here, this is a {value.type.value}")
        return value

    def _only(self, node: exp.Expression, allowed: Sequence[str]) -> None:
        """Every clause that is not named is refused, so that a clause nobody thought of is."""
        for key, value in node.args.items():
            if value and key not in allowed:
                raise self._refused(f"{key.rstrip('_').upper().replace('_', ' ')} is not allowed in a query")

    def _refused(self, what: str) -> TemplateRefusedError:
        return TemplateRefusedError(what, where=self._where)


_COMPARISONS: Final[Mapping[type[exp.Expression], Callable[[Any, Any], Any]]] = {
    exp.EQ: lambda a, b: a == b,
    exp.NEQ: lambda a, b: a != b,
    exp.GT: lambda a, b: a > b,
    exp.GTE: lambda a, b: a >= b,
    exp.LT: lambda a, b: a < b,
    exp.LTE: lambda a, b: a <= b,
}


def _columns_of(*values: Expression) -> frozenset[str]:
    return frozenset().union(*(value.columns for value in values))


def _flag(build: Build, *parts: Expression) -> Expression:
    return Expression(ValueType.FLAG, build, _columns_of(*parts))


def _constant(kind: ValueType, value: object) -> Expression:
    return Expression(kind, lambda _table: ibis.literal(value), frozenset())


def _any_of(flags: Sequence[Any]) -> Any:
    result = flags[0]
    for flag in flags[1:]:
        result = result | flag
    return result


def _arithmetic(kind: type[exp.Expression], left: Expression, right: Expression) -> Expression:
    def build(table: Any) -> Any:
        a, b = left.build(table), right.build(table)
        if kind is exp.Add:
            return a + b
        if kind is exp.Sub:
            return a - b
        if kind is exp.Mul:
            return a * b
        return a / b.nullif(0.0)

    return Expression(ValueType.NUMBER, build, _columns_of(left, right))


def _floor(value: Expression) -> Expression:
    # Ibis gives a whole number, so what does not fit into one is clipped first.
    largest = float(_LARGEST_LITERAL)
    return Expression(
        ValueType.NUMBER, lambda t: value.build(t).clip(lower=-largest, upper=largest).floor(), value.columns
    )
