"""The label-aware differentially private synthesizer: `fit` once under a privacy loss, `sample` as often as wanted.

What is protected: one user's whole contribution (unit "user", the default) or one row (unit "row"), against anybody who
sees the model and everything sampled from it. Neighbouring tables differ by adding or removing one unit. What is not
protected: facts about the population, the schema, public domains, and the number of rows that the caller asks for.
The floating-point post-processing after the noise is not part of the proof and need not be.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton.kernel.chance import RandomSource
from adyton.kernel.ledger import PrivacyLoss
from adyton.kernel.records import SyntheticTable
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.accounting import ACCOUNTANT, Spending, rho_for, scale_for
from adyton.learning.synth.bounding import bounded_rows, rank_within
from adyton.learning.synth.coded_table import CodedTable, Codes, narrow
from adyton.learning.synth.codes import ColumnCode, check_domain, code_for, needs_finding
from adyton.learning.synth.domains import Finder, PublicDomain
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.estimate import Floats, onto_simplex
from adyton.learning.synth.label_tree import LabelTree
from adyton.learning.synth.made_up_users import dealt_users
from adyton.learning.synth.mechanisms import Mechanisms
from adyton.learning.synth.noise import Ints, Noise, noise_from
from adyton.learning.synth.reading import Columns
from adyton.learning.synth.structure import Structure, fit_tree

DEFAULT_MAX_ROWS_PER_USER = 4
"""Measured on KuaiRand: 2 to 4 keep the label best, 6 keeps pairs of features best (bench/synth.py)."""
BATCH_ROWS = 1 << 20
"""Rows sampled at a time."""
_ROW_UNIT_USER_CAP = 64
_FOUND_DELTA_SHARE = Fraction(1, 10)


@dataclass(frozen=True)
class SynthesizerModel:
    """A fitted synthesizer. Holds noisy tables only; may be released under `spent`.

    codes: the columns that are sampled, in the order of the schema.   mechanisms: (purpose, rho) of each, for reports.
    rows_per_user: float64[M] >= 0, noisy users with 1..M rows; empty when there is no user id column.
    """

    schema: TableSchema
    unit: str
    spent: PrivacyLoss
    noise_is_secure: bool
    max_rows_per_user: int | None
    tree: LabelTree
    codes: tuple[tuple[Column, ColumnCode], ...]
    rows_per_user: Floats
    mechanisms: tuple[tuple[str, Fraction], ...]

    @property
    def accountant(self) -> str:
        """What the guarantee rests on, in words."""
        bound = f"at most {self.max_rows_per_user} rows per user" if self.max_rows_per_user else "rows as they are"
        warning = "" if self.noise_is_secure else "INSECURE FIXED NOISE, protects nobody; "
        return f"{warning}unit {self.unit} ({bound}), add or remove one; {ACCOUNTANT}"

    def sample(self, n_rows: int, rng: np.random.Generator) -> pa.Table:
        """A synthetic table of `n_rows` >= 1 rows with the columns of the schema, ignored ones left out.

        User ids are made up (`s0`, `s1`, ...): rows that agree in their user columns are dealt to one synthetic
        user, in runs as long as the released rows per user.
        """
        return pa.concat_tables(self.batches(n_rows, rng))

    def batches(self, n_rows: int, rng: np.random.Generator) -> Iterator[pa.Table]:
        """The tables that `sample` puts together, each of at most `BATCH_ROWS` rows with users of its own."""
        if n_rows < 1:
            raise SynthesisInputError("a synthetic table needs at least one row")
        n_batches = -(-n_rows // BATCH_ROWS)
        first_user = 0
        for number in range(n_batches):
            rows_here = n_rows * (number + 1) // n_batches - n_rows * number // n_batches
            batch, n_users = self._batch(rows_here, first_user, rng)
            first_user += n_users
            yield batch

    def _batch(self, n_rows: int, first_user: int, rng: np.random.Generator) -> tuple[pa.Table, int]:
        """Rows whose users are numbered from `first_user`, and how many users they are."""
        label, codes = self.tree.sample(n_rows, rng)
        users = self._users(codes, n_rows, rng) if self.rows_per_user.size else None
        arrays: dict[str, pa.Array] = {}
        first_part = 0
        for column, code in self.codes:
            if column.role is Role.LABEL:
                arrays[column.name] = code.decode(label[:, None], rng)
                continue
            last_part = first_part + len(code.sizes)
            arrays[column.name] = code.decode(np.column_stack(codes[first_part:last_part]).astype(np.int64), rng)
            first_part = last_part
        if users is not None:
            arrays[self.schema.user_id.name] = _made_up_ids(first_user + users)
        order = [name for name in self.schema.names if name in arrays]
        table = pa.table({name: arrays[name] for name in order})
        return table, 0 if users is None else int(users.max()) + 1

    def _users(self, codes: Sequence[Codes], n_rows: int, rng: np.random.Generator) -> Ints:
        user_parts: list[int] = []
        first_part = 0
        for column, code in self.codes:
            if column.role is Role.LABEL:
                continue
            if column.role is Role.USER:
                user_parts.extend(range(first_part, first_part + len(code.sizes)))
            first_part += len(code.sizes)
        return dealt_users([codes[part] for part in user_parts], n_rows, self.rows_per_user, rng)


def fit(
    table: Columns,
    schema: TableSchema,
    *,
    loss: PrivacyLoss,
    unit: str = "user",
    max_rows_per_user: int = DEFAULT_MAX_ROWS_PER_USER,
    domains: Mapping[str, PublicDomain] | None = None,
    structure: Structure = Structure.TREE,
    least_users: int = 1,
    source: RandomSource,
) -> SynthesizerModel:
    """A synthesizer of `table` that is (loss.epsilon, loss.delta)-DP for each `unit`.

    table: an Arrow table, or `reading.ParquetColumns` of a file.
    unit: "user" needs a user id column in the schema; "row" does not.   domains: public domains by column name.
    structure: which tables are measured besides those of each column with the label.   least_users: no found value, day
    or range of numbers is known that fewer distinct users share; unit "user" only.
    source: `OsRandom` for a guarantee; an insecure source gives a model that says so.
    Raises SynthesisInputError for parameters, schemas and domains that do not fit, TableError for the table.
    """
    schema.check(table)
    check_binary(table, schema)
    domains = dict(domains or {})
    columns = _synthesized(schema, domains)
    for column in columns:
        check_domain(column, table.schema.field(column.name).type, domains.get(column.name))
    if unit not in ("user", "row"):
        raise SynthesisInputError(f"unit must be 'user' or 'row', got {unit!r}")
    if max_rows_per_user < 1:
        raise SynthesisInputError("max_rows_per_user must be at least 1")
    if least_users < 1 or (least_users > 1 and unit != "user"):
        raise SynthesisInputError("least_users must be at least 1, and goes with unit 'user'")
    has_users = bool(schema.with_role(Role.USER_ID))
    if unit == "user" and not has_users:
        raise SynthesisInputError(
            "user-level privacy needs a user id column in the schema",
            hint="declare one, or ask for unit 'row' and say so wherever the table is shown",
        )
    noise = noise_from(source)
    sensitivity = max_rows_per_user if unit == "user" else 1
    user = _user_numbers(table, schema) if has_users else None
    kept = None
    if unit == "user" and user is not None:
        kept = bounded_rows(user, max_rows_per_user, noise.keys(user.size))
        user = user[kept]
    if not table.num_rows:
        raise SynthesisInputError("the table is empty")

    n_found = sum(needs_finding(column, domains.get(column.name)) for column in columns)
    found_delta = loss.delta * _FOUND_DELTA_SHARE if n_found else Fraction(0)
    rho = rho_for(PrivacyLoss(loss.epsilon, loss.delta - found_delta))
    spending = Spending(rho, found_delta)
    found_rho = rho * min(Fraction(1, 5), Fraction(6, 100) * n_found)
    users_rho = rho / 100 if user is not None else Fraction(0)
    finder = None
    if n_found:
        each = found_rho * (1 - Fraction(1, 10**7)) / n_found
        owner = user if unit == "user" else None
        finder = Finder(noise, spending, sensitivity, each, found_delta / n_found, owner, least_users)
    codes, coded = _coded(table, kept, columns, domains, finder)
    rows_per_user = np.zeros(0)
    if user is not None:
        cap = max_rows_per_user if unit == "user" else _ROW_UNIT_USER_CAP
        rows_per_user = _rows_per_user(user, cap, noise, spending, 1 if unit == "user" else 2, users_rho)
    tree = fit_tree(coded, Mechanisms(noise, spending, sensitivity), rho - found_rho - users_rho, structure)
    return SynthesizerModel(
        schema=schema,
        unit=unit,
        spent=loss,
        noise_is_secure=noise.is_secure,
        max_rows_per_user=max_rows_per_user if unit == "user" else None,
        tree=tree,
        codes=codes,
        rows_per_user=rows_per_user,
        mechanisms=tuple(spending.entries),
    )


def to_record(model: SynthesizerModel, table: pa.Table, name: str) -> SyntheticTable:
    """The kernel record of a sampled table, with the guarantee it was made under.

    When `noise_is_secure` is false the loss is what the fit *would* have spent; nothing may show it as a guarantee.
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return SyntheticTable(
        name=name,
        table_parquet=buffer.getvalue(),
        rows=table.num_rows,
        guarantee=model.spent,
        unit=model.unit,
        accountant=model.accountant,
        noise_is_secure=model.noise_is_secure,
    )


