"""The set query language (protected-auction §10.5): parser and evaluator.

    expression = term { ("|" | "UNION" | "&" | "INTERSECTION" | "-" | "DIFFERENCE") term }     left to right,
    term       = "(" expression ")" | "SET" "(" element { "," element } ")" | name             one precedence
    name       = [a-zA-Z0-9_:.]+ | '"' characters without '"' '"'

Elements of an inline set are numbers in integer queries and quoted strings in string queries. A missing set is empty;
an empty query has an empty result.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

import numpy as np

from adyton.auction.retrieval.errors import SetQueryError
from adyton.auction.retrieval.key_values import UIntArray

# Scripts are hostile, and queries are read on the event loop.
MAX_QUERY_CHARACTERS = 32 * 1024
MAX_DEPTH = 64

_TOKEN = re.compile(r'\s*(?:(?P<name>[a-zA-Z0-9_:.]+)|"(?P<quoted>[^"]*)"|(?P<sign>[|&\-(),]))')


class SetOperator(Enum):
    """The three operators; each has a sign and a word."""

    UNION = "|"
    INTERSECTION = "&"
    DIFFERENCE = "-"


@dataclass(frozen=True)
class NamedSet:
    """A set of the store."""

    name: str


@dataclass(frozen=True)
class InlineSet:
    """`SET(...)`."""

    elements: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """`first`, then each (operator, operand) applied from left to right."""

    first: SetExpression
    rest: tuple[tuple[SetOperator, SetExpression], ...]


SetExpression = NamedSet | InlineSet | Chain
_Set = TypeVar("_Set")
_WORDS = {operator.name: operator for operator in SetOperator} | {operator.value: operator for operator in SetOperator}


def parse_set_query(query: str, *, integers: bool) -> SetExpression | None:
    """The expression, or None for an empty query. `integers`: whether inline sets hold numbers.

    Raises SetQueryError with the offset of the first character that does not fit.
    """
    if len(query) > MAX_QUERY_CHARACTERS:
        raise SetQueryError(f"the query is longer than {MAX_QUERY_CHARACTERS} characters")
    tokens = _tokens(query)
    if len(tokens) == 1:
        return None
    parser = _Parser(tokens, integers)
    expression = parser.expression(0)
    parser.expect_end()
    return expression


def evaluate_strings(expression: SetExpression, lookup: Callable[[str], frozenset[str]]) -> frozenset[str]:
    """Members of `expression`, with `lookup` for the sets of the store."""
    return _evaluate(
        expression,
        lookup,
        lambda inline: frozenset(map(str, inline.elements)),
        {
            SetOperator.UNION: frozenset.union,
            SetOperator.INTERSECTION: frozenset.intersection,
            SetOperator.DIFFERENCE: frozenset.difference,
        },
    )


def evaluate_uints(expression: SetExpression, lookup: Callable[[str], UIntArray], *, bits: int) -> UIntArray:
    """Members of `expression`, ascending, as unsigned integers of `bits` (32 or 64) bits.

    Raises SetQueryError for an inline number that does not fit.
    """
    dtype = np.uint32 if bits == 32 else np.uint64

    def inline(found: InlineSet) -> UIntArray:
        if any(int(element) >= 1 << bits for element in found.elements):
            raise SetQueryError(f"a number of an inline set does not fit in {bits} bits")
        members: UIntArray = np.unique(np.array([int(element) for element in found.elements], dtype=dtype))
        return members

    result: UIntArray = _evaluate(
        expression,
        lookup,
        inline,
        {
            SetOperator.UNION: lambda left, right: np.union1d(left, right),
            SetOperator.INTERSECTION: lambda left, right: np.intersect1d(left, right, assume_unique=True),
            SetOperator.DIFFERENCE: lambda left, right: np.setdiff1d(left, right, assume_unique=True),
        },
    )
    return result


def _evaluate(
    expression: SetExpression,
    lookup: Callable[[str], _Set],
    inline: Callable[[InlineSet], _Set],
    operators: dict[SetOperator, Callable[[_Set, _Set], _Set]],
) -> _Set:
    if isinstance(expression, NamedSet):
        return lookup(expression.name)
    if isinstance(expression, InlineSet):
        return inline(expression)
    result = _evaluate(expression.first, lookup, inline, operators)
    for operator, operand in expression.rest:
        result = operators[operator](result, _evaluate(operand, lookup, inline, operators))
    return result


class _Token(NamedTuple):
    """kind: "name", "quoted", "sign" or "end"."""

    kind: str
    text: str
    offset: int


def _tokens(query: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(query.rstrip())
    while at < end:
        found = _TOKEN.match(query, at)
        if found is None or found.lastgroup is None:
            raise SetQueryError("unexpected character", where=f"offset {at}")
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], at))
        at = found.end()
    tokens.append(_Token("end", "", end))
    return tokens


class _Parser:
    def __init__(self, tokens: list[_Token], integers: bool) -> None:
        self._tokens = tokens
        self._at = 0
        self._integers = integers

    def expression(self, depth: int) -> SetExpression:
        first = self._term(depth)
        rest: list[tuple[SetOperator, SetExpression]] = []
        while (operator := self._operator()) is not None:
            self._at += 1
            rest.append((operator, self._term(depth)))
        return Chain(first, tuple(rest)) if rest else first

    def expect_end(self) -> None:
        if self._peek().kind != "end":
            raise self._unexpected("an operator")

    def _term(self, depth: int) -> SetExpression:
        if depth > MAX_DEPTH:
            raise SetQueryError(f"parentheses nest deeper than {MAX_DEPTH}", where=f"offset {self._peek().offset}")
        token = self._peek()
        if token.kind == "sign" and token.text == "(":
            self._at += 1
            inner = self.expression(depth + 1)
            self._sign(")")
            return inner
        if token.kind == "quoted":
            self._at += 1
            return NamedSet(token.text)
        if token.kind != "name" or token.text in _WORDS:
            raise self._unexpected("a set")
        self._at += 1
        following = self._peek()
        if token.text == "SET" and following.kind == "sign" and following.text == "(":
            return self._inline()
        return NamedSet(token.text)

    def _inline(self) -> InlineSet:
        self._sign("(")
        elements = [self._element()]
        while self._peek().kind == "sign" and self._peek().text == ",":
            self._at += 1
            elements.append(self._element())
        self._sign(")")
        if self._integers:
            return InlineSet(tuple(int(element) for element in elements))
        return InlineSet(tuple(elements))

    def _element(self) -> str:
        token = self._peek()
        if self._integers:
            if token.kind != "name" or not (token.text.isascii() and token.text.isdigit()) or len(token.text) > 20:
                raise self._unexpected("a number")
        elif token.kind != "quoted":
            raise self._unexpected("a quoted string")
        self._at += 1
        return token.text

    def _operator(self) -> SetOperator | None:
        token = self._peek()
        return _WORDS.get(token.text) if token.kind in ("name", "sign") else None

    def _sign(self, sign: str) -> None:
        token = self._peek()
        if token.kind != "sign" or token.text != sign:
            raise self._unexpected(repr(sign))
        self._at += 1

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _unexpected(self, wanted: str) -> SetQueryError:
        return SetQueryError(f"expected {wanted}", where=f"offset {self._peek().offset}")
