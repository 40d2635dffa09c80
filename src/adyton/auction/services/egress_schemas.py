"""Egress schemas by blob version (protected-auction §11.1). An invalid schema is not loaded."""

from __future__ import annotations

import logging

import orjson

from adyton.auction.config import ScriptSource
from adyton.auction.errors import CodeFetchError
from adyton.auction.services.code_store import BlobFetcher
from adyton.protocol.egress_schema import Dialect, EgressSchema, validate
from adyton.protocol.errors import EgressSchemaError
from adyton.sandbox.values import HostHook

_log = logging.getLogger(__name__)


class EgressSchemaStore:
    """The schemas of one channel, all in one dialect."""

    def __init__(
        self, fetcher: BlobFetcher, source: ScriptSource | None, *, dialect: Dialect = Dialect.SHIPPED
    ) -> None:
        self._fetcher = fetcher
        self._source = source
        self._dialect = dialect
        self._schemas: dict[str, EgressSchema] = {}

    async def refresh(self) -> None:
        """Fetch and parse all versions; one that fails keeps its last good state, with a warning."""
        try:
            versions = await self._fetcher.versions(self._source)
        except CodeFetchError as error:
            _log.warning("egress schemas are not loaded: %s", error)
            return
        for version, blob in versions.items():
            try:
                text = await self._fetcher.fetch_blob(blob)
                self._schemas[version] = EgressSchema.parse(text, dialect=self._dialect)
            except (CodeFetchError, EgressSchemaError) as error:
                _log.warning("egress schema %s is not loaded: %s", blob, error)

    def schema(self, version: str = "") -> EgressSchema | None:
        """The schema of a version ("" and "default" are the default), or None: the payload is then cleared."""
        return self._schemas.get("" if version == "default" else version)


def validate_hook(dialect: Dialect) -> HostHook:
    """`validate(payload, schema)` for scripts (§11.6): JSON array of problems, empty if the payload fits."""

    async def validated(text: str) -> str:
        """text: JSON array of the two arguments, each JSON text or an object. An unusable schema is one problem."""
        try:
            arguments = orjson.loads(text)
        except orjson.JSONDecodeError:  # scripts may hold text that is none, such as half a surrogate pair
            arguments = None
        if not isinstance(arguments, list) or len(arguments) != 2:
            return orjson.dumps(["validate takes a payload and a schema"]).decode()
        try:
            schema = EgressSchema.parse(arguments[1], dialect=dialect)
        except EgressSchemaError as error:
            return orjson.dumps([f"schema: {error}"]).decode()
        return orjson.dumps([str(problem) for problem in validate(arguments[0], schema)]).decode()

    return validated
