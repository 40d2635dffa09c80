"""Scripts and schemas by version, fetched from files, URLs and buckets and swapped while requests run (§15).

A request takes the handle of its version once and keeps it; a newer version of the same name only changes what later
requests get, and the old script is unloaded after a grace period longer than any request.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from adyton.auction.config import ScriptSource
from adyton.auction.errors import CodeFetchError, UnknownVersionError
from adyton.auction.services.buckets import MAX_BLOB_BYTES, Bucket, open_bucket
from adyton.auction.services.unloading import LateUnloading
from adyton.kernel.errors import AdytonError
from adyton.sandbox.errors import UdfLoadError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfHandle, UdfKind

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blob:
    """One version's place: a file, an http(s) URL, or a name in a bucket."""

    place: str
    bucket: Bucket | None = None

    def __str__(self) -> str:
        return self.place


class BlobFetcher:
    """Reads a blob from a file, an http(s) URL or a bucket, within a time and a size."""

    def __init__(self, *, timeout_ms: int) -> None:
        self._timeout_s = timeout_ms / 1000

    async def versions(self, source: ScriptSource | None) -> dict[str, Blob]:
        """Where each version of `source` is now; "" is the default. A bucket is listed anew each time.

        Raises CodeFetchError if a bucket cannot be listed.
        """
        if source is None:
            return {}
        found = {version: Blob(place) for version, place in source.versions.items()}
        if source.bucket is None:
            return {**found, "": Blob(source.default)}
        bucket = open_bucket(source.bucket, timeout_s=self._timeout_s)
        found |= {name: Blob(name, bucket) for name in await bucket.names()}
        return {**found, "": Blob(source.default, bucket)}

    async def fetch_blob(self, blob: Blob) -> bytes:
        """The bytes of one version. Raises CodeFetchError as `fetch`."""
        return await (self.fetch(blob.place) if blob.bucket is None else blob.bucket.read(blob.place))

    async def fetch(self, source: str) -> bytes:
        """The bytes at `source`, a file or a URL.

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
        self._source = source
        self._handles: dict[str, UdfHandle] = {}
        self._unloading = LateUnloading(pool, grace_s=grace_s, is_used=lambda handle: handle in self._handles.values())

    async def refresh(self) -> None:
        """Fetch all versions and swap those that changed.

        Raises CodeFetchError or the sandbox's errors if a version that nothing serves yet cannot be loaded; a version
        that is served stays as it is when its source is gone or broken, with a warning. A broken blob that is new in
        the bucket costs its own version only, since whoever fills a bucket does not see this process.
        """
        try:
            versions = await self._fetcher.versions(self._source)
        except AdytonError as error:
            if not self._handles:
                raise
            _log.warning("keeping the loaded versions of %s: %s", self._source.bucket, error)
            return
        for version, blob in versions.items():
            try:
                code = (await self._fetcher.fetch_blob(blob)).decode("utf-8", "replace")
                handle = await self._pool.load(self._owner, code, self._kind)
            except AdytonError as error:
                is_own = blob.bucket is None or version == ""
                if version not in self._handles and is_own:
                    if isinstance(error, UdfLoadError):
                        error.where = str(blob)  # the sandbox knows an owner and a digest
                    raise
                _log.warning("version %s is not loaded anew: %s", blob, error)
                continue
            old = self._handles.get(version)
            self._handles[version] = handle
            if old is not None and old != handle and old not in self._handles.values():
                self._unloading.begin(old)

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
        await self._unloading.close()


def _checked(data: bytes, source: str) -> bytes:
    if len(data) > MAX_BLOB_BYTES:
        raise CodeFetchError(f"larger than {MAX_BLOB_BYTES} bytes", where=source)
    return data
