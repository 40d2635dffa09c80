"""The services on gRPC: open the envelope, call the service, seal its answer, turn errors into statuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError

from adyton.auction.buyer.get_bids_checks import check_envelope, read_get_bids_frame
from adyton.auction.errors import RequestError
from adyton.auction.kv_messages import CBOR_CONTENT_TYPE, JSON_CONTENT_TYPE, PROTO_CONTENT_TYPE
from adyton.auction.request_metadata import forwarded_metadata
from adyton.auction.services.auction import AuctionService
from adyton.auction.services.bidding import BiddingService
from adyton.auction.services.buyer_front_end import BuyerFrontEndService
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
from adyton.auction.services.ports import BiddingRawRequest, Metadata, ScoreAdsRawRequest
from adyton.auction.services.seller_front_end import SellerFrontEndService
from adyton.auction.services.status import INTERNAL_TEXT, status_name
from adyton.auction.services.telemetry import Metrics
from adyton.kernel.errors import AdytonError
from adyton.protocol.errors import EncapsulationError, UnknownKeyError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.messages import http_body_pb2
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.messages import kv_server_v2_pb2_grpc as kv_grpc
from adyton.protocol.ohttp import Receiver, decapsulate_request
from adyton.protocol.tee import TeeServerContext, open_request

_log = logging.getLogger(__name__)
_DEFAULT_TIMEOUT_S = 60.0
_Reply = TypeVar("_Reply")
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


class SellerFrontEndServicer(ba_grpc.SellerFrontEndServicer):
    """SelectAd."""

    def __init__(self, service: SellerFrontEndService, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    async def SelectAd(self, request: ba.SelectAdRequest, context: Context) -> ba.SelectAdResponse:  # noqa: N802
        async def call() -> ba.SelectAdResponse:
            return await self._service.select_ad(request, metadata=_metadata(context))

        return await self._guard.run("SelectAd", context, call)


class BuyerFrontEndServicer(ba_grpc.BuyerFrontEndServicer):
    """GetBids."""

    def __init__(self, service: BuyerFrontEndService, keys: KeyMaterial, guard: Guard) -> None:
        self._service = service
        self._keys = keys
        self._guard = guard

    async def GetBids(self, request: ba.GetBidsRequest, context: Context) -> ba.GetBidsResponse:  # noqa: N802
        async def call() -> ba.GetBidsResponse:
            check_envelope(request)
            plaintext, sealed = _open(self._keys, request.request_ciphertext, request.key_id)
            raw = read_get_bids_frame(plaintext)
            answer = await self._service.answer(raw, metadata=_metadata(context))
            return ba.GetBidsResponse(response_ciphertext=sealed.seal_response(answer))

        return await self._guard.run("GetBids", context, call)


class BiddingServicer(ba_grpc.BiddingServicer):
    """GenerateProtectedAppSignalsBids, for a front end in another process."""

    def __init__(self, service: BiddingService, keys: KeyMaterial, guard: Guard) -> None:
        self._service = service
        self._keys = keys
        self._guard = guard

    async def GenerateProtectedAppSignalsBids(  # noqa: N802
        self, request: ba.GenerateProtectedAppSignalsBidsRequest, context: Context
    ) -> ba.GenerateProtectedAppSignalsBidsResponse:
        async def call() -> ba.GenerateProtectedAppSignalsBidsResponse:
            plaintext, sealed = _open(self._keys, request.request_ciphertext, request.key_id)
            raw = _parsed(BiddingRawRequest.FromString, plaintext)
            reply = await self._service.generate_bids(raw, metadata=_metadata(context), timeout_s=_remaining_s(context))
            return ba.GenerateProtectedAppSignalsBidsResponse(
                response_ciphertext=sealed.seal_response(reply.SerializeToString())
            )

        return await self._guard.run("GenerateProtectedAppSignalsBids", context, call)


class AuctionServicer(ba_grpc.AuctionServicer):
    """ScoreAds, for a front end in another process."""

    def __init__(self, service: AuctionService, keys: KeyMaterial, guard: Guard) -> None:
        self._service = service
        self._keys = keys
        self._guard = guard

    async def ScoreAds(self, request: ba.ScoreAdsRequest, context: Context) -> ba.ScoreAdsResponse:  # noqa: N802
        async def call() -> ba.ScoreAdsResponse:
            plaintext, sealed = _open(self._keys, request.request_ciphertext, request.key_id)
            raw = _parsed(ScoreAdsRawRequest.FromString, plaintext)
            reply = await self._service.score_ads(raw, timeout_s=_remaining_s(context))
            return ba.ScoreAdsResponse(response_ciphertext=sealed.seal_response(reply.SerializeToString()))

        return await self._guard.run("ScoreAds", context, call)


class KeyValueServicer(kv_grpc.KeyValueServiceServicer):
    """The three forms of GetValues."""

    def __init__(self, service: KeyValueService, keys: KeyMaterial, guard: Guard) -> None:
        self._service = service
        self._keys = keys
        self._guard = guard

    async def GetValues(self, request: kv.GetValuesRequest, context: Context) -> kv.GetValuesResponse:  # noqa: N802
        async def call() -> kv.GetValuesResponse:
            return await self._service.get_values(request, timeout_s=_remaining_s(context))

        return await self._guard.run("GetValues", context, call)

    async def GetValuesHttp(  # noqa: N802
        self, request: kv.GetValuesHttpRequest, context: Context
    ) -> http_body_pb2.HttpBody:
        async def call() -> http_body_pb2.HttpBody:
            content_type = _content_type(context, JSON_CONTENT_TYPE)
            if content_type == PROTO_CONTENT_TYPE:
                parsed = _parsed(kv.GetValuesRequest.FromString, request.raw_body.data)
            else:
                parsed = parse_json_request(request.raw_body.data)
            reply = await self._service.get_values(parsed, timeout_s=_remaining_s(context))
            is_proto = content_type == PROTO_CONTENT_TYPE
            data = reply.SerializeToString() if is_proto else print_json_response(reply)
            return http_body_pb2.HttpBody(content_type=response_content_type(content_type), data=data)

        return await self._guard.run("GetValuesHttp", context, call)

    async def ObliviousGetValues(  # noqa: N802
        self, request: kv.ObliviousGetValuesRequest, context: Context
    ) -> http_body_pb2.HttpBody:
        async def call() -> http_body_pb2.HttpBody:
            content_type = _content_type(context, CBOR_CONTENT_TYPE)
            plaintext, sealed = decapsulate_request(self._keys.ring, request.raw_body.data, expect=Receiver.KEY_VALUE)
            parsed = unframe_request(plaintext, content_type)
            reply = await self._service.get_values(parsed, timeout_s=_remaining_s(context))
            data = sealed.encapsulate_response(frame_response(reply, content_type))
            return http_body_pb2.HttpBody(content_type=response_content_type(content_type), data=data)

        return await self._guard.run("ObliviousGetValues", context, call)


def _open(keys: KeyMaterial, ciphertext: bytes, key_id: str | bytes) -> tuple[bytes, TeeServerContext]:
    """Raises RequestError "Invalid key_id." or "Malformed request ciphertext." (§7.2)."""
    try:
        return open_request(keys.ring, ciphertext, key_id)
    except UnknownKeyError as error:
        raise RequestError("Invalid key_id.") from error
    except EncapsulationError as error:
        raise RequestError(error.what) from error


def _parsed(parse: Callable[[bytes], _Reply], data: bytes) -> _Reply:
    try:
        return parse(data)
    except DecodeError as error:
        raise RequestError("Malformed request.") from error


def _metadata(context: Context) -> Metadata:
    return forwarded_metadata(tuple(context.invocation_metadata() or ()))


def _content_type(context: Context, default: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == CONTENT_TYPE_KEY:
            return str(value)
    return default


def _remaining_s(context: Context) -> float:
    remaining = context.time_remaining()
    return _DEFAULT_TIMEOUT_S if remaining is None else min(float(remaining), _DEFAULT_TIMEOUT_S)
