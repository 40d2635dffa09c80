"""Buckets of scripts, schemas and models (protected-auction §15, fetchMode 1; §9).

Of scripts and schemas each blob is a version, named by its name; `model_buckets` reads models.

    a folder                      a mounted bucket; files directly inside it
    s3://bucket[/prefix]          Amazon S3, or the service that AWS_ENDPOINT_URL names
    gs://bucket[/prefix]          Google Cloud Storage, through its S3-compatible API
    https://host/bucket[/prefix]  any service with the S3 API, bucket in the path

Requests are signed where the environment holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN and
AWS_REGION), and anonymous otherwise.
"""

from __future__ import annotations

import asyncio
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, urlsplit

from adyton.auction.errors import CodeFetchError, ConfigError
from adyton.auction.services.s3_signature import Credentials, encoded_query, signed_headers
from adyton.kernel.clock import Clock, SystemClock

MAX_BLOB_BYTES = 8 * 1024 * 1024
MAX_BLOBS = 64
"""Each version of a script is loaded and kept ready, so a bucket is not an archive."""
_MAX_LIST_BYTES = 1024 * 1024
_REMOTE = ("s3://", "gs://", "http://", "https://")


class Bucket(Protocol):
    """Named blobs."""

    async def names(self) -> list[str]:
        """The names of all blobs, sorted; at most MAX_BLOBS. Raises CodeFetchError."""
        ...

    async def read(self, name: str) -> bytes:
        """One blob. Raises CodeFetchError."""
        ...


def is_remote(place: str) -> bool:
    """True for an address, False for a folder."""
    return place.startswith(_REMOTE)


def open_bucket(
    place: str, *, timeout_s: float, environ: Mapping[str, str] | None = None, clock: Clock | None = None
) -> Bucket:
    """The bucket at `place`. Nothing is read yet.

    Raises ConfigError for an address without a bucket.
    """
    if not is_remote(place):
        return FolderOfBlobs(Path(place))
    return ObjectStore(place, timeout_s=timeout_s, environ=os.environ if environ is None else environ, clock=clock)


