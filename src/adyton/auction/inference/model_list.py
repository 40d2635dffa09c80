"""The list of models to serve, and the loop that follows it (protected-auction §9).

{"model_metadata":[{"model_path", "checksum", "warm_up_batch_request_json", "eviction_grace_period_in_ms"}]}
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import orjson

from adyton.auction.inference.client import InferenceClient
from adyton.auction.inference.errors import ModelListError, ModelNotFoundError
from adyton.kernel.clock import Clock
from adyton.kernel.errors import AdytonError

_log = logging.getLogger(__name__)
MIN_PERIOD_MS = 60_000
DEFAULT_PERIOD_MS = 300_000
_MEMBERS = frozenset({"model_path", "checksum", "warm_up_batch_request_json", "eviction_grace_period_in_ms"})


@dataclass(frozen=True)
class ModelEntry:
    """One model of the list. checksum: None to accept any content."""

    model_path: str
    checksum: str | None
    warm_up_batch_request_json: str
    eviction_grace_period_ms: int


class ModelBucket(Protocol):
    """Where models and their list are kept. Both raise AdytonError if they cannot be read."""

    async def read_list(self) -> bytes:
        """The model list JSON."""
        ...

    async def read_model(self, model_path: str) -> Mapping[str, bytes]:
        """The file `model_path`, or every file below it, by name."""
        ...


class FolderBucket:
    """A bucket in a folder. list_path: the list's place inside it."""

    def __init__(self, folder: Path, list_path: str) -> None:
        self._folder = folder
        self._list_path = list_path

    async def read_list(self) -> bytes:
        try:
            return await asyncio.to_thread(self._inside(self._list_path).read_bytes)
        except OSError as error:
            raise ModelListError(f"the list cannot be read ({error.strerror})", where=self._list_path) from error

    async def read_model(self, model_path: str) -> Mapping[str, bytes]:
        return await asyncio.to_thread(self._read_model, model_path)

    def _read_model(self, model_path: str) -> dict[str, bytes]:
        place = self._inside(model_path)
        try:
            if place.is_file():
                return {model_path: place.read_bytes()}
            files = sorted(path for path in place.rglob("*") if path.is_file())
            return {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in files}
        except OSError as error:
            raise ModelListError(f"a model cannot be read ({type(error).__name__})", where=model_path) from error

    def _inside(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ModelListError("a path leads out of the bucket", where=name)
        return self._folder.joinpath(*relative.parts)


def parse_model_list(text: bytes) -> list[ModelEntry]:
    """The entries of a list. Raises ModelListError."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ModelListError("the model list is not JSON") from None
    entries = found.get("model_metadata") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ModelListError("the model list has no model_metadata")
    parsed = [_entry(number, entry) for number, entry in enumerate(entries)]
    if len({entry.model_path for entry in parsed}) != len(parsed):
        raise ModelListError("a model path occurs twice")
    return parsed


class ModelListFollower:
    """Registers what the list gains and deletes what it loses, after the grace period of the lost entry."""

    def __init__(self, client: InferenceClient, bucket: ModelBucket, clock: Clock) -> None:
        self._client = client
        self._bucket = bucket
        self._clock = clock
        self._known: dict[str, ModelEntry] = {}
        self._leaving: dict[str, int] = {}

    async def sync(self) -> None:
        """Bring the registered models in line with the list. A model that cannot be loaded is logged and tried again.

        Raises ModelListError, or the bucket's own error, if the list itself cannot be used; then nothing changes.
        """
        entries = {entry.model_path: entry for entry in parse_model_list(await self._bucket.read_list())}
        now_ms = self._clock.now_ms()
        for path, entry in entries.items():
            self._leaving.pop(path, None)
            if path not in self._known:
                await self._register(entry)
        for path in set(self._known) - set(entries):
            self._leaving.setdefault(path, now_ms + self._known[path].eviction_grace_period_ms)
        for path in [path for path, due_ms in self._leaving.items() if due_ms <= now_ms]:
            del self._leaving[path]
            del self._known[path]
            try:
                await self._client.delete_model(path)
            except ModelNotFoundError:
                _log.warning("model %s was already gone", path)

    async def run(self, period_ms: int = DEFAULT_PERIOD_MS) -> None:
        """Sync every `period_ms` >= 60000 until cancelled."""
        if period_ms < MIN_PERIOD_MS:
            raise ModelListError(f"the period must be at least {MIN_PERIOD_MS} ms, got {period_ms}")
        while True:
            try:
                await self.sync()
            except AdytonError as error:
                _log.warning("model list not applied: %s", error)
            await asyncio.sleep(period_ms / 1000)

    async def _register(self, entry: ModelEntry) -> None:
        try:
            files = await self._bucket.read_model(entry.model_path)
            await self._client.register_model(
                entry.model_path,
                files,
                warm_up_batch_request_json=entry.warm_up_batch_request_json,
                checksum=entry.checksum,
            )
        except AdytonError as error:
            _log.warning("model not registered: %s", error)
        else:
            self._known[entry.model_path] = entry


def _entry(number: int, entry: object) -> ModelEntry:
    where = f"entry {number}"
    if not isinstance(entry, dict) or not set(entry) <= _MEMBERS:
        raise ModelListError("an entry is not an object with the known members", where=where)
    path = entry.get("model_path")
    checksum = entry.get("checksum") or None
    warm_up = entry.get("warm_up_batch_request_json", "")
    grace_ms = entry.get("eviction_grace_period_in_ms", 0)
    if not isinstance(path, str) or not path:
        raise ModelListError("model_path is missing", where=where)
    if checksum is not None and not isinstance(checksum, str):
        raise ModelListError("checksum must be text", where=where)
    if not isinstance(warm_up, str):
        raise ModelListError("warm_up_batch_request_json must be text", where=where)
    if type(grace_ms) is not int or grace_ms < 0:
        raise ModelListError("eviction_grace_period_in_ms must be a whole number of at least 0", where=where)
    return ModelEntry(path, checksum, warm_up, grace_ms)
