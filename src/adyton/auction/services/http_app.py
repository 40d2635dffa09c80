"""The HTTP side of a process: health, metrics, the auction's calls as proto3 JSON (protected-auction §6, §6.8), and the
JSON and oblivious forms of the key/value service (§10.1).

Answers look as the reference's transcoding proxy makes them: every member printed, `bytes` in base64; an error carries
`grpc-status` and `grpc-message` headers, and here also the JSON of its status as a body.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import uvicorn
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adyton.auction.errors import RequestError
from adyton.auction.request_metadata import FORWARDED_KEYS, forwarded_metadata
from adyton.auction.services.calls import Call
from adyton.auction.services.kv_calls import KeyValueCalls
from adyton.auction.services.kv_wire import CONTENT_TYPE_KEY, OBLIVIOUS_RESPONSE_TYPE
from adyton.auction.services.servicers import Guard
from adyton.auction.services.status import INTERNAL_TEXT, http_status, status_name
from adyton.auction.services.telemetry import Metrics
from adyton.kernel.errors import AdytonError

_log = logging.getLogger(__name__)
MAX_BODY_BYTES = 4 * 1024 * 1024
_TIMEOUT_S = 60.0


def build_app(
    *, metrics: Metrics, guard: Guard, calls: Sequence[Call[Any, Any]], key_value: KeyValueCalls | None
) -> Starlette:
    """The application of one process, with the endpoints of the services that it has."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "SERVING"})

    async def metrics_page(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    routes = [Route("/healthz", healthz), Route("/metrics", metrics_page)]
    routes += [Route(call.http_path, _call_endpoint(call, guard), methods=["POST"]) for call in calls]
    if key_value is not None:
        plain, oblivious = _key_value_endpoints(key_value, guard)
        routes += [
            Route("/v2/getvalues", plain, methods=["PUT"]),
            # The reference binds the same call below any prefix.
            Route("/{prefix:path}/v2/getvalues", plain, methods=["PUT"]),
            Route("/v2/oblivious_getvalues", oblivious, methods=["POST"]),
        ]
    return Starlette(routes=routes)


_Endpoint = Callable[[Request], Awaitable[Response]]


def _call_endpoint(call: Call[Any, Any], guard: Guard) -> _Endpoint:
    """POST of the JSON of the request message, answered with the JSON of the reply message."""

    async def answer(request: Request) -> Response:
        message = _parsed_json(await _body(request), call.new_request())
        given = {name: request.headers[name] for name in FORWARDED_KEYS if name in request.headers}
        reply = await call.run(message, forwarded_metadata(given.items()), _TIMEOUT_S)
        text = json_format.MessageToJson(reply, indent=None, always_print_fields_with_no_presence=True)
        return Response(text, media_type="application/json")

    return _guarded(call.name, guard, answer)


def _parsed_json(body: bytes, message: Message) -> Message:
    try:
        return json_format.Parse(body, message)
    except (json_format.ParseError, RecursionError, ValueError) as error:
        # The parser's own text may quote the body.
        raise RequestError(f"the body is not the JSON of a {message.DESCRIPTOR.name}") from error


def _key_value_endpoints(calls: KeyValueCalls, guard: Guard) -> tuple[_Endpoint, _Endpoint]:
    async def plain(request: Request) -> Response:
        data, content_type = await calls.plain(
            await _body(request), content_type=_content_type(request), timeout_s=_TIMEOUT_S
        )
        return Response(data, media_type="application/json" if content_type.endswith("+json") else content_type)

    async def oblivious(request: Request) -> Response:
        data = await calls.oblivious(await _body(request), content_type=_content_type(request), timeout_s=_TIMEOUT_S)
        return Response(data, media_type=OBLIVIOUS_RESPONSE_TYPE)

    return _guarded("GetValuesHttp", guard, plain), _guarded("ObliviousGetValues", guard, oblivious)


def _content_type(request: Request) -> str:
    """`kv-content-type`, or `content-type`, which the reference's proxy renames to it."""
    return request.headers.get(CONTENT_TYPE_KEY) or request.headers.get("content-type", "")


def _guarded(name: str, guard: Guard, answer: _Endpoint) -> _Endpoint:
    """The endpoint with its calls counted, and errors answered with their status."""

    def failed(code: str, text: str, started: float) -> Response:
        guard.finish(name, code, started)
        number: int = StatusCode[code].value[0]
        headers = {"grpc-status": str(number), "grpc-message": quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")}
        body = {"code": number, "message": text, "details": []}
        return JSONResponse(body, status_code=http_status(code), headers=headers)

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await answer(request)
        except AdytonError as error:
            return failed(status_name(error), error.what, started)
        except Exception:  # noqa: BLE001  the edge of the process: a defect must answer too
            _log.exception("a defect in %s", name)
            return failed("INTERNAL", INTERNAL_TEXT, started)
        guard.finish(name, "OK", started)
        return response

    return endpoint


async def _body(request: Request) -> bytes:
    chunks, n_bytes = [], 0
    async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes > MAX_BODY_BYTES:
            raise RequestError(f"the body is larger than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


class HttpServer(uvicorn.Server):
    """A uvicorn server inside somebody else's event loop: it leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(app: Starlette, *, max_header_bytes: int = 16 * 1024) -> HttpServer:
    """A quiet server: access logs would tell when which client called.

    max_header_bytes: of a request's line and headers together.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        h11_max_incomplete_event_size=max_header_bytes,
        date_header=False,
        server_header=False,
    )
    return HttpServer(config)
