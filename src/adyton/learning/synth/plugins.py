"""Synthesizers by name: ours, and users' own as `module:Class`; fitted ones as files.

A file never says by itself which code is run: a user's class is named again whenever its file is opened.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa

from adyton.kernel.errors import AdytonError
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth import store
from adyton.learning.synth.contract import FitRequest, PrivacyStatement, Synthesizer
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError, SynthesizerFailedError
from adyton.learning.synth.reading import Columns
from adyton.learning.synth.synthesizer import SynthesizerModel, fit

DEFAULT, AUTOREGRESSIVE = "label-tree", "autoregressive"
_MAGIC = b"adyton-plugin-synthesizer-1\n"
Answer = TypeVar("Answer")
_METHODS = ("fit", "sample", "describe", "to_bytes", "load")


def statement_of(model: SynthesizerModel) -> PrivacyStatement:
    """What one fit of ours guarantees."""
    return PrivacyStatement(model.spent, model.unit, model.accountant, model.noise_is_secure)


class LabelTreeSynthesizer:
    """Our label-aware differentially private synthesizer under the contract of all."""

    model: SynthesizerModel | None = None

    def fit(self, table: Columns, schema: TableSchema, request: FitRequest) -> None:
        if request.loss is None:
            raise SynthesisInputError(f"{DEFAULT} needs a privacy loss", hint="give --epsilon")
        self.model = fit(
            table,
            schema,
            loss=request.loss,
            unit=request.unit,
            max_rows_per_user=request.max_rows_per_user,
            domains=request.domains,
            structure=request.structure,
            source=request.source,
        )

    def sample(self, n_rows: int, rng: np.random.Generator) -> pa.Table:
        return self._fitted.sample(n_rows, rng)

    def batches(self, n_rows: int, rng: np.random.Generator) -> Iterator[pa.Table]:
        """What `sample` gives, in parts that fit into memory."""
        return self._fitted.batches(n_rows, rng)

    def describe(self) -> PrivacyStatement:
        return statement_of(self._fitted)

    def to_bytes(self) -> bytes:
        return store.to_bytes(self._fitted)

    def load(self, data: bytes) -> None:
        self.model = store.from_bytes(data)

    @property
    def _fitted(self) -> SynthesizerModel:
        if self.model is None:
            raise SynthesisInputError("nothing was fitted yet")
        return self.model


@dataclass(frozen=True)
class Fitted:
    """A fitted synthesizer with the name it goes by and the names of the columns it must give."""

    name: str
    synthesizer: Synthesizer
    columns: tuple[str, ...]

    @property
    def statement(self) -> PrivacyStatement:
        """What the synthesizer guarantees, in its own words.   Raises SynthesizerFailedError."""
        found = _asked(self.name, "describe", self.synthesizer.describe)
        if not isinstance(found, PrivacyStatement):
            raise SynthesizerFailedError("describe() must give a PrivacyStatement", where=self.name)
        return found

    def sample(self, n_rows: int, rng: np.random.Generator) -> pa.Table:
        """`n_rows` >= 1 synthetic rows.   Raises SynthesizerFailedError when a user's class gives something else."""
        if n_rows < 1:
            raise SynthesisInputError("a synthetic table needs at least one row")
        made = _asked(self.name, "sample", lambda: self.synthesizer.sample(n_rows, rng))
        if not isinstance(made, pa.Table):
            raise SynthesizerFailedError("sample() must give a pyarrow Table", where=self.name)
        missing = [column for column in self.columns if column not in made.column_names]
        if missing or made.num_rows != n_rows:
            what = f"lacks {', '.join(missing)}" if missing else f"has {made.num_rows} rows, not {n_rows}"
            raise SynthesizerFailedError(f"the sample {what}", where=self.name)
        return made

    def batches(self, n_rows: int, rng: np.random.Generator) -> Iterator[pa.Table]:
        """What `sample` gives: of our own synthesizer in parts, so that large samples fit; else in one."""
        if isinstance(self.synthesizer, LabelTreeSynthesizer):
            return self.synthesizer.batches(n_rows, rng)
        return iter([self.sample(n_rows, rng)])

    def to_bytes(self) -> bytes:
        """The file of a fitted synthesizer."""
        data = _asked(self.name, "to_bytes", self.synthesizer.to_bytes)
        if not isinstance(data, bytes):
            raise SynthesizerFailedError("to_bytes() must give bytes", where=self.name)
        if self.name == DEFAULT:
            return data
        header = json.dumps({"synthesizer": self.name, "columns": list(self.columns)})
        return _MAGIC + header.encode() + b"\n" + data


