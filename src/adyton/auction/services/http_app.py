"""The HTTP side of a process: health, metrics, and the JSON and oblivious forms of the key/value service."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from http import HTTPStatus

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adyton.auction.errors import RequestError
from adyton.auction.kv_messages import JSON_CONTENT_TYPE
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.key_value import KeyValueService
from adyton.auction.services.kv_wire import (
    CONTENT_TYPE_KEY,
    frame_response,
    parse_json_request,
    print_json_response,
    response_content_type,
    unframe_request,
)
from adyton.auction.services.status import status_name
from adyton.auction.services.telemetry import Metrics
from adyton.kernel.errors import AdytonError
from adyton.protocol.ohttp import Receiver, decapsulate_request

MAX_BODY_BYTES = 4 * 1024 * 1024
_TIMEOUT_S = 60.0
_HTTP_OF_STATUS = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
}


def build_app(*, metrics: Metrics, key_value: KeyValueService | None, keys: KeyMaterial) -> Starlette:
    """The application of one process."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "SERVING"})

    async def metrics_page(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    routes = [Route("/healthz", healthz), Route("/metrics", metrics_page)]
    if key_value is not None:
        endpoints = _KeyValueEndpoints(key_value, keys)
        routes += [
            Route("/v2/getvalues", endpoints.get_values, methods=["PUT"]),
            Route("/v2/oblivious_getvalues", endpoints.oblivious_get_values, methods=["POST"]),
        ]
    return Starlette(routes=routes)


class _KeyValueEndpoints:
    def __init__(self, service: KeyValueService, keys: KeyMaterial) -> None:
        self._service = service
        self._keys = keys

    async def get_values(self, request: Request) -> Response:
        try:
            parsed = parse_json_request(await _body(request))
            reply = await self._service.get_values(parsed, timeout_s=_TIMEOUT_S)
        except AdytonError as error:
            return _refusal(error)
        return Response(print_json_response(reply), media_type="application/json")

    async def oblivious_get_values(self, request: Request) -> Response:
        content_type = request.headers.get(CONTENT_TYPE_KEY, "")
        try:
            plaintext, sealed = decapsulate_request(self._keys.ring, await _body(request), expect=Receiver.KEY_VALUE)
            reply = await self._service.get_values(unframe_request(plaintext, content_type), timeout_s=_TIMEOUT_S)
        except AdytonError as error:
            return _refusal(error)
        data = sealed.encapsulate_response(frame_response(reply, content_type))
        media_type = response_content_type(content_type or JSON_CONTENT_TYPE)
        return Response(data, media_type=media_type)


async def _body(request: Request) -> bytes:
    chunks, n_bytes = [], 0
    async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes > MAX_BODY_BYTES:
            raise RequestError(f"the body is larger than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _refusal(error: AdytonError) -> Response:
    status = _HTTP_OF_STATUS.get(status_name(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    return JSONResponse({"error": error.what}, status_code=status)


class HttpServer(uvicorn.Server):
    """A uvicorn server inside somebody else's event loop: it leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(address: str) -> socket.socket:
    """A listening TCP socket for "host:port"; port 0 lets the system choose."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host.strip("[]"), int(port)))
    listener.listen(256)
    listener.setblocking(False)
    return listener


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
