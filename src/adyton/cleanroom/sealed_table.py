"""Sealed tables: Parquet modular encryption with one key per file, and a signed manifest beside it.

    DATASET.v3.sealed            Parquet, AES-256-GCM, footer and columns under one data key (DEK); user ids are coded
    DATASET.v3.manifest.json     what it is, hash of the ciphertext, the DEK wrapped to the owner's key, signature

The associated data of every module starts with `dataset_id:version`, which is not stored in the file: a file that is
presented as another dataset or version does not open. Batches go from the source straight into the encryptor, so no
plaintext is written anywhere; the file appears under its name only when it is complete. Format 2 holds user ids as
`coded_ids` says; format 1, which is still read, as plain text.

Non-goals: row counts, column sizes and the time of sealing are visible to whoever holds the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from adyton.cleanroom.checked_file import CheckedFile
from adyton.cleanroom.coded_ids import CODE, IdCoder, IdSlab, IdTexts, slab_of, slab_of_plain
from adyton.cleanroom.errors import (
    DatasetReusedError,
    EnclaveUnavailableError,
    SealBrokenError,
    SealWriteError,
    TableRejectedError,
)
from adyton.cleanroom.key_wrap import KEY_BYTES, unwrap_key, wrap_info, wrap_key
from adyton.cleanroom.party import Party, PartyIdentity
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.swelling import check_sizes, decoded_batches, is_bounded, most_text_bytes
from adyton.cleanroom.table_columns import TableColumn, arrow_schema, columns_from_json, columns_to_json
from adyton.cleanroom.table_mapping import Mapper
from adyton.cleanroom.table_source import check_texts, table_batches
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId, PartyName
from adyton.learning.schema import Kind, Role

MANIFEST_FORMAT, PLAIN_IDS_FORMAT = "adyton-sealed-table/2", "adyton-sealed-table/1"
DEK_DOMAIN = "adyton sealed table key v1"
ROW_GROUP_ROWS = 1 << 20
_SLAB_ROWS, _SLAB_BYTES = 4 * ROW_GROUP_ROWS, 1 << 29
"""So many rows, or rows that take so much, have their ids coded at once: each time, all ids so far are gone through."""
MAX_MANIFEST_BYTES = 1 << 20
_BATCH_ROWS = 1 << 16
_DATASET_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")

Progress = Callable[[int], None]
"""Told how many rows are sealed so far."""


@dataclass(frozen=True)
class Manifest:
    """What a sealed file is. `wrapped_dek` opens with the owner's receiving key; `signature` is the owner's."""

    dataset_id: DatasetId
    version: int
    owner: PartyName
    columns: tuple[TableColumn, ...]
    rows: int
    ciphertext_sha256: str
    ciphertext_bytes: int
    wrapped_dek: bytes
    sealed_at_ms: int
    signature: bytes = b""
    format: str = MANIFEST_FORMAT

    @property
    def coded_id(self) -> TableColumn | None:
        """The column that is stored as `coded_ids` says."""
        if self.format == PLAIN_IDS_FORMAT:
            return None
        return _user_id(self.columns)

    def dek_info(self) -> bytes:
        """HPKE `info` of the wrapped DEK: another dataset, version or ciphertext does not open it."""
        return wrap_info(
            DEK_DOMAIN,
            {
                "dataset_id": str(self.dataset_id),
                "version": self.version,
                "owner": str(self.owner),
                "ciphertext_sha256": self.ciphertext_sha256,
            },
        )

    def signed_bytes(self) -> bytes:
        unsigned = {key: value for key, value in self.as_json().items() if key != "signature"}
        return b"adyton sealed table v1\x00" + canonical_bytes(unsigned)

    def check_signature(self, owner: PartyIdentity) -> None:
        """Raises SealBrokenError unless the manifest is `owner`'s."""
        if owner.name != self.owner or not owner.has_signed(self.signed_bytes(), self.signature):
            raise SealBrokenError("the manifest is not signed by its owner", where=str(self.dataset_id))

    def as_json(self) -> dict[str, Json]:
        return {
            "format": self.format,
            "dataset_id": str(self.dataset_id),
            "version": self.version,
            "owner": str(self.owner),
            "columns": columns_to_json(self.columns),
            "rows": self.rows,
            "ciphertext_sha256": self.ciphertext_sha256,
            "ciphertext_bytes": self.ciphertext_bytes,
            "wrapped_dek": base64.b64encode(self.wrapped_dek).decode(),
            "sealed_at_ms": self.sealed_at_ms,
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: object) -> Manifest:
        """Parse `as_json()`. Raises BadInputError."""
        if not isinstance(value, Mapping) or value.get("format") not in (MANIFEST_FORMAT, PLAIN_IDS_FORMAT):
            raise BadInputError(f"this is no manifest (wanted format {MANIFEST_FORMAT})")
        try:
            return cls(
                dataset_id=DatasetId(_checked_id(str(value["dataset_id"]))),
                version=int(value["version"]),
                owner=PartyName(str(value["owner"])),
                columns=columns_from_json(value["columns"]),
                rows=int(value["rows"]),
                ciphertext_sha256=str(value["ciphertext_sha256"]),
                ciphertext_bytes=int(value["ciphertext_bytes"]),
                wrapped_dek=base64.b64decode(str(value["wrapped_dek"]), validate=True),
                sealed_at_ms=int(value["sealed_at_ms"]),
                signature=bytes.fromhex(str(value["signature"])),
                format=str(value["format"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise BadInputError("a field of the manifest is missing or malformed") from error


def sealed_path(folder: Path, dataset_id: str, version: int) -> Path:
    return folder / f"{dataset_id}.v{version}.sealed"


def manifest_path(folder: Path, dataset_id: str, version: int) -> Path:
    return folder / f"{dataset_id}.v{version}.manifest.json"


def seal_file(
    source: Path,
    folder: Path,
    columns: Sequence[TableColumn],
    *,
    dataset_id: str,
    version: int,
    owner: Party,
    mapper: Mapper | None = None,
    progress: Progress | None = None,
    random: RandomSource | None = None,
    clock: Clock | None = None,
) -> Manifest:
    """Seal a CSV or Parquet file into `folder`; gives the signed manifest, which is written there too.

    mapper: how the file's own names, types and ids become the declared ones; its report says what was changed.

    Raises TableRejectedError for a row that does not fit, DatasetReusedError if this id and version exist,
    SealWriteError if the folder cannot be written. After an error nothing is left behind.
    """
    batches = table_batches(source, columns, mapper)
    return seal_batches(
        batches,
        folder,
        columns,
        dataset_id=dataset_id,
        version=version,
        owner=owner,
        progress=progress,
        random=random,
        clock=clock,
    )


def seal_batches(
    batches: Iterator[pa.RecordBatch],
    folder: Path,
    columns: Sequence[TableColumn],
    *,
    dataset_id: str,
    version: int,
    owner: Party,
    progress: Progress | None = None,
    random: RandomSource | None = None,
    clock: Clock | None = None,
) -> Manifest:
    """`seal_file` for batches that already have the declared columns."""
    target = sealed_path(folder, _checked_id(dataset_id), version)
    manifest_file = manifest_path(folder, dataset_id, version)
    if version < 1:
        raise BadInputError("the version must be at least 1", where=dataset_id)
    if target.exists() or manifest_file.exists():
        raise DatasetReusedError(
            "this dataset id and version were sealed before", where=target.name, hint="raise the version"
        )
    dek = SecretBytes((random or OsRandom()).token(KEY_BYTES))
    partial = target.with_name(f".{target.name}.partial")
    _make_folder(folder)
    try:
        rows = _write_encrypted(batches, partial, columns, dek.data, _aad_prefix(dataset_id, version), progress)
        with partial.open("rb") as file:
            ciphertext_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = Manifest(
            dataset_id=DatasetId(dataset_id),
            version=version,
            owner=owner.name,
            columns=tuple(columns),
            rows=rows,
            ciphertext_sha256=ciphertext_sha256,
            ciphertext_bytes=partial.stat().st_size,
            wrapped_dek=b"",
            sealed_at_ms=(clock or SystemClock()).now_ms(),
        )
        wrapped = wrap_key(dek.data, owner.identity.receiving_public, manifest.dek_info())
        manifest = replace(manifest, wrapped_dek=wrapped)
        manifest = replace(manifest, signature=owner.sign(manifest.signed_bytes()))
        # link() refuses an existing name, so two runs with the same id cannot replace each other's file.
        os.link(partial, target)
        try:
            _write_text_whole(manifest_file, json.dumps(manifest.as_json(), indent=1) + "\n")
        except OSError:
            target.unlink()
            raise
    except FileExistsError as error:
        raise DatasetReusedError("this dataset id and version were sealed before", where=target.name) from error
    except OSError as error:
        raise SealWriteError(f"the sealed file cannot be written ({error.strerror})", where=target.name) from error
    finally:
        dek.wipe()
        partial.unlink(missing_ok=True)
    return manifest


def load_manifest(path: Path) -> Manifest:
    """The manifest in a file; its signature is checked by `Manifest.check_signature`. Raises BadInputError."""
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BadInputError("the manifest is larger than 1 MiB", where=path.name)
        return Manifest.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        hint = "it lies beside the sealed table, which its owner hands over with it"
        raise BadInputError("there is no such manifest", where=path.name, hint=hint) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError("the manifest cannot be read", where=path.name) from error


def owner_dek(manifest: Manifest, owner: Party) -> bytes:
    """The DEK, for the owner or its broker. Raises SealBrokenError for anyone else."""
    return unwrap_key(manifest.wrapped_dek, owner.receiving_private, manifest.dek_info())


class OpenTable:
    """An opened sealed table. What was hashed is what is read (`checked_file`), as far as it does not swell."""

    def __init__(self, file: pq.ParquetFile, careful: pq.ParquetFile, manifest: Manifest) -> None:
        """careful: the same file, texts kept coded.   Raises TableRejectedError for columns that are too large."""
        self._file, self._careful = file, careful
        self.manifest = manifest
        self.rows: int = file.metadata.num_rows
        self._coded = manifest.coded_id
        self._stored_names = stored_schema(manifest.columns, self._coded).names
        self._bounded: dict[str, bool] = {}
        check_sizes(file.metadata, self._stored_names, self._where())

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Decrypted batches of `names`, in the order of the file. Raises SealBrokenError, TableRejectedError."""
        texts = self._id_texts()
        for stored in self._stored_batches(names, _BATCH_ROWS):
            yield from self._written_out(stored, names, texts).to_batches()

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """All rows of `names` (all columns if None). Raises SealBrokenError, TableRejectedError."""
        wanted = [column.name for column in self.manifest.columns] if names is None else list(names)
        schema = self._stored_schema(wanted)
        with self._opening():
            if self._is_bounded(schema):
                stored = self._file.read(columns=schema.names, use_threads=True).select(schema.names).cast(schema)
            else:
                written_out = list(decoded_batches(self._careful, schema, self._where()))
                stored = pa.Table.from_batches(written_out, schema).combine_chunks()
            self._check(stored)
        return self._written_out(stored, wanted, self._id_texts())

    def id_slabs(self, name: str, rows_at_once: int) -> Iterator[IdSlab]:
        """The column `name`, coded, about `rows_at_once` rows at a time. Raises SealBrokenError, TableRejectedError."""
        texts_before = 0
        for stored in self._stored_batches([name], rows_at_once):
            if CODE in stored.column_names:
                codes, new = slab_of(stored[name], stored[CODE], texts_before, self._where())
            else:
                codes, new = slab_of_plain(stored[name], texts_before, self._where())
            texts_before += len(new)
            yield codes, new

    def _stored_batches(self, names: Sequence[str], rows_at_once: int) -> Iterator[pa.Table]:
        schema = self._stored_schema(names)
        with self._opening():
            is_plain = self._is_bounded(schema)
        batches: Iterator[pa.RecordBatch] = (
            self._file.iter_batches(batch_size=rows_at_once, columns=schema.names)
            if is_plain
            else decoded_batches(self._careful, schema, self._where())
        )
        while True:
            with self._opening():
                batch = next(batches, None)
                if batch is None:
                    return
                stored = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                self._check(stored)
            yield stored

    def _written_out(self, stored: pa.Table, names: Sequence[str], texts: IdTexts | None) -> pa.Table:
        """Stored rows as the declared columns `names`."""
        if texts is not None and CODE in stored.column_names:
            assert self._coded is not None, "only coded columns have codes"
            place = stored.column_names.index(self._coded.name)
            ids = texts.of(stored[self._coded.name], stored[CODE])
            stored = stored.set_column(place, self._coded.name, ids)
        return stored.select(names).cast(self._schema(names))

    def _id_texts(self) -> IdTexts | None:
        if self._coded is None:
            return None
        return IdTexts(self._coded.arrow_type, self._where(), most_text_bytes(self.rows))

    def _is_bounded(self, schema: pa.Schema) -> bool:
        """Whether every text column of `schema` is as small as its dictionaries say."""
        for field in schema:
            kind = field.type.value_type if pa.types.is_list(field.type) else field.type
            if pa.types.is_string(kind) and field.name not in self._bounded:
                place = self._stored_names.index(field.name)
                self._bounded[field.name] = is_bounded(self._careful, place, field.name)
        return all(self._bounded.get(name, True) for name in schema.names)

    @contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise EnclaveUnavailableError(
                "the sealed table does not fit into the enclave's memory",
                where=self._where(),
                hint="nothing was released; a larger machine, or a table that swells less",
            ) from None
        except (OSError, pa.ArrowInvalid) as error:
            raise SealBrokenError("a page of the sealed table does not open", where=self._where()) from error

    def _check(self, stored: pa.Table) -> None:
        """Whoever sealed the file may have left out what `seal_file` asks."""
        texts = {name: stored[name] for name in stored.column_names}
        ids = {column.name for column in self.manifest.columns if column.column.role is Role.USER_ID}
        check_texts(texts, ids, self._where())

    def _schema(self, names: Sequence[str]) -> pa.Schema:
        return arrow_schema([c for n in names for c in self.manifest.columns if c.name == n])

    def _stored_schema(self, names: Sequence[str]) -> pa.Schema:
        columns = [c for n in names for c in self.manifest.columns if c.name == n]
        return stored_schema(columns, self._coded if self._coded in columns else None)

    def _where(self) -> str:
        return f"{self.manifest.dataset_id} v{self.manifest.version}"


def stored_schema(columns: Sequence[TableColumn], coded: TableColumn | None) -> pa.Schema:
    """The Arrow schema of `columns` as they are stored; `coded`: the one that `coded_ids` holds.

    Raises TableRejectedError for a column with the name of the codes.
    """
    schema = arrow_schema(columns)
    if coded is None:
        return schema
    if CODE in schema.names:
        raise TableRejectedError("a column of a sealed table may not be called this", where=CODE)
    place = schema.get_field_index(coded.name)
    return schema.set(place, pa.field(coded.name, coded.arrow_type)).append(pa.field(CODE, pa.int32(), nullable=False))


def open_table(path: Path, manifest: Manifest, dek: bytes) -> OpenTable:
    """Open a sealed file with its DEK.

    Raises SealBrokenError with the reason: ciphertext hash, key or dataset id, columns, or rows do not fit;
    TableRejectedError for columns that are too large.
    """
    where = f"{manifest.dataset_id} v{manifest.version}"
    try:
        ciphertext = CheckedFile(path)
    except OSError as error:
        raise SealBrokenError("the sealed file cannot be read", where=where) from error
    if ciphertext.size != manifest.ciphertext_bytes:
        raise SealBrokenError(
            f"the file has {ciphertext.size} bytes, the manifest says {manifest.ciphertext_bytes}", where=where
        )
    if ciphertext.sha256 != manifest.ciphertext_sha256:
        raise SealBrokenError("the ciphertext hash differs from the manifest's", where=where)
    properties = pe.create_decryption_properties(
        footer_key=dek, aad_prefix=_aad_prefix(manifest.dataset_id, manifest.version)
    )
    stored = stored_schema(manifest.columns, manifest.coded_id)
    try:
        file = pq.ParquetFile(pa.PythonFile(ciphertext, mode="r"), decryption_properties=properties)
        # Not `file.schema`: it and the metadata hold each other, and the key with them, until Python collects cycles.
        groups = [file.metadata.row_group(0)] if file.metadata.num_row_groups else []
        paths = [groups[0].column(place).path_in_schema for place in range(file.metadata.num_columns) if groups]
        careful = pq.ParquetFile(
            pa.PythonFile(ciphertext.twin(), mode="r"),
            decryption_properties=properties,
            read_dictionary=[path for path, field in zip(paths, stored, strict=False) if "string" in str(field.type)],
            buffer_size=1 << 20,
            pre_buffer=False,
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise SealBrokenError("the file does not open: another key, dataset id or version", where=where) from error
    if file.metadata.num_columns != len(stored) or file.schema_arrow.names != stored.names:
        raise SealBrokenError("the columns differ from the manifest's", where=where)
    if file.metadata.num_rows != manifest.rows:
        raise SealBrokenError("the number of rows differs from the manifest's", where=where)
    return OpenTable(file, careful, manifest)


def _write_encrypted(
    batches: Iterator[pa.RecordBatch],
    path: Path,
    columns: Sequence[TableColumn],
    dek: bytes,
    aad_prefix: bytes,
    progress: Progress | None,
) -> int:
    """Write the file and force it to disk; gives the number of rows."""
    properties = pe.create_encryption_properties(
        footer_key=dek, aad_prefix=aad_prefix, store_aad_prefix=False, plaintext_footer=False
    )
    coded = _user_id(columns)
    schema, rows = stored_schema(columns, coded), 0
    named = {c.name for c in columns if c.storage == "string" or c.column.kind is Kind.CATEGORY}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as file,
        pq.ParquetWriter(
            file,
            schema,
            # Codes are packed to the bits that they need, which leaves nothing to compress.
            compression={name: "none" if name == CODE else "zstd" for name in schema.names},
            encryption_properties=properties,
            # Each text of a coded column stands there once already.
            use_dictionary=sorted(named - ({coded.name} if coded is not None else set())),
            column_encoding={CODE: "DELTA_BINARY_PACKED"} if coded is not None else None,
        ) as writer,
        ThreadPoolExecutor(1) as beside,
    ):
        coder = IdCoder(coded.arrow_type, path.name) if coded is not None else None
        waiting: Future[pa.Table] | None = None
        for pending in _slabs(batches, arrow_schema(columns)):
            # While one slab is written, the ids of the next are coded.
            following = beside.submit(_stored, pending, coded, coder)
            if waiting is not None:
                writer.write_table(waiting.result(), row_group_size=ROW_GROUP_ROWS)
            waiting = following
            rows += pending.num_rows
            if progress is not None:
                progress(rows)
        if waiting is not None:
            writer.write_table(waiting.result(), row_group_size=ROW_GROUP_ROWS)
        file.flush()
        os.fsync(file.fileno())
    if rows == 0:
        raise TableRejectedError("the file has no rows")
    return rows


def _slabs(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The batches put together to what is coded at once."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _SLAB_ROWS or size >= _SLAB_BYTES:
            yield pa.Table.from_batches(pending, schema)
            pending, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(pending, schema)


def _stored(rows: pa.Table, coded: TableColumn | None, coder: IdCoder | None) -> pa.Table:
    """Rows of the declared columns as they are stored."""
    if coded is None or coder is None:
        return rows
    texts, codes = coder.coded(rows[coded.name])
    place = rows.column_names.index(coded.name)
    field = pa.field(coded.name, coded.arrow_type)
    return rows.set_column(place, field, texts).append_column(pa.field(CODE, pa.int32(), nullable=False), codes)


def _user_id(columns: Sequence[TableColumn]) -> TableColumn | None:
    return next((column for column in columns if column.column.role is Role.USER_ID), None)


def _aad_prefix(dataset_id: str, version: int) -> bytes:
    return f"{dataset_id}:{version}".encode()


def _checked_id(dataset_id: str) -> str:
    if not _DATASET_ID.fullmatch(dataset_id):
        raise BadInputError(
            "a dataset id has 1 to 96 of a-z, 0-9, dot, dash, underscore and starts with a letter or digit"
        )
    return dataset_id


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SealWriteError(f"the folder cannot be made ({error.strerror})", where=folder.name) from error


def _write_text_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