def _made_up_ids(users: Ints) -> pa.Array:
    """`s` and the number."""
    return pc.binary_join_element_wise("s", pa.array(users).cast(pa.string()), "")


def _synthesized(schema: TableSchema, domains: Mapping[str, PublicDomain]) -> tuple[Column, ...]:
    unknown = set(domains) - set(schema.names)
    if unknown:
        raise SynthesisInputError(f"public domains for columns that do not exist: {', '.join(sorted(unknown))}")
    columns = tuple(c for c in schema.columns if c.role not in (Role.IGNORED, Role.USER_ID))
    if not any(c.role is not Role.LABEL for c in columns):
        raise SynthesisInputError("the schema has no column to synthesize besides the label")
    return columns


def check_binary(table: Columns, schema: TableSchema) -> None:
    """Check that binary columns hold 0 and 1: anything else would be counted as the last of the two.

    Raises SynthesisInputError naming the first column that does not.
    """
    for column in schema.columns:
        if column.kind is not Kind.BINARY or column.role is Role.IGNORED:
            continue
        distinct = table.column(column.name).unique()
        if not set(distinct.to_pylist()) <= {0, 1}:
            raise SynthesisInputError(
                "a binary column must hold 0 and 1 only",
                where=column.name,
                hint="write 0 for -1; leave rows without a value out, or declare the column a category",
            )


