"""Egress schemas by blob version (protected-auction §11.1). An invalid schema is not loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import orjson

from adyton.auction.config import ScriptSource
from adyton.auction.errors import CodeFetchError
from adyton.auction.services.code_store import BlobFetcher
from adyton.protocol.egress_schema import EgressSchema, validate
from adyton.protocol.errors import EgressSchemaError

_log = logging.getLogger(__name__)


class EgressSchemaStore:
    """The schemas of one channel."""

    def __init__(self, fetcher: BlobFetcher, source: ScriptSource | None) -> None:
        self._fetcher = fetcher
        self._sources: Mapping[str, str] = {} if source is None else {**source.versions, "": source.default}
        self._schemas: dict[str, EgressSchema] = {}

    async def refresh(self) -> None:
        """Fetch and parse all versions; one that fails keeps its last good state, with a warning."""
        for version, source in self._sources.items():
            try:
                self._schemas[version] = EgressSchema.parse(await self._fetcher.fetch(source))
            except (CodeFetchError, EgressSchemaError) as error:
                _log.warning("egress schema %s is not loaded: %s", source, error)

    def schema(self, version: str = "") -> EgressSchema | None:
        """The schema of a version ("" and "default" are the default), or None: the payload is then cleared."""
        return self._schemas.get("" if version == "default" else version)


async def validate_hook(text: str) -> str:
    """`validate(payload, schema)` for scripts (§11.6): JSON array of problems, empty if the payload fits.

    text: JSON array of the two arguments, each JSON text or an object. An unusable schema is one problem.
    """
    arguments = orjson.loads(text)
    if not isinstance(arguments, list) or len(arguments) != 2:
        return orjson.dumps(["validate takes a payload and a schema"]).decode()
    try:
        schema = EgressSchema.parse(arguments[1])
    except EgressSchemaError as error:
        return orjson.dumps([f"schema: {error}"]).decode()
    return orjson.dumps([str(problem) for problem in validate(arguments[0], schema)]).decode()
