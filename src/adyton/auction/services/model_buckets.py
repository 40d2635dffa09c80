"""Where inference gets its models: a folder, or a bucket behind the S3 API (protected-auction §9)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from adyton.auction.inference.client import MAX_MODEL_BYTES
from adyton.auction.inference.errors import ModelListError
from adyton.auction.inference.model_list import FolderBucket, ModelBucket
from adyton.auction.services.buckets import ObjectStore, is_remote

MAX_MODEL_FILES = 1000


class ModelsInObjectStore:
    """Models and their list in a bucket. list_path: the name of the list's blob."""

    def __init__(self, store: ObjectStore, list_path: str) -> None:
        self._store = store
        self._list_path = list_path

    async def read_list(self) -> bytes:
        return await self._store.read(self._list_path)

    async def read_model(self, model_path: str) -> Mapping[str, bytes]:
        """Raises CodeFetchError, also beyond 2 GB; ModelListError if there is no such file."""
        # "models/1" must not take in what is under "models/10".
        below = model_path if model_path.endswith("/") else f"{model_path}/"
        found = await self._store.names(model_path, max_blobs=MAX_MODEL_FILES)
        names = [name for name in found if name == model_path or name.startswith(below)]
        if not names:
            raise ModelListError("the bucket holds no file of the model", where=model_path)
        files: dict[str, bytes] = {}
        left = MAX_MODEL_BYTES
        for name in names:
            files[name] = await self._store.read(name, max_bytes=left)
            left -= len(files[name])
        return files


def open_model_bucket(
    place: str, list_path: str, *, timeout_s: float, environ: Mapping[str, str] | None = None
) -> ModelBucket:
    """The bucket at `place`: a folder, or an address as `buckets` reads them. Nothing is read yet.

    Raises ConfigError for an address without a bucket.
    """
    if not is_remote(place):
        return FolderBucket(Path(place), list_path)
    store = ObjectStore(place, timeout_s=timeout_s, environ=os.environ if environ is None else environ)
    return ModelsInObjectStore(store, list_path)
