"""One process of one party: builds the services of its configuration, joins them, and serves until told to stop.

One module, since the order in which parts open and close is one thing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from adyton.auction.buyer.egress_fields import EgressRules
from adyton.auction.config import AuctionConfig, BiddingConfig, KeysConfig, KeyValueConfig, ProcessConfig, ScriptSource
from adyton.auction.errors import ConfigError
from adyton.auction.keys.attestation import AttestedCaller
from adyton.auction.retrieval.store import AdRetrievalStore
from adyton.auction.retrieval.watcher import FolderWatcher
from adyton.auction.services.admission import Admission
from adyton.auction.services.auction import AuctionService
from adyton.auction.services.bidding import BiddingService
from adyton.auction.services.buyer_front_end import BuyerFrontEndService
from adyton.auction.services.calls import (
    Call,
    generate_bids_call,
    get_bids_call,
    score_ads_call,
    select_ad_call,
)
from adyton.auction.services.clients import (
    CHANNEL_OPTIONS,
    RemoteAuction,
    RemoteBidding,
    RemoteBuyerFrontEnd,
    RemoteKeyValue,
    open_channel,
)
from adyton.auction.services.code_store import BlobFetcher, ScriptStore
from adyton.auction.services.data_script import DataScript
from adyton.auction.services.egress_schemas import EgressSchemaStore, validate_hook
from adyton.auction.services.http_app import build_app, http_server
from adyton.auction.services.inference import InferenceSide, open_inference
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.key_source import load_keys, refresh_keys
from adyton.auction.services.key_value import KeyValueService
from adyton.auction.services.kv_calls import KeyValueCalls
from adyton.auction.services.listening import EXCLUSIVE_PORT, add_port, bind
from adyton.auction.services.ports import AuctionPort, BiddingPort, KeyValuePort
from adyton.auction.services.seller_front_end import SellerFrontEndService
from adyton.auction.services.servicers import Guard, KeyValueServicer, RefuseMalformed, add_calls_to_server
from adyton.auction.services.telemetry import DebugPolicy, Metrics
from adyton.kernel.chance import InsecureFixedRandom, OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.errors import AdytonError
from adyton.protocol.egress_schema import Dialect
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.messages import kv_server_v2_pb2_grpc as kv_grpc
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import HostHook, SandboxLimits, UdfKind

_log = logging.getLogger(__name__)
_STOP_GRACE_S = 5.0


@dataclass(frozen=True)
class Addresses:
    """Where a running process listens, as "host:port"; http is None without an HTTP side."""

    grpc: str
    http: str | None

    def as_json(self) -> dict[str, str | None]:
        return {"grpc": self.grpc, "http": self.http}


class PartyProcess:
    """The services of one configuration, as an async context manager.

        async with PartyProcess(load_config(path)) as party:
            print(party.addresses.grpc)
            await party.serve_forever()

    keys: None for the keys that the configuration names.   caller: proves to key services what code runs here; needed
    where the configuration names coordinators.   clock: for records and replay windows.
    """

    def __init__(
        self,
        config: ProcessConfig,
        *,
        keys: KeyMaterial | None = None,
        caller: AttestedCaller | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self._given_keys = keys
        self._caller = caller
        self._clock: Clock = clock or SystemClock()
        self._debug = DebugPolicy(config.consented_debug_token, config.production)
        self._stack = AsyncExitStack()
        self._fetcher = BlobFetcher(timeout_ms=config.code_fetch_timeout_ms)
        self._scripts: list[ScriptStore] = []
        self._schemas: list[EgressSchemaStore] = []
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        """Where the process listens; known once it is open."""
        if self._addresses is None:
            raise ConfigError("the process is not open", hint="use `async with PartyProcess(...)`")
        return self._addresses

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def refresh_code(self) -> None:
        """Look at every script and schema again now, and swap what changed."""
        for script in self._scripts:
            await script.refresh()
        for schema in self._schemas:
            await schema.refresh()

    async def _open(self) -> None:
        config, stack = self.config, self._stack
        keys = self._given_keys or await self._keys()
        self._pool = await stack.enter_async_context(self._sandbox())
        inference = await self._inference()
        key_value = await self._key_value(config.key_value) if config.key_value else None
        bidding = await self._bidding(config.bidding, key_value, inference, keys) if config.bidding else None
        auction = await self._auction(config.auction) if config.auction else None
        buyer_front_end = self._buyer_front_end(bidding, keys)
        seller_front_end = self._seller_front_end(auction, key_value, keys)
        await self.refresh_code()

        server = grpc.aio.server(interceptors=[RefuseMalformed()], options=(*CHANNEL_OPTIONS, EXCLUSIVE_PORT))
        guard, names = Guard(self.metrics), [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        calls: list[Call[Any, Any]] = []
        if seller_front_end is not None:
            calls.append(select_ad_call(seller_front_end))
        if buyer_front_end is not None:
            calls.append(get_bids_call(buyer_front_end, keys))
        if bidding is not None:
            calls.append(generate_bids_call(bidding, keys))
        if auction is not None:
            calls.append(score_ads_call(auction, keys))
        names += add_calls_to_server(server, calls, guard)
        kv_calls = None if key_value is None else KeyValueCalls(key_value, keys)
        if key_value is not None and kv_calls is not None:
            kv_grpc.add_KeyValueServiceServicer_to_server(KeyValueServicer(key_value, kv_calls, guard), server)  # type: ignore[no-untyped-call]
            names.append(kv.DESCRIPTOR.services_by_name["KeyValueService"].full_name)
        if inference is not None and inference.servicer is not None:
            names.append(inference.add_to_server(server))
        health = grpc_health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        address = add_port(server, config.listen)
        await server.start()
        stack.push_async_callback(server.stop, _STOP_GRACE_S)
        http_address = await self._serve_http(guard, calls, kv_calls)
        self._addresses = Addresses(address, http_address)
        for name in ("", *names):
            await health.set(name, health_pb2.HealthCheckResponse.SERVING)
        stack.push_async_callback(health.enter_graceful_shutdown)
        self._in_background(self._refresh_forever())

    def _sandbox(self) -> SandboxPool:
        sandbox = self.config.sandbox
        limits = SandboxLimits(
            workers=sandbox.workers,
            workers_per_udf=sandbox.workers_per_udf,
            requests_per_worker=sandbox.requests_per_worker,
        )
        return SandboxPool(limits=limits, spares=sandbox.spares, clock=self._clock, engine=sandbox.engine)

    async def _keys(self) -> KeyMaterial:
        if self.config.test_mode:
            return KeyMaterial.test_mode()
        config = self.config.keys
        assert config is not None, "the configuration was checked"
        material = await load_keys(config, self._fetcher, caller=self._caller)
        self._in_background(self._refresh_keys_forever(material, config))
        return material

    async def _inference(self) -> InferenceSide | None:
        config = self.config
        address = config.bidding.inference_address if config.bidding else None
        if config.inference is None and address is None:
            return None
        return await self._stack.enter_async_context(
            open_inference(
                config.inference, address, clock=self._clock, fetch_timeout_s=config.code_fetch_timeout_ms / 1000
            )
        )

    async def _key_value(self, config: KeyValueConfig) -> KeyValueService:
        store = AdRetrievalStore()
        watcher = FolderWatcher(store, Path(config.snapshot), period_s=config.poll_period_ms / 1000)
        try:
            await watcher.scan()
        except OSError as error:
            raise ConfigError(
                f"the snapshot folder cannot be read ({error.strerror})", where=config.snapshot
            ) from error
        self._in_background(watcher.run())
        data_script = DataScript(self._pool, owner=self.config.name, newest=lambda: store.udf)
        self._stack.push_async_callback(data_script.close)
        return KeyValueService(
            pool=self._pool,
            udf=self._script(UdfKind.RETRIEVAL, config.udf),
            data_script=data_script,
            handler_name=config.handler_name,
            hooks=store.hooks(),
            udf_timeout_ms=config.udf_timeout_ms,
            debug=self._debug,
            metrics=self.metrics,
        )

    async def _bidding(
        self,
        config: BiddingConfig,
        key_value: KeyValueService | None,
        inference: InferenceSide | None,
        keys: KeyMaterial,
    ) -> BiddingService:
        generate_bid = self._script(UdfKind.GENERATE_BID, config.generate_bid)
        assert generate_bid is not None, "the configuration requires it"
        retrieval = self._key_value_port(config.retrieval_address, key_value, keys)
        lookup = self._key_value_port(config.lookup_address, key_value, keys) or retrieval
        assert retrieval is not None, "the configuration was checked"
        assert lookup is not None, "it falls back to retrieval"
        hooks: Mapping[str, HostHook] = inference.hooks if inference is not None else {}
        schemas = self._egress_schemas(config.egress_schema, config.egress_dialect)
        seed = config.insecure_fixed_noise_seed
        noise: RandomSource = OsRandom() if seed is None else InsecureFixedRandom(seed, "egress noise")
        if seed is not None:
            _log.warning("egress noise repeats itself: insecure_fixed_noise_seed is set, and it protects nobody")
        return BiddingService(
            pool=self._pool,
            generate_bid=generate_bid,
            prepare_data=self._script(UdfKind.PREPARE_DATA, config.prepare_data),
            retrieval=retrieval,
            lookup=lookup,
            egress_schemas=schemas,
            unlimited_egress_schemas=self._egress_schemas(
                config.temporary_unlimited_egress_schema, config.egress_dialect
            ),
            egress_rules=EgressRules(
                limited_bits=config.limited_egress_bits,
                is_unlimited_enabled=config.enable_temporary_unlimited_egress,
                noise_rate=config.noise_rate,
                noises_unlimited=config.noise_temporary_unlimited_egress,
                protocol=config.egress_protocol,
                pads_to_limit=config.pad_egress_to_limit,
            ),
            noise=noise,
            hooks={**hooks, "validate": validate_hook(config.egress_dialect)},
            udf_timeout_ms=config.udf_timeout_ms,
            retrieval_timeout_ms=config.retrieval_timeout_ms,
            debug=self._debug,
            metrics=self.metrics,
        )

    async def _auction(self, config: AuctionConfig) -> AuctionService:
        score_ad = self._script(UdfKind.SCORE_AD, config.score_ad)
        assert score_ad is not None, "the configuration requires it"
        report_win: dict[str, ScriptStore] = {}
        if config.enable_report_win:
            for buyer, source in config.report_win.items():
                script = self._script(UdfKind.REPORTING, source, buyer=buyer)
                assert script is not None, "a buyer's source is never None"
                report_win[buyer] = script
        front = self.config.seller_front_end
        return AuctionService(
            pool=self._pool,
            score_ad=score_ad,
            report_result=self._script(UdfKind.REPORTING, config.score_ad) if config.enable_report_result else None,
            report_win=report_win,
            is_signal_required=front.requires_scoring_signals if front else config.requires_scoring_signals,
            rounds_reported_numbers=config.enable_report_win_input_noising,
            udf_timeout_ms=config.udf_timeout_ms,
            debug=self._debug,
            metrics=self.metrics,
        )

    def _buyer_front_end(self, bidding: BiddingPort | None, keys: KeyMaterial) -> BuyerFrontEndService | None:
        config = self.config.buyer_front_end
        if config is None:
            return None
        if config.bidding_address is not None:
            bidding = RemoteBidding(self._channel(config.bidding_address), keys)
        assert bidding is not None, "the configuration was checked"
        return BuyerFrontEndService(
            bidding=bidding,
            bidding_timeout_ms=config.bidding_timeout_ms,
            debug=self._debug,
            metrics=self.metrics,
            admission=Admission(config.requests_at_once, config.max_waiting_requests),
        )

    def _seller_front_end(
        self, auction: AuctionPort | None, key_value: KeyValueService | None, keys: KeyMaterial
    ) -> SellerFrontEndService | None:
        config = self.config.seller_front_end
        if config is None:
            return None
        if config.auction_address is not None:
            auction = RemoteAuction(self._channel(config.auction_address), keys)
        assert auction is not None, "the configuration was checked"
        return SellerFrontEndService(
            config,
            keys=keys,
            buyers={
                buyer: RemoteBuyerFrontEnd(self._channel(address), keys) for buyer, address in config.buyers.items()
            },
            auction=auction,
            key_value=self._key_value_port(
                config.key_value_address, key_value, keys, untrusted=config.untrusted_key_value_url
            ),
            clock=self._clock,
            debug=self._debug,
            metrics=self.metrics,
        )

    def _key_value_port(
        self, address: str | None, local: KeyValueService | None, keys: KeyMaterial, *, untrusted: str | None = None
    ) -> KeyValuePort | None:
        if address is not None:
            return RemoteKeyValue(self._channel(address), keys)
        if untrusted is None:
            return local
        from adyton.auction.services.untrusted_key_value import UntrustedKeyValue  # its HTTP client loads slowly

        _log.warning("scoring signals come from an untrusted server, which learns which ads were bid on")
        client = UntrustedKeyValue(untrusted)
        self._stack.push_async_callback(client.close)
        return client

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = open_channel(address)
        self._stack.push_async_callback(channel.close, None)
        return channel

    def _script(self, kind: UdfKind, source: ScriptSource | None, *, buyer: str | None = None) -> ScriptStore | None:
        """The versions of a script of this party, or of a buyer whose code a seller runs."""
        if source is None:
            return None
        owner = self.config.name if buyer is None else f"{self.config.name}/report_win/{buyer}"
        script = ScriptStore(self._pool, self._fetcher, owner=owner, kind=kind, source=source)
        self._scripts.append(script)
        self._stack.push_async_callback(script.close)
        return script

    def _egress_schemas(self, source: ScriptSource | None, dialect: Dialect) -> EgressSchemaStore:
        store = EgressSchemaStore(self._fetcher, source, dialect=dialect)
        self._schemas.append(store)
        return store

    async def _serve_http(
        self, guard: Guard, calls: Sequence[Call[Any, Any]], key_value: KeyValueCalls | None
    ) -> str | None:
        if self.config.http_listen is None:
            return None
        listener = bind(self.config.http_listen)
        app = build_app(metrics=self.metrics, guard=guard, calls=calls, key_value=key_value)
        server = http_server(app)
        task = asyncio.create_task(server.serve(sockets=[listener]))

        async def stop() -> None:
            server.should_exit = True
            await task

        self._stack.push_async_callback(stop)
        host, port = listener.getsockname()[:2]
        return f"{host}:{port}"

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self.config.code_fetch_period_ms / 1000)
            try:
                await self.refresh_code()
            except AdytonError as error:
                _log.warning("code was not refreshed: %s", error)

    async def _refresh_keys_forever(self, material: KeyMaterial, config: KeysConfig) -> None:
        while True:
            await asyncio.sleep(config.refresh_period_ms / 1000)
            try:
                await refresh_keys(material, config, self._fetcher, caller=self._caller)
            except AdytonError as error:
                _log.warning("keys were not refreshed: %s", error)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_tell_of_a_defect)

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(stop)


def _tell_of_a_defect(task: asyncio.Task[None]) -> None:
    """Background work has no end of its own: where it ends, files, code or keys are no longer followed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a defect ended work in the background", exc_info=error)
