"""Scripts and schemas by version, fetched from files and URLs and swapped while requests run (protected-auction §15).

A request takes the handle of its version once and keeps it; a newer version of the same name only changes what later
requests get, and the old script is unloaded after a grace period longer than any request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from adyton.auction.config import ScriptSource
from adyton.auction.errors import CodeFetchError, UnknownVersionError
from adyton.kernel.errors import AdytonError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfHandle, UdfKind

_log = logging.getLogger(__name__)
MAX_BLOB_BYTES = 8 * 1024 * 1024


class BlobFetcher:
    """Reads a blob from a file or an http(s) URL, within a time and a size."""

    def __init__(self, *, timeout_ms: int) -> None:
        self._timeout_s = timeout_ms / 1000

    async def fetch(self, source: str) -> bytes:
        """The bytes at `source`.

        Raises CodeFetchError if it cannot be read in time, answers anything but 200, or is larger than 8 MiB.
        """
        if source.startswith(("http://", "https://")):
            return await self._from_url(source)
        try:
            data = await asyncio.to_thread(Path(source).read_bytes)
        except OSError as error:
            raise CodeFetchError("the file cannot be read", where=source) from error
        return _checked(data, source)

    async def _from_url(self, url: str) -> bytes:
        import httpx  # a process whose scripts are files never needs it

        try:
            async with (
                httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False) as client,
                client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise CodeFetchError(f"the server answered {response.status_code}", where=url)
                chunks, n_bytes = [], 0
                async for chunk in response.aiter_bytes():
                    n_bytes += len(chunk)
                    if n_bytes > MAX_BLOB_BYTES:
                        raise CodeFetchError(f"larger than {MAX_BLOB_BYTES} bytes", where=url)
                    chunks.append(chunk)
        except httpx.HTTPError as error:
            raise CodeFetchError(f"the fetch failed ({type(error).__name__})", where=url) from error
        return b"".join(chunks)


class ScriptStore:
    """The versions of one script of one owner, loaded in the sandbox."""

    def __init__(
        self,
        pool: SandboxPool,
        fetcher: BlobFetcher,
        *,
        owner: str,
        kind: UdfKind,
        source: ScriptSource,
        grace_s: float = 60.0,
    ) -> None:
        self._pool = pool
        self._fetcher = fetcher
        self._owner = owner
        self._kind = kind
        self._sources: Mapping[str, str] = {**source.versions, "": source.default}
        self._handles: dict[str, UdfHandle] = {}
        self._grace_s = grace_s
        self._unloading: set[asyncio.Task[None]] = set()

    async def refresh(self) -> None:
        """Fetch all versions and swap those that changed.

        Raises CodeFetchError or the sandbox's errors if a version that nothing serves yet cannot be loaded; a version
        that is served stays as it is when its source is gone or broken, with a warning.
        """
        for version, source in self._sources.items():
            try:
                code = (await self._fetcher.fetch(source)).decode("utf-8", "replace")
                handle = await self._pool.load(self._owner, code, self._kind)
            except AdytonError as error:
                if version not in self._handles:
                    raise
                _log.warning("keeping the loaded version of %s: %s", source, error)
                continue
            old = self._handles.get(version)
            self._handles[version] = handle
            if old is not None and old != handle and old not in self._handles.values():
                task = asyncio.create_task(self._unload_later(old))
                self._unloading.add(task)
                task.add_done_callback(self._unloading.discard)

    def handle(self, version: str = "") -> UdfHandle:
        """The loaded script of a version; "" is the default.

        Raises UnknownVersionError.
        """
        found = self._handles.get(version)
        if found is None:
            raise UnknownVersionError("No code is loaded for the requested blob version", where=self._kind.value)
        return found

    async def close(self) -> None:
        """Stop waiting to unload old versions."""
        for task in self._unloading:
            task.cancel()

    async def _unload_later(self, handle: UdfHandle) -> None:
        await asyncio.sleep(self._grace_s)
        if handle not in self._handles.values():
            await self._pool.unload(handle)


def _checked(data: bytes, source: str) -> bytes:
    if len(data) > MAX_BLOB_BYTES:
        raise CodeFetchError(f"larger than {MAX_BLOB_BYTES} bytes", where=source)
    return data