def fit_named(name: str, table: Columns, schema: TableSchema, request: FitRequest) -> Fitted:
    """Fit the synthesizer called `name` (`label-tree` or `module:Class`) to `table`, an Arrow table for all but ours.

    Raises PrivacySpendError when a loss was asked for and the synthesizer does not state to keep it,
    SynthesisInputError for a name that leads nowhere, SynthesizerFailedError for a class that breaks the contract.
    """
    schema.check(table)
    synthesizer = _made(name)
    _asked(name, "fit", lambda: synthesizer.fit(table, schema, request))
    fitted = Fitted(name, synthesizer, tuple(c.name for c in schema.columns if c.role is not Role.IGNORED))
    stated = fitted.statement.loss
    if request.loss is not None and stated is None:
        raise PrivacySpendError(
            "this synthesizer gives no guarantee, and a privacy loss was asked for",
            where=name,
            hint="leave out --epsilon to use it without one",
        )
    if request.loss is not None and stated is not None and not stated.fits_in(request.loss):
        raise PrivacySpendError("the synthesizer states a larger loss than was asked for", where=name)
    return fitted


def load_named(name: str, data: bytes) -> Fitted:
    """The fitted synthesizer in `data`, which must have been made by the class called `name`.

    Raises SynthesisInputError for another file or another class.
    """
    if not data.startswith(_MAGIC):
        if name != DEFAULT:
            raise SynthesisInputError(f"this file was not made by {name}")
        ours = LabelTreeSynthesizer()
        ours.load(data)
        columns = tuple(c.name for c in ours._fitted.schema.columns if c.role is not Role.IGNORED)
        return Fitted(DEFAULT, ours, columns)
    try:
        header, payload = data[len(_MAGIC) :].split(b"\n", 1)
        content = json.loads(header)
        made_by, columns = str(content["synthesizer"]), tuple(map(str, content["columns"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SynthesisInputError("this file is not a synthesizer", hint="make one with `adyton synth fit`") from error
    if made_by != name:
        raise SynthesisInputError(
            f"this file was made by {made_by!r}",
            hint="name the same class with --synthesizer if you trust its code; a file alone starts no code",
        )
    synthesizer = _made(name)
    _asked(name, "load", lambda: synthesizer.load(payload))
    return Fitted(name, synthesizer, columns)


def statement_as_json(name: str, statement: PrivacyStatement) -> dict[str, object]:
    """What is written beside everything that was made."""
    loss = statement.loss
    words: dict[str, object] = {
        "synthesizer": name,
        "epsilon": None if loss is None else str(loss.epsilon),
        "delta": None if loss is None else str(loss.delta),
        "unit": statement.unit,
        "accountant": statement.reason,
        "secure": statement.noise_is_secure,
    }
    if loss is None:
        words["warning"] = "no privacy guarantee"
    elif not statement.noise_is_secure:
        words["warning"] = "fixed noise: no guarantee"
    elif name != DEFAULT:
        words["warning"] = "the guarantee is the plug-in's own claim, unchecked"
    return words


def stated_guarantee(words: object) -> str:
    """One line on what `statement_as_json` wrote, or on its absence; for people."""
    if not isinstance(words, dict):
        return "NOT STATED by the file: assume none"
    name = str(words.get("synthesizer", DEFAULT))
    if words.get("epsilon") is None:
        return f"NONE: {name} states no privacy guarantee"
    epsilon, delta = _short(words["epsilon"]), _short(words.get("delta", 0))
    text = f"epsilon {epsilon}, delta {delta}, unit {words.get('unit')}, by {name}"
    return f"{text}; WARNING: {words['warning']}" if "warning" in words else text


def _short(number: object) -> str:
    try:
        loss = PrivacyLoss.of(str(number))
    except (ValueError, ZeroDivisionError):
        return "unreadable"
    return f"{float(loss.epsilon):g}"


def _made(name: str) -> Synthesizer:
    if name == DEFAULT:
        return LabelTreeSynthesizer()
    if name == AUTOREGRESSIVE:
        from adyton.learning.synth.autoregressive import AutoregressiveSynthesizer

        return AutoregressiveSynthesizer()
    module_name, colon, class_name = name.partition(":")
    if not colon or not module_name or not class_name:
        raise SynthesisInputError(
            f"no synthesizer is called {name!r}", hint=f"{DEFAULT}, {AUTOREGRESSIVE}, or your own as module:Class"
        )
    try:
        found: Any = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError):
        raise SynthesisInputError(
            "this class cannot be imported", where=name, hint="is its folder on PYTHONPATH?"
        ) from None
    missing = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if not isinstance(found, type) or missing:
        raise SynthesisInputError(
            f"this is no synthesizer: it lacks {', '.join(missing) or 'a class'}",
            where=name,
            hint="see Synthesizer in adyton.learning.synth.contract",
        )
    return cast(Synthesizer, _asked(name, "the constructor", found))


def _asked(name: str, what: str, call: Callable[[], Answer]) -> Answer:
    """The answer of a synthesizer. A stranger's error may quote rows, so that only its class is passed on."""
    try:
        return call()
    except AdytonError:
        raise
    except Exception as error:
        if name == DEFAULT:
            raise
        raise SynthesizerFailedError(f"{what} failed with {type(error).__name__}", where=name) from None
