"""The services on gRPC: what of a call is gRPC's own, and errors turned into statuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from adyton.auction.request_metadata import forwarded_metadata
from adyton.auction.services.calls import (
    Call,
    GenerateBidsCall,
    GetBidsCall,
    ScoreAdsCall,
    SelectAdCall,
)
from adyton.auction.services.key_value import KeyValueService
from adyton.auction.services.kv_calls import KeyValueCalls
from adyton.auction.services.kv_wire import CONTENT_TYPE_KEY, OBLIVIOUS_RESPONSE_TYPE
from adyton.auction.services.ports import Metadata
from adyton.auction.services.status import INTERNAL_TEXT, status_name
from adyton.auction.services.telemetry import Metrics
from adyton.kernel.errors import AdytonError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.messages import http_body_pb2
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.messages import kv_server_v2_pb2_grpc as kv_grpc

_log = logging.getLogger(__name__)
_DEFAULT_TIMEOUT_S = 60.0
_Reply = TypeVar("_Reply")
_RequestMessage = TypeVar("_RequestMessage", bound=Message)
_ReplyMessage = TypeVar("_ReplyMessage", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


class Guard:
    """Runs one call: counts it, logs it without contents, and answers errors with their status."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def run(self, method: str, context: Context, call: Callable[[], Awaitable[_Reply]]) -> _Reply:
        """The reply of `call`, or the call is aborted with the status of its error."""
        started = time.perf_counter()
        try:
            reply = await call()
        except AdytonError as error:
            await self._abort(method, context, status_name(error), error.what, started)
        except Exception:  # noqa: BLE001  the edge of the process: a defect must answer too
            _log.exception("a defect in %s", method)
            await self._abort(method, context, "INTERNAL", INTERNAL_TEXT, started)
        self.finish(method, "OK", started)
        return reply

    async def _abort(self, method: str, context: Context, code: str, text: str, started: float) -> NoReturn:
        self.finish(method, code, started)
        await context.abort(grpc.StatusCode[code], text)
        raise AssertionError("abort always raises")

    def finish(self, method: str, code: str, started: float) -> None:
        """Count and log one call that began at `started` (`time.perf_counter`), without its contents."""
        duration_s = time.perf_counter() - started
        self._metrics.calls.labels(method, code).inc()
        self._metrics.latency_s.labels(method).observe(duration_s)
        _log.info("call", extra={"method": method, "code": code, "duration_ms": round(duration_s * 1000, 3)})


