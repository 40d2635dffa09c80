"""The contract of synthesizers: what `adyton synth --synthesizer` asks of one, ours or a user's own.

A user's class fulfils `Synthesizer` (it need not inherit from it), takes no arguments, and is named `module:Class`:

    class Shuffled:
        def fit(self, table, schema, request): ...         keep what `sample` needs
        def sample(self, n_rows, rng): ...                 a table with the columns of the schema
        def describe(self): ...                            PrivacyStatement(None, ...) where nothing bounds the loss
        def to_bytes(self): ...                            what was fitted; no pickles, others may read the file
        def load(self, data): ...                          the reverse

What a class says of its privacy is its author's claim. Claims of classes that are not ours are labelled as unchecked,
and a class without guarantee is refused where a loss was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from adyton.kernel.chance import RandomSource
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import TableSchema
from adyton.learning.synth.domains import PublicDomain
from adyton.learning.synth.structure import Structure


@dataclass(frozen=True)
class FitRequest:
    """What a caller asks of a fit.   loss: the most that may be spent; None asks for no guarantee.

    unit: "user" or "row".   domains: public domains by column name.   source: where noise comes from.
    minutes: the longest training, for synthesizers that train until they stop improving.   structure: of ours.
    """

    loss: PrivacyLoss | None
    unit: str
    max_rows_per_user: int
    source: RandomSource
    domains: Mapping[str, PublicDomain] = field(default_factory=dict)
    minutes: float = 10.0
    structure: Structure = Structure.TREE


@dataclass(frozen=True)
class PrivacyStatement:
    """What bounds the loss of whoever is in the data.   loss: None for no guarantee.   reason: what that rests on."""

    loss: PrivacyLoss | None
    unit: str
    reason: str
    noise_is_secure: bool = True

    @property
    def holds(self) -> bool:
        """True when a guarantee is stated and the noise was not repeatable."""
        return self.loss is not None and self.noise_is_secure


class Synthesizer(Protocol):
    """One synthesizer, made without arguments; `fit` or `load` comes before everything else."""

    def fit(self, table: pa.Table, schema: TableSchema, request: FitRequest) -> None:
        """Learn from the real `table`.   Raises SynthesisInputError for what cannot be synthesized."""
        ...

    def sample(self, n_rows: int, rng: np.random.Generator) -> pa.Table:
        """`n_rows` synthetic rows with every column of the schema that is not ignored; all chance from `rng`."""
        ...

    def describe(self) -> PrivacyStatement:
        """What was guaranteed by the fit that was made."""
        ...

    def to_bytes(self) -> bytes:
        """What was fitted."""
        ...

    def load(self, data: bytes) -> None:
        """Take over what `to_bytes` gave.   Raises SynthesisInputError for anything else."""
        ...
