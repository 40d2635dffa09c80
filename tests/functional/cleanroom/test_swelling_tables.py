"""A party seals, with code of its own, a table that swells: a real enclave refuses it and goes on to exist."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from adyton.cleanroom.contract import Template
from adyton.cleanroom.errors import TableRejectedError
from adyton.cleanroom.key_wrap import wrap_key
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.sealed_table import PLAIN_IDS_FORMAT, manifest_path, sealed_path
from adyton.kernel.ledger import ZERO_LOSS, Account, PrivacyLoss

ROWS = 1 << 17


def seal_swelling(room: Any) -> tuple[Any, Any]:
    """Version 2 of the advertiser's table: every user id is one of two texts, one of 60,000 bytes. 4 GB in few kB.

    Sealed as format 1, in which references may stand in a dictionary as its writer likes.
    """
    owner, before = room.parties["advertiser"], room.manifests["advertiser-log"]
    ids = pa.DictionaryArray.from_arrays(
        pa.array((np.arange(ROWS) % 2).astype(np.int32)), pa.array(["a", "x" * 60_000])
    )
    zeros = pa.array(np.zeros(ROWS, np.int64))
    table = pa.table({c.name: ids if c.name == "user_id" else zeros.cast(c.arrow_type) for c in before.columns})
    dek = bytes(range(32))
    path = sealed_path(room.folder / "sealed", "advertiser-log", 2)
    properties = pe.create_encryption_properties(
        footer_key=dek, aad_prefix=b"advertiser-log:2", store_aad_prefix=False, plaintext_footer=False
    )
    pq.write_table(table, path, compression="zstd", encryption_properties=properties, store_schema=False)
    data = path.read_bytes()
    manifest = replace(
        before, version=2, rows=ROWS, ciphertext_sha256=hashlib.sha256(data).hexdigest(), ciphertext_bytes=len(data),
        format=PLAIN_IDS_FORMAT, signature=b"",
    )  # fmt: skip
    wrapped = wrap_key(dek, owner.identity.receiving_public, manifest.dek_info())
    manifest = replace(manifest, wrapped_dek=wrapped)
    manifest = replace(manifest, signature=owner.sign(manifest.signed_bytes()))
    manifest_file = manifest_path(room.folder / "sealed", "advertiser-log", 2)
    manifest_file.write_text(json.dumps(manifest.as_json()))
    return path, manifest_file


def test_a_table_that_swells_is_refused_and_costs_nothing(make_room: Callable[..., Any]) -> None:
    """The advertiser means to crash the run: its appended version is signed, within the contract, and 4 GB."""
    room = make_room(appends=True)
    inputs = {**room.inputs(), "advertiser-log@v2": seal_swelling(room)}
    job = room.job("swell", Template.JOIN_STATISTICS, incremental=True, statistics_loss=PrivacyLoss.of("1/2"))

    with pytest.raises(TableRejectedError, match="swells to more than") as caught:
        room.run(job, inputs=inputs)
    assert caught.value.where == "advertiser-log v2, column user_id"
    assert not (room.folder / "out-swell").exists()
    store = LedgerStore(room.folder / "ledger" / "ledger.sqlite", FileCounter(room.folder / "counter" / "counter.json"))
    assert store.ledger({}).spent(Account("publisher", "users")) == ZERO_LOSS
    room.run(room.job("honest", Template.JOIN_STATISTICS))
