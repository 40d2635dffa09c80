"""A job's tables: which versions are joined, their keys from the owners' brokers, and reading them in parts that fit.

The contract names one version of each dataset; where it says `appends`, the versions after it follow without a gap.
A table is read whole, or in parts by user: part p of n holds every row of the users whose join key is p modulo n. Joins
and bounded groups look at one user at a time, so the parts of all tables that belong together are a smaller job of the
same kind, and their results add up. Nothing is spilled: the sealed bytes are decrypted again for each part.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.cleanroom.appended import batch_id, dataset_of, is_appended
from adyton.cleanroom.coded_ids import IdSlab
from adyton.cleanroom.contract import Contract, DatasetTerms
from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.join import PartyTable
from adyton.cleanroom.join_keys import UserKeys
from adyton.cleanroom.joined_view import USER_KEY
from adyton.cleanroom.sealed_table import Manifest, OpenTable, load_manifest
from adyton.cleanroom.table_columns import arrow_schema, table_schema
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId
from adyton.learning.schema import TableSchema

SLAB_ROWS = 1 << 21
"""Codes of so many rows are read at once."""
KEPT_ID_BYTES = 64 << 20
"""Distinct ids that take no more are kept for the literal-value scan, which would read the column again."""


@dataclass(frozen=True)
class SealedInput:
    """Where a sealed table and its manifest lie."""

    sealed: Path
    manifest: Path


@dataclass(frozen=True)
class ChosenTable:
    """One version to join. `terms`: of this version, under the id that its key is asked for."""

    terms: DatasetTerms
    manifest: Manifest
    sealed: Path

    @property
    def is_appended(self) -> bool:
        return self.terms.dataset_id != self.manifest.dataset_id


def choose_tables(
    contract: Contract,
    dataset_ids: Sequence[DatasetId],
    inputs: Mapping[str, SealedInput],
    since: Mapping[str, int],
    *,
    needs_base: bool = True,
) -> list[ChosenTable]:
    """The versions to join, checked against contract and signature; the base's first.

    inputs: by dataset id, and by `DATASET@vN` for appended versions.   since: newest version joined before, by dataset.
    needs_base: whether the base must have something new.
    Raises SealBrokenError for a table that is not the contract's or not its owner's, BadInputError for a gap between
    versions or where the base has nothing new and must have.
    """
    chosen = []
    for dataset_id in dataset_ids:
        terms = contract.dataset(dataset_id)
        newest = since.get(dataset_id, terms.version - 1)
        if newest < terms.version:
            chosen.append(_contracts_own(contract, terms, inputs))
            newest = terms.version
        while (batch := batch_id(dataset_id, newest + 1)) in inputs:
            chosen.append(_appended(contract, batch, inputs[batch]))
            newest += 1
        given = [int(name.rpartition("@v")[2]) for name in inputs if name.startswith(f"{dataset_id}@v")]
        if any(version > newest for version in given):
            raise BadInputError(f"version {newest + 1} is missing before later ones", where=str(dataset_id))
    if needs_base and not any(dataset_of(one.terms.dataset_id) == dataset_ids[0] for one in chosen):
        raise BadInputError(
            "no version of the base was appended since the run before",
            where=str(dataset_ids[0]),
            hint="seal the next one",
        )
    return chosen


def appended_terms(contract: Contract, manifest: Manifest, where: str) -> DatasetTerms:
    """The terms of a version that was appended. Raises SealBrokenError if the contract does not cover it."""
    terms = contract.dataset(manifest.dataset_id)
    manifest.check_signature(contract.party(terms.owner))
    if not is_appended(manifest, terms):
        raise SealBrokenError("the contract does not cover this version of the dataset", where=where)
    return replace(
        terms,
        dataset_id=batch_id(terms.dataset_id, manifest.version),
        version=manifest.version,
        rows=manifest.rows,
        ciphertext_sha256=manifest.ciphertext_sha256,
    )


def _contracts_own(contract: Contract, terms: DatasetTerms, inputs: Mapping[str, SealedInput]) -> ChosenTable:
    where = str(terms.dataset_id)
    if where not in inputs:
        raise SealBrokenError("no sealed file was given for this dataset", where=where)
    manifest = load_manifest(inputs[where].manifest)
    manifest.check_signature(contract.party(terms.owner))
    if manifest.ciphertext_sha256 != terms.ciphertext_sha256:
        raise SealBrokenError(
            "the table is not the one that the contract names",
            where=where,
            hint="was it sealed again after signing? sign a new contract over the new table",
        )
    stated = (manifest.dataset_id, manifest.version, manifest.columns, manifest.rows)
    if stated != (terms.dataset_id, terms.version, terms.columns, terms.rows):
        raise SealBrokenError("the manifest describes another table than the contract", where=where)
    return ChosenTable(terms, manifest, inputs[where].sealed)


def _appended(contract: Contract, batch: DatasetId, files: SealedInput) -> ChosenTable:
    manifest = load_manifest(files.manifest)
    found = appended_terms(contract, manifest, str(batch))
    if found.dataset_id != batch:
        raise SealBrokenError("the manifest is of another version or dataset", where=str(batch))
    return ChosenTable(found, manifest, files.sealed)


@dataclass
class OpenedTable:
    """All versions of one dataset that a job joins, opened. `name`: short, part of feature names.

    needed: the stored columns that the job reads.   files: may be empty, where nothing is new.   newest_version: joined
    with these files, or before.
    """

    dataset_id: DatasetId
    name: str
    terms: DatasetTerms
    needed: tuple[str, ...]
    files: Sequence[OpenTable]
    newest_version: int = 1
    _distinct: pa.ChunkedArray | None = field(default=None, repr=False)
    _ahead: pa.Table | None = field(default=None, repr=False)

    @property
    def schema(self) -> TableSchema:
        return table_schema(self.terms.columns)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def whole(self, names: Sequence[str] | None = None) -> pa.Table:
        """All rows of `names`, or of all needed columns. Raises SealBrokenError."""
        wanted = list(self.needed if names is None else names)
        return pa.concat_tables([self._schema(wanted).empty_table(), *(file.read(wanted) for file in self.files)])

    def party_table(self) -> PartyTable:
        """All rows and needed columns at once, for jobs that look at rows."""
        return PartyTable(self.dataset_id, self.name, self.whole(), self.schema)

    def coded_users(self) -> tuple[NDArray[np.int32], pa.ChunkedArray]:
        """int32[rows] codes of users, and text[codes] ids, where one may be twice. Raises SealBrokenError."""
        found, texts = [np.zeros(0, np.int32)], [pa.array([], pa.string())]
        for file in self.files:
            of_earlier_files = sum(map(len, texts))
            for codes, new in self._id_slabs(file):
                found.append(codes + np.int32(of_earlier_files))
                texts.append(new)
        ids = pa.chunked_array(texts)
        if ids.nbytes <= KEPT_ID_BYTES:
            self._distinct = ids
        return np.concatenate(found), ids

    def distinct_ids(self) -> pa.ChunkedArray:
        """User ids as text; an id may be there several times, but not once for each row."""
        if self._distinct is not None:
            return self._distinct
        found = pa.array([], pa.string())
        for file in self.files:
            for _, new in self._id_slabs(file):
                found = pc.unique(pa.chunked_array([found, new]))
        return pa.chunked_array([found])

    def _id_slabs(self, file: OpenTable) -> Iterator[IdSlab]:
        """Codes of the file's user ids, and the new ones as text."""
        for codes, new in file.id_slabs(self.terms.join_column, SLAB_ROWS):
            yield codes, new.cast(pa.string())

    def read_ahead(self, names: Sequence[str]) -> None:
        """Read what the next `part` will look at, if it is asked for the same names. Raises SealBrokenError."""
        self._ahead = self.whole(names)

    def part(self, keys: UserKeys, names: Sequence[str], is_wanted: NDArray[np.bool_] | None = None) -> pa.Table:
        """`user_key` and `names` of all rows, or of those with a wanted code (bool[codes]). Raises SealBrokenError."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.column_names != list(names):
            ahead = None
        if is_wanted is None or is_wanted.all():
            table = (ahead or self.whole(names)) if names else pa.table({})
            return pa.table({USER_KEY: keys.rows(), **{name: table[name] for name in names}})
        is_mine = is_wanted[keys.codes]
        mine = pa.array(keys.of_code[keys.codes[is_mine]])
        if not names:
            return pa.table({USER_KEY: mine})
        if ahead is not None:
            return ahead.filter(pa.array(is_mine)).add_column(0, USER_KEY, mine)
        kept, place = [], 0
        for batch in self._batches(names):
            kept.append(batch.filter(pa.array(is_mine[place : place + batch.num_rows])))
            place += batch.num_rows
        return pa.Table.from_batches(kept, self._schema(names)).add_column(0, USER_KEY, mine)

    def _schema(self, names: Sequence[str]) -> pa.Schema:
        return arrow_schema([c for n in names for c in self.terms.columns if c.name == n])

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            yield from file.batches(names)


def give_back_unused() -> None:
    """Return memory that was freed to the system, as far as the allocators offer to."""
    pa.default_memory_pool().release_unused()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
