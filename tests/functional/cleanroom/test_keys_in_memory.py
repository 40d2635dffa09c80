"""Data keys are gone from a process's memory once the tables are open: the memory is read from outside.

Any 16 bytes in a row of a key count as found, since allocators overwrite the head of what is freed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adyton.cleanroom.contract import Template
from adyton.cleanroom.party import Party, save_party
from adyton.cleanroom.sealed_table import manifest_path, owner_dek, seal_batches, sealed_path
from adyton.cleanroom.secret_bytes import SecretBytes, wipe_bytes
from adyton.cleanroom.table_columns import TableColumn, arrow_schema
from adyton.learning.schema import Column, Kind, Role

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
WINDOW_BYTES = 16
OPEN_AND_WAIT = """
import gc, sys
from pathlib import Path
from adyton.cleanroom.party import load_party
from adyton.cleanroom.sealed_table import load_manifest, open_table, owner_dek
from adyton.cleanroom.secret_bytes import SecretBytes

key_file, sealed, manifest_file, how = sys.argv[1:]
manifest, kept = load_manifest(Path(manifest_file)), None
owner = load_party(Path(key_file), b"a passphrase")
if how == "wiped":
    with SecretBytes(owner_dek(manifest, owner)) as key:
        table = open_table(Path(sealed), manifest, key.data).read()
else:
    kept = owner_dek(manifest, owner)
    table = open_table(Path(sealed), manifest, kept).read()
del owner
gc.collect()
print(table.num_rows, flush=True)
sys.stdin.readline()
"""


def found_in(process: int, wanted: bytes) -> bool:
    """Whether 16 bytes in a row of `wanted` stand anywhere in the process's writable memory."""
    half = WINDOW_BYTES // 2
    # 16 bytes in a row hold one of these pieces whole, whatever place they start at.
    pieces = [wanted[i : i + half] for i in range(0, len(wanted), half)]
    windows = [wanted[i : i + WINDOW_BYTES] for i in range(len(wanted) - WINDOW_BYTES + 1)]
    for block in memory(process):
        if any(piece in block for piece in pieces) and any(window in block for window in windows):
            return True
    return False


def memory(process: int) -> Iterable[bytes]:
    maps = Path(f"/proc/{process}/maps").read_text().splitlines()
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
        for line in maps:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if area is None:
                continue
            start, end = (int(text, 16) for text in area.groups())
            try:
                file.seek(start)
                yield file.read(end - start)
            except (OSError, OverflowError):
                continue


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wiped", "kept"])
def test_a_key_is_found_in_memory_only_where_it_was_not_wiped(tmp_path: Path, how: str) -> None:
    """`kept` is the control: the search finds a key that is there."""
    owner = Party.create("publisher")
    key_file = save_party(owner, tmp_path, b"a passphrase", scrypt_n=1 << 10)
    columns = (TableColumn(Column("user", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),)
    users = pa.record_batch([pa.array([f"person-{i}" for i in range(5_000)])], schema=arrow_schema(columns))
    manifest = seal_batches(iter([users]), tmp_path, columns, dataset_id="log", version=1, owner=owner)
    paths = [key_file, sealed_path(tmp_path, "log", 1), manifest_path(tmp_path, "log", 1)]
    command = [sys.executable, "-c", OPEN_AND_WAIT, *map(str, paths), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "5000"
        try:
            is_found = found_in(process.pid, owner_dek(manifest, owner))
            party_key_is_found = found_in(process.pid, owner.receiving_private.private_bytes_raw())
        except PermissionError:
            pytest.skip("this machine lets nobody read another process's memory")
        finally:
            process.communicate("\n")

    assert is_found == (how == "kept")
    assert not party_key_is_found


@pytest.mark.slow
def test_no_data_key_is_in_an_enclaves_memory_once_its_work_is_done(
    room: Any, enclaves: Callable[[], list[int]]
) -> None:
    """Tables are read in pieces, so their keys live as long as the work; when outputs are sealed they are gone."""
    seen: list[tuple[bool, bool]] = []
    keys = [owner_dek(m, room.parties[str(m.owner)]) for m in room.manifests.values()]

    def look(_fraction: float, what: str) -> None:
        if what != "sealing outputs":
            return
        [process] = enclaves()
        os.kill(process, signal.SIGSTOP)
        try:
            control = any(str(room.signed.contract.hash).encode() in block for block in memory(process))
            seen.append((control, any(found_in(process, key) for key in keys)))
        except PermissionError:
            seen.append((True, False))
        finally:
            os.kill(process, signal.SIGCONT)

    room.run(room.job("memory", Template.JOIN_STATISTICS), progress=look)

    assert seen == [(True, False)]


def test_wiping_zeroes_the_object_that_was_given() -> None:
    key = os.urandom(32)
    with SecretBytes(key) as secret:
        assert secret.data is key
        assert any(key)
        other = SecretBytes.copy_of(key)
    assert key == bytes(32)
    assert any(other.data)
    assert not wipe_bytes(b"")
    assert "bytes)" in repr(secret)
    with pytest.raises(TypeError, match="not pickled"):
        __import__("pickle").dumps(secret)
