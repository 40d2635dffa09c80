"""The key/value and ad-retrieval service, protocol version 2 (protected-auction §10)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson

from adyton.auction.errors import DownstreamError, RequestError
from adyton.auction.json_text import dump
from adyton.auction.json_values import JsonValue, from_value
from adyton.auction.kv_messages import (
    check_request,
    execution_metadata,
    is_pas,
    udf_arguments,
)
from adyton.auction.services.code_store import ScriptStore
from adyton.auction.services.data_script import DataScript
from adyton.auction.services.telemetry import DebugPolicy, Metrics, RequestLog
from adyton.kernel.errors import AdytonError
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.sandbox.errors import UdfThrewError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import HostHook, UdfHandle

_INTERNAL = 13
_INVALID_ARGUMENT = 3


class KeyValueService:
    """Lookups over one store, by a script or by the two built-in rules.

    udf: the configured script.   data_script: that of the data files, used where none is configured.
    Without either the built-in lookups answer: of a list of keys for `is_pas`, else of tagged keys (§10.3, §10.6).
    hooks: the store's functions, which scripts may call; `getValues` also serves the built-in lookups.
    """

    def __init__(
        self,
        *,
        pool: SandboxPool,
        udf: ScriptStore | None,
        data_script: DataScript,
        handler_name: str,
        hooks: Mapping[str, HostHook],
        udf_timeout_ms: int,
        debug: DebugPolicy,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._udf = udf
        self._data_script = data_script
        self._handler_name = handler_name
        self._hooks = hooks
        self._udf_timeout_ms = udf_timeout_ms
        self._debug = debug
        self._metrics = metrics

    async def get_values(self, request: kv.GetValuesRequest, *, timeout_s: float) -> kv.GetValuesResponse:
        """The answer: of `is_pas` one partition alone, of everything else the outputs by compression group (§10).

        Raises DownstreamError, UnsupportedError or RequestError as §10.4 says. A script that fails on a single
        partition is a status inside an OK answer.
        """
        check_request(request)
        log = self._debug.request_log("kv", request.consented_debug_config, request.log_context)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._answer(request, log)
        except TimeoutError as error:
            raise DownstreamError("The lookup did not end before the deadline", code="DEADLINE_EXCEEDED") from error
        info = log.debug_info()
        if info is not None:
            response.debug_info.CopyFrom(info)
        return response

    async def _answer(self, request: kv.GetValuesRequest, log: RequestLog) -> kv.GetValuesResponse:
        response = kv.GetValuesResponse()
        first = request.partitions[0]
        if is_pas(request):
            response.single_partition.id = first.id
            try:
                response.single_partition.string_output = (await self._run(request, first, log)).decode()
            except AdytonError as error:
                self._metrics.event("kv_udf_failed")
                # Details of a script's failure may hold what it was given.
                response.single_partition.status.code = (
                    _INVALID_ARGUMENT if isinstance(error, RequestError) else _INTERNAL
                )
                response.single_partition.status.message = error.what
            return response
        groups: dict[int, list[bytes]] = {}
        for partition in request.partitions:
            try:
                output = await self._run(request, partition, log)
            except AdytonError:
                self._metrics.event("kv_udf_failed")
                continue
            text = _with_id(partition.id, output)
            if text is not None:
                groups.setdefault(partition.compression_group_id, []).append(text)
        for group_id, outputs in groups.items():
            response.compression_groups.add(compression_group_id=group_id, content=b"[" + b",".join(outputs) + b"]")
        return response

    async def _run(self, request: kv.GetValuesRequest, partition: kv.RequestPartition, log: RequestLog) -> bytes:
        """JSON text of one partition's output."""
        found = await self._script()
        if found is None:
            return dump(await (self._pas_lookup(partition) if is_pas(request) else self._tagged_lookup(partition)))
        handle, handler_name = found
        arguments = [dump(execution_metadata(request, partition)), *map(dump, udf_arguments(partition))]
        try:
            with self._metrics.timed("kv_udf"):
                result = await self._pool.call(
                    handle,
                    handler_name,
                    arguments,
                    deadline_ms=self._udf_timeout_ms,
                    hooks=self._hooks,
                    capture_console=log.is_consented,
                    # The text of a list of ads is a string in the answer; who uses the ads parses it, once.
                    checks_json=not is_pas(request),
                )
        except UdfThrewError as error:
            log.note_script(handler_name, (*error.console, f"threw: {error.script_message}"))
            raise
        log.note_script(handler_name, result.console)
        return result.json

    async def _script(self) -> tuple[UdfHandle, str] | None:
        """The configured script, or else that of the data files."""
        if self._udf is not None:
            return self._udf.handle(), self._handler_name
        return await self._data_script.current()

    async def _pas_lookup(self, partition: kv.RequestPartition) -> JsonValue:
        if len(partition.arguments) != 1:
            n_arguments = len(partition.arguments)
            raise RequestError(
                f"For PAS default UDF exactly one argument should be provided, but was provided {n_arguments}"
            )
        return await self._values(from_value(partition.arguments[0].data))

    async def _tagged_lookup(self, partition: kv.RequestPartition) -> JsonValue:
        """The output of the reference's built-in script: lookups that fail, and keys that are missing, stay out."""
        outputs: list[JsonValue] = []
        for argument in partition.arguments:
            tags = [from_value(tag) for tag in argument.tags.values]
            try:
                found = await self._values(from_value(argument.data))
            except AdytonError:
                continue
            values: dict[str, JsonValue] = {
                key: {"value": entry["value"]}
                for key, entry in found.items()
                if isinstance(entry, dict) and "value" in entry
            }
            outputs.append({"tags": tags, "keyValues": values} if tags else {"keyValues": values})
        return {"keyGroupOutputs": outputs, "udfOutputApiVersion": 1}

    async def _values(self, keys: JsonValue) -> dict[str, JsonValue]:
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise RequestError("the built-in lookup takes a list of keys")
        answer = orjson.loads(await self._hooks["getValues"](orjson.dumps(keys).decode()))
        if "kvPairs" not in answer:
            raise DownstreamError("the store gave no values", code="INTERNAL")
        pairs: dict[str, JsonValue] = answer["kvPairs"]
        return pairs


def _with_id(partition_id: int, output: bytes) -> bytes | None:
    """The output object with its partition's id; None for an output that is no object, which is left out."""
    parsed = orjson.loads(output)
    return dump({**parsed, "id": partition_id}) if isinstance(parsed, dict) else None