class RefuseMalformed(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers bytes that are no message with INVALID_ARGUMENT, as a bad plaintext is answered (§7.2).

    grpc itself answers UNKNOWN with the names of its classes.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = handler_call_details.method
        if name not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None or handler.unary_unary is None:
                return handler  # an unknown method, or a stream of health or reflection
            self._handlers[name] = _parsing(handler)
        return self._handlers[name]


def _parsing(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """The same handler, which parses its request itself."""
    answer: Callable[[Any, Context], Awaitable[object]] = cast(Any, handler).unary_unary
    parse: Callable[[bytes], object] = cast(Any, handler).request_deserializer

    async def run(data: bytes, context: Context) -> object:
        try:
            request = parse(data)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Malformed request.")
        return await answer(request, context)

    return grpc.unary_unary_rpc_method_handler(cast(Any, run), response_serializer=handler.response_serializer)


class SellerFrontEndServicer(ba_grpc.SellerFrontEndServicer):
    """SelectAd."""

    def __init__(self, select_ad: SelectAdCall, guard: Guard) -> None:
        self._call, self._guard = select_ad, guard

    async def SelectAd(self, request: ba.SelectAdRequest, context: Context) -> ba.SelectAdResponse:  # noqa: N802
        return await _served(self._call, request, context, self._guard)


class BuyerFrontEndServicer(ba_grpc.BuyerFrontEndServicer):
    """GetBids."""

    def __init__(self, get_bids: GetBidsCall, guard: Guard) -> None:
        self._call, self._guard = get_bids, guard

    async def GetBids(self, request: ba.GetBidsRequest, context: Context) -> ba.GetBidsResponse:  # noqa: N802
        return await _served(self._call, request, context, self._guard)


class BiddingServicer(ba_grpc.BiddingServicer):
    """GenerateProtectedAppSignalsBids, for a front end in another process."""

    def __init__(self, generate_bids: GenerateBidsCall, guard: Guard) -> None:
        self._call, self._guard = generate_bids, guard

    async def GenerateProtectedAppSignalsBids(  # noqa: N802
        self, request: ba.GenerateProtectedAppSignalsBidsRequest, context: Context
    ) -> ba.GenerateProtectedAppSignalsBidsResponse:
        return await _served(self._call, request, context, self._guard)


class AuctionServicer(ba_grpc.AuctionServicer):
    """ScoreAds, for a front end in another process."""

    def __init__(self, score_ads: ScoreAdsCall, guard: Guard) -> None:
        self._call, self._guard = score_ads, guard

    async def ScoreAds(self, request: ba.ScoreAdsRequest, context: Context) -> ba.ScoreAdsResponse:  # noqa: N802
        return await _served(self._call, request, context, self._guard)


_SERVICES: Mapping[str, tuple[str, Callable[[Any, grpc.aio.Server], None], Callable[[Any, Guard], object]]] = {
    "SelectAd": ("SellerFrontEnd", ba_grpc.add_SellerFrontEndServicer_to_server, SellerFrontEndServicer),
    "GetBids": ("BuyerFrontEnd", ba_grpc.add_BuyerFrontEndServicer_to_server, BuyerFrontEndServicer),
    "GenerateProtectedAppSignalsBids": ("Bidding", ba_grpc.add_BiddingServicer_to_server, BiddingServicer),
    "ScoreAds": ("Auction", ba_grpc.add_AuctionServicer_to_server, AuctionServicer),
}


def add_calls_to_server(server: grpc.aio.Server, calls: Iterable[Call[Any, Any]], guard: Guard) -> list[str]:
    """Offer `calls` on `server`; gives back the full names of their gRPC services."""
    names = []
    for call in calls:
        service, add, servicer = _SERVICES[call.name]
        add(servicer(call, guard), server)
        names.append(ba.DESCRIPTOR.services_by_name[service].full_name)
    return names


class KeyValueServicer(kv_grpc.KeyValueServiceServicer):
    """The three forms of GetValues."""

    def __init__(self, service: KeyValueService, calls: KeyValueCalls, guard: Guard) -> None:
        self._service = service
        self._calls = calls
        self._guard = guard

    async def GetValues(self, request: kv.GetValuesRequest, context: Context) -> kv.GetValuesResponse:  # noqa: N802
        async def call() -> kv.GetValuesResponse:
            return await self._service.get_values(request, timeout_s=_remaining_s(context))

        return await self._guard.run("GetValues", context, call)

    async def GetValuesHttp(  # noqa: N802
        self, request: kv.GetValuesHttpRequest, context: Context
    ) -> http_body_pb2.HttpBody:
        async def call() -> http_body_pb2.HttpBody:
            data, content_type = await self._calls.plain(
                request.raw_body.data, content_type=_content_type(context), timeout_s=_remaining_s(context)
            )
            return http_body_pb2.HttpBody(content_type=content_type, data=data)

        return await self._guard.run("GetValuesHttp", context, call)

    async def ObliviousGetValues(  # noqa: N802
        self, request: kv.ObliviousGetValuesRequest, context: Context
    ) -> http_body_pb2.HttpBody:
        async def call() -> http_body_pb2.HttpBody:
            data = await self._calls.oblivious(
                request.raw_body.data, content_type=_content_type(context), timeout_s=_remaining_s(context)
            )
            return http_body_pb2.HttpBody(content_type=OBLIVIOUS_RESPONSE_TYPE, data=data)

        return await self._guard.run("ObliviousGetValues", context, call)


async def _served(
    called: Call[_RequestMessage, _ReplyMessage], request: _RequestMessage, context: Context, guard: Guard
) -> _ReplyMessage:
    async def call() -> _ReplyMessage:
        return await called.run(request, _metadata(context), _remaining_s(context))

    return await guard.run(called.name, context, call)


def _metadata(context: Context) -> Metadata:
    return forwarded_metadata(tuple(context.invocation_metadata() or ()))


def _content_type(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == CONTENT_TYPE_KEY:
            return str(value)
    return ""


def _remaining_s(context: Context) -> float:
    remaining = context.time_remaining()
    return _DEFAULT_TIMEOUT_S if remaining is None else min(float(remaining), _DEFAULT_TIMEOUT_S)
