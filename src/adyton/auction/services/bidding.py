"""Bidding: prepare, retrieve or look up, bid, and let out of each bid only what may leave (protected-auction §7.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from adyton.auction.buyer.bidding_rules import (
    BiddingMode,
    bidding_mode,
    generate_bid_arguments,
    keep_valid_bids,
    parse_bids,
    prepare_data_arguments,
)
from adyton.auction.buyer.egress_fields import EgressRules, limited_egress_value, unlimited_egress_value
from adyton.auction.errors import DownstreamError, ScriptError
from adyton.auction.kv_messages import ads_of_reply, lookup_request, retrieval_request
from adyton.auction.request_metadata import device_metadata
from adyton.auction.services.code_store import ScriptStore
from adyton.auction.services.egress_schemas import EgressSchemaStore
from adyton.auction.services.ports import BiddingRawResponse, KeyValuePort, Metadata
from adyton.auction.services.telemetry import DebugPolicy, Metrics, RequestLog
from adyton.kernel.chance import RandomSource
from adyton.kernel.errors import AdytonError
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages.kv_server_v2_pb2 import GetValuesResponse
from adyton.sandbox.errors import UdfThrewError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.request import one_request
from adyton.sandbox.values import HostHook

PREPARE_FUNCTION = "prepareDataForAdRetrieval"
BID_FUNCTION = "generateBid"


class BiddingService:
    """One buyer's bidding.

    prepare_data: None for a buyer that only bids in contextual mode.   hooks: host functions of both scripts.
    """

    def __init__(
        self,
        *,
        pool: SandboxPool,
        generate_bid: ScriptStore,
        prepare_data: ScriptStore | None,
        retrieval: KeyValuePort,
        lookup: KeyValuePort,
        egress_schemas: EgressSchemaStore,
        unlimited_egress_schemas: EgressSchemaStore,
        egress_rules: EgressRules,
        noise: RandomSource,
        hooks: Mapping[str, HostHook],
        udf_timeout_ms: int,
        retrieval_timeout_ms: int,
        debug: DebugPolicy,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._generate_bid = generate_bid
        self._prepare_data = prepare_data
        self._retrieval = retrieval
        self._lookup = lookup
        self._egress_schemas = egress_schemas
        self._unlimited_egress_schemas = unlimited_egress_schemas
        self._egress_rules = egress_rules
        self._noise = noise
        self._hooks = hooks
        self._udf_timeout_ms = udf_timeout_ms
        self._retrieval_timeout_s = retrieval_timeout_ms / 1000
        self._debug = debug
        self._metrics = metrics

    async def generate_bids(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        *,
        metadata: Metadata,
        timeout_s: float,
    ) -> ba.GenerateProtectedAppSignalsBidsResponse.GenerateProtectedAppSignalsBidsRawResponse:
        """The bids of this buyer.

        Raises ScriptError, UnknownVersionError, DownstreamError or the sandbox's errors, which all are INTERNAL to the
        caller (§7.3). A generateBid that throws is no error: it made no bid.
        """
        log = self._debug.request_log("bidding", raw.consented_debug_config, raw.log_context)
        try:
            async with asyncio.timeout(timeout_s):
                # A buyer's functions in one file share one context, also that of the retrieval in this process.
                with one_request():
                    bids = await self._bids(raw, metadata, log)
        except TimeoutError as error:
            raise DownstreamError("Bidding did not end before the deadline", code="DEADLINE_EXCEEDED") from error
        response = BiddingRawResponse(bids=bids)
        info = log.debug_info()
        if info is not None:
            response.debug_info.CopyFrom(info)
        return response

    async def _bids(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        metadata: Metadata,
        log: RequestLog,
    ) -> tuple[ba.ProtectedAppSignalsAdWithBid, ...]:
        mode = bidding_mode(raw)
        prepared = b'""'
        if mode is BiddingMode.CONTEXTUAL:
            ads = await self._look_up(raw, log)
        else:
            prepared = await self._prepare(raw, log)
            ads = await self._retrieve(raw, mode, prepared, metadata, log)
        if not ads:
            self._metrics.event("no_ads")
            return ()
        reply = await self._bid(raw, mode, ads, prepared, log)
        if reply is None:
            return ()
        parsed = parse_bids(reply, multi_bid_limit=raw.multi_bid_limit)
        bids = keep_valid_bids(parsed, top_level_seller=raw.top_level_seller)
        for bid in bids:
            self._set_egress_fields(bid, raw)
        return bids

    async def _prepare(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        log: RequestLog,
    ) -> bytes:
        if self._prepare_data is None:
            raise ScriptError("prepareDataForAdRetrieval is not configured")
        handle = self._prepare_data.handle(raw.blob_versions.prepare_data_for_ad_retrieval_udf)
        with self._metrics.timed("prepare_data"):
            result = await self._pool.call(
                handle,
                PREPARE_FUNCTION,
                prepare_data_arguments(raw),
                deadline_ms=self._udf_timeout_ms,
                hooks=self._hooks,
                capture_console=log.is_consented,
            )
        log.note_script(PREPARE_FUNCTION, result.console)
        return result.json

    async def _retrieve(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        mode: BiddingMode,
        prepared: bytes,
        metadata: Metadata,
        log: RequestLog,
    ) -> str:
        ids = raw.contextual_protected_app_signals_data.ad_render_ids if mode is BiddingMode.HYBRID else ()
        request = retrieval_request(
            prepared=prepared,
            device_metadata=device_metadata(metadata),
            buyer_signals=raw.buyer_signals,
            ad_render_ids=ids,
            log_context=raw.log_context,
            consented_debug_config=raw.consented_debug_config if raw.HasField("consented_debug_config") else None,
        )
        with self._metrics.timed("retrieval"):
            reply = await _internal(self._retrieval.get_values(request, timeout_s=self._retrieval_timeout_s))
        if reply.HasField("debug_info"):
            log.add_downstream(reply.debug_info, "ad_retrieval")
        return ads_of_reply(reply)

    async def _look_up(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        log: RequestLog,
    ) -> str:
        request = lookup_request(
            raw.contextual_protected_app_signals_data.ad_render_ids,
            log_context=raw.log_context,
            consented_debug_config=raw.consented_debug_config if raw.HasField("consented_debug_config") else None,
        )
        with self._metrics.timed("lookup"):
            reply = await _internal(self._lookup.get_values(request, timeout_s=self._retrieval_timeout_s))
        if reply.HasField("debug_info"):
            log.add_downstream(reply.debug_info, "kv")
        return ads_of_reply(reply)

    async def _bid(
        self,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
        mode: BiddingMode,
        ads: str,
        prepared: bytes,
        log: RequestLog,
    ) -> bytes | None:
        handle = self._generate_bid.handle(raw.blob_versions.protected_app_signals_generate_bid_udf)
        arguments = generate_bid_arguments(raw, mode=mode, ads=ads, prepared=prepared)
        try:
            with self._metrics.timed("generate_bid"):
                result = await self._pool.call(
                    handle,
                    BID_FUNCTION,
                    arguments,
                    deadline_ms=self._udf_timeout_ms,
                    hooks=self._hooks,
                    capture_console=log.is_consented,
                    ends_request=True,
                )
        except UdfThrewError as error:
            self._metrics.event("generate_bid_threw")
            log.note(f"generateBid threw: {error.script_message}")
            log.note_script(BID_FUNCTION, error.console)
            return None
        log.note_script(BID_FUNCTION, result.console)
        return result.json

    def _set_egress_fields(
        self,
        bid: ba.ProtectedAppSignalsAdWithBid,
        raw: ba.GenerateProtectedAppSignalsBidsRequest.GenerateProtectedAppSignalsBidsRawRequest,
    ) -> None:
        versions, rules = raw.blob_versions, self._egress_rules
        bid.egress_payload = limited_egress_value(
            bid.egress_payload, self._egress_schemas.schema(versions.egress_schema), rules, self._noise
        )
        bid.temporary_unlimited_egress_payload = unlimited_egress_value(
            bid.temporary_unlimited_egress_payload,
            self._unlimited_egress_schemas.schema(versions.temporary_unlimited_egress_schema),
            rules,
            self._noise,
            is_allowed_by_device=raw.enable_unlimited_egress,
        )


async def _internal(call: Awaitable[GetValuesResponse]) -> GetValuesResponse:
    """Any failure of the retrieval service is INTERNAL to our caller, whatever it was to us."""
    try:
        return await call
    except AdytonError as error:
        raise DownstreamError("Ad retrieval failed", code="INTERNAL") from error
