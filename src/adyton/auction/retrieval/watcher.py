"""Follows a folder of data files and applies new ones while the store serves."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from adyton.auction.retrieval.errors import RecordError
from adyton.auction.retrieval.files import data_files, read_records
from adyton.auction.retrieval.records import StoreRecord, UdfRecord
from adyton.auction.retrieval.store import AdRetrievalStore

_log = logging.getLogger(__name__)
# Records applied between two turns of the event loop, so that requests are not held up by a big file.
_RECORDS_PER_TURN = 500


class FolderWatcher:
    """Applies each data file of a folder once, in order: snapshots, then deltas, each lexicographically.

    A broken file is logged, skipped, and tried again when it changes; one that cannot be read, at the next scan.
    Writers should put files in place by renaming them, as `write_snapshot` does.
    """

    def __init__(self, store: AdRetrievalStore, folder: Path, *, period_s: float = 1.0) -> None:
        self._store = store
        self._folder = folder
        self._period_s = period_s
        self._seen: dict[str, tuple[int, int]] = {}

    async def scan(self) -> int:
        """Apply the files that are new or changed; gives back how many were applied.

        Raises OSError if the folder cannot be listed.
        """
        n_applied = 0
        for path in await asyncio.to_thread(data_files, self._folder):
            try:
                status = await asyncio.to_thread(path.stat)
                mark = (status.st_mtime_ns, status.st_size)
                if self._seen.get(path.name) == mark:
                    continue
                records = await asyncio.to_thread(_read_all, path)
            except OSError as error:
                _log.warning("data file skipped: %s: %s", path.name, error.strerror)
                continue
            except RecordError as error:
                self._seen[path.name] = mark
                _log.warning("data file skipped: %s", error)
                continue
            self._seen[path.name] = mark
            for number, record in enumerate(records, start=1):
                self._store.apply(record)
                if number % _RECORDS_PER_TURN == 0:
                    await asyncio.sleep(0)
            n_applied += 1
            _log.info("data file %s applied, %d records", path.name, len(records))
        if self._store.ads.wants_rebuild:
            await asyncio.to_thread(self._store.rebuild_index)
        return n_applied

    async def run(self) -> None:
        """Scan every `period_s` seconds until cancelled. A folder that is away for a while is not an end."""
        while True:
            try:
                await self.scan()
            except OSError as error:
                _log.warning("the data folder cannot be read: %s", type(error).__name__)
            await asyncio.sleep(self._period_s)


def _read_all(path: Path) -> list[StoreRecord | UdfRecord]:
    return list(read_records(path))
