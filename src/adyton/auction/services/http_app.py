"""The HTTP side of a process: health, metrics, SelectAd as proto3 JSON (protected-auction §6, §6.8), and the JSON and
oblivious forms of the key/value service (§10.1).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus

import uvicorn
from google.protobuf import json_format
from grpc import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adyton.auction.errors import RequestError
from adyton.auction.kv_messages import CBOR_CONTENT_TYPE
from adyton.auction.request_metadata import FORWARDED_KEYS, forwarded_metadata
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
from adyton.auction.services.seller_front_end import SellerFrontEndService
from adyton.auction.services.servicers import Guard
from adyton.auction.services.status import INTERNAL_TEXT, status_name
from adyton.auction.services.telemetry import Metrics
from adyton.kernel.errors import AdytonError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.ohttp import Receiver, decapsulate_request

_log = logging.getLogger(__name__)
MAX_BODY_BYTES = 4 * 1024 * 1024
_TIMEOUT_S = 60.0
_HTTP_OF_STATUS = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
}


def build_app(
    *,
    metrics: Metrics,
    key_value: KeyValueService | None,
    keys: KeyMaterial,
    seller_front_end: SellerFrontEndService | None = None,
) -> Starlette:
    """The application of one process, with the endpoints of the services that it has."""

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
    if seller_front_end is not None:
        routes.append(Route("/v1/selectAd", _SelectAdEndpoint(seller_front_end, Guard(metrics)).call, methods=["POST"]))
    return Starlette(routes=routes)


class _SelectAdEndpoint:
    """POST /v1/selectAd: the JSON of a SelectAdRequest, `bytes` in base64; errors are the JSON of a gRPC status."""

    def __init__(self, service: SellerFrontEndService, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    async def call(self, request: Request) -> Response:
        started = time.perf_counter()
        try:
            parsed = _select_ad_request(await _body(request))
            given = {name: request.headers[name] for name in FORWARDED_KEYS if name in request.headers}
            reply = await self._service.select_ad(parsed, metadata=forwarded_metadata(given.items()))
        except AdytonError as error:
            return self._failed(status_name(error), error.what, started)
        except Exception:  # noqa: BLE001  the edge of the process: a defect must answer too
            _log.exception("a defect in SelectAd")
            return self._failed("INTERNAL", INTERNAL_TEXT, started)
        self._guard.finish("SelectAd", "OK", started)
        return Response(json_format.MessageToJson(reply, indent=None), media_type="application/json")

    def _failed(self, name: str, text: str, started: float) -> Response:
        self._guard.finish("SelectAd", name, started)
        number: int = StatusCode[name].value[0]
        status = _HTTP_OF_STATUS.get(name, HTTPStatus.INTERNAL_SERVER_ERROR)
        return JSONResponse({"code": number, "message": text, "details": []}, status_code=status)


def _select_ad_request(body: bytes) -> ba.SelectAdRequest:
    try:
        return json_format.Parse(body, ba.SelectAdRequest())
    except (json_format.ParseError, RecursionError, ValueError) as error:
        # The parser's own text may quote the body.
        raise RequestError("the body is not the JSON of a SelectAdRequest") from error


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
        media_type = response_content_type(content_type or CBOR_CONTENT_TYPE)
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
