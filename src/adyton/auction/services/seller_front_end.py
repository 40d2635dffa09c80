"""The seller front end (protected-auction §7.1): the one service that a client's ciphertext reaches.

The plaintext input lives in local variables of one call and in the encrypted requests made from it, nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adyton.auction.config import SellerFrontEndConfig
from adyton.auction.errors import DownstreamError, RequestError
from adyton.auction.kv_messages import scoring_request, scoring_signals_of_reply
from adyton.auction.seller.auction_result import chaff_result, error_result, frame_result, winner_result
from adyton.auction.seller.bid_collection import BuyerAnswer, collect_bids
from adyton.auction.seller.bid_requests import (
    build_chaff_request,
    build_get_bids_request,
    has_something_to_bid_on,
    is_protected_app_signals_active,
)
from adyton.auction.seller.buyer_cache import BuyerCache
from adyton.auction.seller.buyer_selection import MAX_BUYERS_WITH_CHAFF, chaff_candidates, select_buyers
from adyton.auction.seller.chaffing import (
    MedianChaffSizes,
    PlannedRequest,
    UniformChaffSizes,
    chaff_generator,
    plan_replay,
    plan_requests,
    within_limit,
)
from adyton.auction.seller.replay_window import is_inside_replay_window
from adyton.auction.seller.select_ad_checks import (
    CLIENT_ERROR_CODE,
    ClientInput,
    auction_config,
    check_auction_config,
    join_texts,
    read_client_input,
    request_ciphertext,
)
from adyton.auction.services.admission import Admission
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.ports import AuctionPort, BuyerFrontEndPort, KeyValuePort, Metadata, ScoreAdsRawRequest
from adyton.auction.services.status import INTERNAL_TEXT, status_name
from adyton.auction.services.telemetry import DebugPolicy, Metrics, RequestLog
from adyton.kernel.clock import Clock
from adyton.kernel.errors import AdytonError
from adyton.protocol.errors import DecryptionError, EncapsulationError, MalformedMessageError, UnknownKeyError
from adyton.protocol.frames import decode_client_frame, encode_get_bids_frame
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import server_common_pb2 as common
from adyton.protocol.ohttp import Receiver, ServerContext, decapsulate_request

STALE_TEXT = "Request timestamp is outside of the allowed window"


@dataclass(frozen=True)
class _Auction:
    """What one SelectAd call knows after its checks."""

    request: ba.SelectAdRequest
    config: ba.AuctionConfig
    client: ClientInput
    is_pas_active: bool
    metadata: Metadata
    log: RequestLog


class SellerFrontEndService:
    """SelectAd of one seller.

    buyers: the front ends that this seller knows.   key_value: None for a seller without scoring signals.
    """

    def __init__(
        self,
        config: SellerFrontEndConfig,
        *,
        keys: KeyMaterial,
        buyers: Mapping[str, BuyerFrontEndPort],
        auction: AuctionPort,
        key_value: KeyValuePort | None,
        clock: Clock,
        debug: DebugPolicy,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._keys = keys
        self._buyers = buyers
        self._auction = auction
        self._key_value = key_value
        self._clock = clock
        self._debug = debug
        self._metrics = metrics
        self._medians = MedianChaffSizes() if config.enable_chaffing_v2 else None
        self._sizes = self._medians or UniformChaffSizes()
        self._is_chaffing = config.enable_chaffing or config.enable_chaffing_v2
        self._admission = Admission(config.auctions_at_once, config.max_waiting_auctions)
        self._cache = BuyerCache() if config.enable_buyer_caching else None

    async def select_ad(self, request: ba.SelectAdRequest, *, metadata: Metadata) -> ba.SelectAdResponse:
        """The encrypted result.

        Raises RequestError with every finding of the ad server's part, EncapsulationError for a ciphertext that does
        not open, DownstreamError where a service failed, OverloadedError. What is wrong with the client's part is
        inside the result.
        """
        async with self._admission.turn():
            return await self._select_ad(request, metadata)

    async def _select_ad(self, request: ba.SelectAdRequest, metadata: Metadata) -> ba.SelectAdResponse:
        ciphertext = request_ciphertext(request)
        config = auction_config(request)
        if request.client_type != ba.CLIENT_TYPE_ANDROID:
            raise RequestError("Unsupported client type.")
        with self._metrics.timed("decrypt"):
            plaintext, context = self._open(ciphertext)
        errors = check_auction_config(config, seller_domain=self._config.seller_domain, client_type=request.client_type)
        if errors:
            raise RequestError(join_texts(errors))
        client = self._read(plaintext)
        log = self._debug.request_log(
            "seller front end",
            client.message.consented_debug_config,
            common.LogContext(generation_id=client.message.generation_id, adtech_debug_id=config.seller_debug_id),
        )
        if client.errors:
            self._metrics.event("client_error")
            log.note(join_texts(client.errors))
            return self._reply(error_result(CLIENT_ERROR_CODE, join_texts(client.errors)), context, log)
        is_active = is_protected_app_signals_active(
            request, config, is_enabled=self._config.enable_protected_app_signals
        )
        result = await self._run(_Auction(request, config, client, is_active, metadata, log))
        return self._reply(result, context, log)

    def _open(self, ciphertext: bytes) -> tuple[bytes, ServerContext]:
        try:
            return decapsulate_request(self._keys.ring, ciphertext, expect=Receiver.SELLER_FRONT_END)
        except (DecryptionError, UnknownKeyError) as error:
            raise RequestError(f"Error while decrypting protected_auction_ciphertext: {error.what}.") from error
        except EncapsulationError as error:
            raise RequestError(error.what) from error

    def _read(self, plaintext: bytes) -> ClientInput:
        try:
            payload = decode_client_frame(plaintext, read_compression=False).payload
        except MalformedMessageError:
            return ClientInput(ba.ProtectedAuctionInput(), {}, ("Unable to decode binary proto",))
        client = read_client_input(payload)
        is_fresh = is_inside_replay_window(
            client.message.request_timestamp_ms, self._clock.now_ms(), self._config.replay_window_s
        )
        if not is_fresh:
            return ClientInput(client.message, {}, (*client.errors, STALE_TEXT))
        return client

    async def _run(self, auction: _Auction) -> ba.AuctionResult:
        planned = self._plan(auction)
        answers = await self._get_bids(auction, planned)
        if not answers:
            self._metrics.event("no_buyers")
            return chaff_result()
        bids = collect_bids(answers, auction.config)
        if not bids:
            self._metrics.event("no_bids")
            return chaff_result()
        signals = await self._scoring_signals(auction, [bid.render for bid in bids])
        if self._config.requires_scoring_signals and not signals:
            self._metrics.event("no_scoring_signals")
            return chaff_result()
        score = await self._score(auction, bids, signals)
        if score is None or not score.buyer_bid > 0:
            return chaff_result()
        return winner_result(score)

    def _plan(self, auction: _Auction) -> tuple[PlannedRequest, ...]:
        usable = {
            buyer: data
            for buyer, data in auction.client.buyer_inputs.items()
            if has_something_to_bid_on(data, is_pas_active=auction.is_pas_active)
        }
        limit = self._config.max_buyers or (MAX_BUYERS_WITH_CHAFF if self._is_chaffing else None)
        generation_id = auction.client.message.generation_id
        real = select_buyers(
            configured=self._buyers, buyer_list=auction.config.buyer_list, with_input=usable, max_buyers=limit
        )
        generator = chaff_generator(generation_id)
        if self._is_chaffing:
            candidates = chaff_candidates(
                configured=self._buyers, buyer_list=auction.config.buyer_list, with_input=usable
            )
            planned = plan_requests(
                real=real,
                candidates=candidates,
                n_configured=len(self._buyers),
                sizes=self._sizes,
                generator=generator,
            )
            planned = within_limit(planned, limit)
        else:
            planned = tuple(PlannedRequest(buyer, None) for buyer in real)
        if self._cache is None:
            return planned
        called = frozenset(request.buyer for request in planned)
        remembered = self._cache.recall_or_remember(generation_id, called, now_s=self._clock.monotonic_s())
        if remembered == called:
            return planned
        return plan_replay(remembered=remembered, with_input=usable, sizes=self._sizes, generator=generator)

    async def _get_bids(self, auction: _Auction, planned: tuple[PlannedRequest, ...]) -> dict[str, BuyerAnswer]:
        """Every real buyer's answer, in alphabetical order. Waits for chaff too, or its answers would stand out."""
        timeout_ms = auction.config.buyer_timeout_ms or 0
        timeout_s = (timeout_ms if timeout_ms > 0 else self._config.get_bids_timeout_ms) / 1000
        with self._metrics.timed("get_bids"):
            answers = await asyncio.gather(*(self._get_bids_of(auction, p, timeout_s) for p in planned))
        pairs = {p.buyer: answer for p, answer in zip(planned, answers, strict=True) if not p.is_chaff}
        return dict(sorted(pairs.items()))

    async def _get_bids_of(self, auction: _Auction, planned: PlannedRequest, timeout_s: float) -> BuyerAnswer:
        generation_id = auction.client.message.generation_id
        if planned.is_chaff:
            self._metrics.event("chaff_sent")
            chaff = build_chaff_request(generation_id).SerializeToString()
            frame = encode_get_bids_frame(chaff, gzip=True, size=planned.chaff_size_bytes)
        else:
            raw = build_get_bids_request(
                buyer=planned.buyer,
                buyer_input=auction.client.buyer_inputs[planned.buyer],
                client_input=auction.client.message,
                request=auction.request,
                config=auction.config,
                is_pas_active=auction.is_pas_active,
            )
            frame = encode_get_bids_frame(raw.SerializeToString(), gzip=self._is_chaffing)
            if self._medians is not None:
                n_bytes = len(frame)
                frame = frame.ljust(self._medians.least_real_size(planned.buyer), b"\0")
                self._medians.observe(planned.buyer, n_bytes, self._sampling(generation_id, planned.buyer))
        try:
            response = await self._buyers[planned.buyer].get_bids(frame, metadata=auction.metadata, timeout_s=timeout_s)
        except AdytonError as error:
            self._metrics.event("get_bids_failed")
            auction.log.note(f"GetBids of {planned.buyer} failed: {status_name(error)} {error.what}")
            return BuyerAnswer(None)
        if response.HasField("debug_info"):
            auction.log.add_downstream(response.debug_info, planned.buyer)
        return BuyerAnswer(tuple(response.protected_app_signals_bids))

    async def _scoring_signals(self, auction: _Auction, render_urls: list[str]) -> str:
        if self._key_value is None or not self._config.uses_scoring_signals:
            return ""
        message, experiment = auction.client.message, auction.config.code_experiment_spec
        request = scoring_request(
            dict.fromkeys(render_urls),
            client_type=auction.request.client_type,
            experiment_group_id=experiment.seller_kv_experiment_group_id
            if experiment.HasField("seller_kv_experiment_group_id")
            else None,
            log_context=common.LogContext(
                generation_id=message.generation_id, adtech_debug_id=auction.config.seller_debug_id
            ),
            consented_debug_config=message.consented_debug_config
            if message.HasField("consented_debug_config")
            else None,
        )
        try:
            with self._metrics.timed("scoring_signals"):
                response = await self._key_value.get_values(request, timeout_s=self._config.key_value_timeout_ms / 1000)
            if response.HasField("debug_info"):
                auction.log.add_downstream(response.debug_info, "kv")
            return scoring_signals_of_reply(response)
        except AdytonError as error:
            auction.log.note(f"scoring signals failed: {error.what}")
            raise DownstreamError(INTERNAL_TEXT, code="INTERNAL") from error

    async def _score(
        self,
        auction: _Auction,
        bids: tuple[ba.ScoreAdsRequest.ScoreAdsRawRequest.ProtectedAppSignalsAdWithBidMetadata, ...],
        signals: str,
    ) -> ba.ScoreAdsResponse.AdScore | None:
        config, message = auction.config, auction.client.message
        raw = ScoreAdsRawRequest(
            seller_signals=config.seller_signals,
            auction_signals=config.auction_signals,
            scoring_signals=signals,
            publisher_hostname=message.publisher_name,
            per_buyer_signals={buyer: per.buyer_signals for buyer, per in config.per_buyer_config.items()},
            seller=config.seller,
            top_level_seller=config.top_level_seller,
            seller_currency=config.seller_currency,
            score_ad_version=config.code_experiment_spec.score_ad_version,
            log_context={"generation_id": message.generation_id, "adtech_debug_id": config.seller_debug_id},
            protected_app_signals_ad_bids=bids,
        )
        if message.HasField("consented_debug_config"):
            raw.consented_debug_config.CopyFrom(message.consented_debug_config)
        try:
            with self._metrics.timed("score_ads"):
                response = await self._auction.score_ads(raw, timeout_s=self._config.score_ads_timeout_ms / 1000)
        except AdytonError as error:
            auction.log.note(f"ScoreAds failed: {status_name(error)} {error.what}")
            if status_name(error) == "INTERNAL":
                self._metrics.event("score_ads_internal")
                return None
            raise
        if response.HasField("debug_info"):
            auction.log.add_downstream(response.debug_info, "auction")
        return response.ad_score if response.HasField("ad_score") else None

    def _reply(self, result: ba.AuctionResult, context: ServerContext, log: RequestLog) -> ba.SelectAdResponse:
        response = ba.SelectAdResponse(auction_result_ciphertext=context.encapsulate_response(frame_result(result)))
        info = log.debug_info()
        if info is not None:
            response.debug_info.CopyFrom(info)
        return response

    @staticmethod
    def _sampling(generation_id: str, buyer: str) -> np.random.Generator:
        return chaff_generator(f"{generation_id}\x1f{buyer}")