class FolderOfBlobs:
    """The files of a folder. Hidden files and folders inside it are no blobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def names(self) -> list[str]:
        try:
            return _checked(await asyncio.to_thread(self._list), str(self._folder))
        except OSError as error:
            raise CodeFetchError("the bucket's folder cannot be read", where=str(self._folder)) from error

    async def read(self, name: str) -> bytes:
        if PurePosixPath(name).name != name:
            raise CodeFetchError("this is not the name of a blob", where=str(self._folder))
        try:
            data = await asyncio.to_thread((self._folder / name).read_bytes)
        except OSError as error:
            raise CodeFetchError("the blob cannot be read", where=str(self._folder / name)) from error
        if len(data) > MAX_BLOB_BYTES:
            raise CodeFetchError(f"larger than {MAX_BLOB_BYTES} bytes", where=str(self._folder / name))
        return data

    def _list(self) -> list[str]:
        return [path.name for path in self._folder.iterdir() if path.is_file() and not path.name.startswith(".")]


class ObjectStore:
    """A bucket behind the S3 API: ListObjectsV2 and GetObject."""

    def __init__(self, place: str, *, timeout_s: float, environ: Mapping[str, str], clock: Clock | None = None) -> None:
        self._base, self._bucket_path, self._prefix = _address(place, environ)
        self._timeout_s = timeout_s
        self._clock: Clock = clock or SystemClock()
        self._where = place
        key_id, secret = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
        self._credentials = (
            Credentials(key_id, secret, environ.get("AWS_SESSION_TOKEN", "")) if key_id and secret else None
        )
        default_region = "auto" if place.startswith("gs://") else "us-east-1"
        self._region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or default_region

    async def names(self, below: str = "", *, max_blobs: int = MAX_BLOBS) -> list[str]:
        """The names that start with `below`, sorted; at most `max_blobs`. Raises CodeFetchError."""
        found: list[str] = []
        token = ""
        while True:
            query = {"list-type": "2"}
            if self._prefix or below:
                query["prefix"] = self._prefix + below
            if token:
                query["continuation-token"] = token
            listing = await self._get(self._bucket_path, query, _MAX_LIST_BYTES)
            keys, token = parse_listing(listing, self._where)
            found += [key.removeprefix(self._prefix) for key in keys if key.startswith(self._prefix + below)]
            _checked(found, self._where, max_blobs)
            if not token:
                # A key that ends in a slash is how consoles show an empty folder.
                return sorted(name for name in found if name and not name.endswith("/"))

    async def read(self, name: str, *, max_bytes: int = MAX_BLOB_BYTES) -> bytes:
        """One blob of at most `max_bytes`. Raises CodeFetchError."""
        return await self._get(f"{self._bucket_path}/{self._prefix}{name}", {}, max_bytes)

    async def _get(self, path: str, query: Mapping[str, str], max_bytes: int) -> bytes:
        import httpx  # a process whose scripts are files never needs it

        base = httpx.URL(self._base)
        host = base.netloc.decode("ascii")
        headers: dict[str, str] = {}
        if self._credentials is not None:
            headers = signed_headers(
                host=host,
                path=path,
                query=query,
                credentials=self._credentials,
                region=self._region,
                at_ms=self._clock.now_ms(),
            )
        # Encoded here as the signature has it: a client's own way of encoding would break it.
        target = f"{self._base}{quote(path, safe='/-_.~')}" + (f"?{encoded_query(query)}" if query else "")
        try:
            async with (
                httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False) as client,
                client.stream("GET", target, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise CodeFetchError(f"the bucket answered {response.status_code}", where=self._where)
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > max_bytes:
                        raise CodeFetchError(f"larger than {max_bytes} bytes", where=self._where)
        except httpx.HTTPError as error:
            raise CodeFetchError(f"the fetch failed ({type(error).__name__})", where=self._where) from error
        return bytes(body)


def _address(place: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Base URL without a path, path of the bucket, prefix of its blobs ("" or ending in a slash)."""
    try:
        parts = urlsplit(place)
    except ValueError as error:
        raise ConfigError("this is no address", where=place, hint="s3://bucket or https://host/bucket") from error
    if parts.scheme in ("s3", "gs"):
        bucket, prefix = parts.netloc, parts.path.strip("/")
        endpoint = "https://storage.googleapis.com" if parts.scheme == "gs" else environ.get("AWS_ENDPOINT_URL", "")
        if not endpoint:
            region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
            endpoint = f"https://s3.{region}.amazonaws.com"
        base, bucket_path = endpoint.rstrip("/"), f"/{bucket}"
    else:
        bucket, _, prefix = parts.path.strip("/").partition("/")
        base, bucket_path = f"{parts.scheme}://{parts.netloc}", f"/{bucket}"
    if not bucket:
        raise ConfigError("the address names no bucket", where=place, hint="s3://bucket or https://host/bucket")
    return base, bucket_path, f"{prefix.strip('/')}/" if prefix.strip("/") else ""


def parse_listing(text: bytes, where: str) -> tuple[list[str], str]:
    """The keys of a ListBucketResult, and the token of its next page ("" for the last). Raises CodeFetchError."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise CodeFetchError("the bucket's list has a document type, which no list needs", where=where)
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  without a document type there are no entities to expand
    except ElementTree.ParseError as error:
        raise CodeFetchError("the bucket's list is not XML", where=where) from error
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        raise CodeFetchError("the bucket's answer is no list", where=where)
    keys = [key.text or "" for key in root.findall("{*}Contents/{*}Key")]
    if (root.findtext("{*}IsTruncated") or "false").strip() != "true":
        return keys, ""
    token = root.findtext("{*}NextContinuationToken") or ""
    if not token:
        raise CodeFetchError("the bucket's list is cut off and names no next page", where=where)
    return keys, token


def _checked(names: list[str], where: str, max_blobs: int = MAX_BLOBS) -> list[str]:
    if len(names) > max_blobs:
        raise CodeFetchError(f"the bucket holds more than {max_blobs} blobs", where=where)
    return sorted(names)