def _user_numbers(table: Columns, schema: TableSchema) -> Ints:
    column = table.column(schema.user_id.name)
    if column.null_count:
        raise SynthesisInputError("the user id must not be null", where=schema.user_id.name)
    combined = column.combine_chunks()
    array = pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)


def _coded(
    table: Columns, kept: Ints | None, columns: Sequence[Column], domains: Mapping[str, PublicDomain],
    finder: Finder | None,
) -> tuple[tuple[tuple[Column, ColumnCode], ...], CodedTable]:  # fmt: skip
    """The coding of each column and the `kept` rows (None: all) in it. One column at a time is in memory in full."""
    n_rows = table.num_rows if kept is None else kept.size
    label: Codes = np.zeros(n_rows, np.uint8)
    classes = 1
    codes: list[tuple[Column, ColumnCode]] = []
    parts: list[Codes] = []
    sizes: list[int] = []
    for column in columns:
        data = table.column(column.name)
        if kept is not None:
            data = data.take(pa.array(kept))
        code = code_for(column, data, domains.get(column.name), finder)
        narrowed = [narrow(part, size) for part, size in zip(code.encode(data).T, code.sizes, strict=True)]
        codes.append((column, code))
        if column.role is Role.LABEL:
            label, classes = narrowed[0], code.sizes[0]
        else:
            parts.extend(narrowed)
            sizes.extend(code.sizes)
    return tuple(codes), CodedTable(tuple(parts), tuple(sizes), label, classes)


def _rows_per_user(user: Ints, cap: int, noise: Noise, spending: Spending, sensitivity: int, rho: Fraction) -> Floats:
    """Noisy users with 1..cap rows (more than cap counts as cap): float64[cap], sum at least 1.

    Adding a user changes one count by 1; adding a row moves its user from one count to the next, an L2 change below 2.
    """
    rows = np.bincount(rank_within(user, np.arange(user.size, dtype=np.uint64)), minlength=cap)
    # rows[r] users have more than r rows; differences give exactly r + 1.
    at_least = rows[:cap].astype(np.int64)
    exactly = at_least - np.r_[at_least[1:], 0]
    scale = scale_for(sensitivity, rho * (1 - Fraction(1, 10**7)))
    spending.charge("rows per user", sensitivity, scale)
    noisy = noise.gaussian(exactly, scale).astype(float)
    return onto_simplex(noisy, max(float(noisy.sum()), 1.0))
