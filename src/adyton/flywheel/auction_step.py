"""Simulated devices, real everything else: signals, encoder, encryption, gRPC to the parties' processes, reports.

Each device belongs to one held-out user and asks twice. The *open* request lets retrieval choose among all of a buyer's
ads in the device's country. The *replay* request happens at the user's one real impression whose outcome is known: the
buyers' contextual responses name the ads that show the creative of that impression, and if one of them wins, the device
reports the click that really happened.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from adyton.device.auction import AdSelectionOutcome
from adyton.device.device import Device
from adyton.device.encoding import Step
from adyton.device.errors import AuctionResultError
from adyton.device.reporting import Destination
from adyton.device.runtime import SandboxEncoder
from adyton.device.web import Web
from adyton.flywheel.device_signals import SignalPlan
from adyton.flywheel.held_out import HeldOutUser
from adyton.flywheel.party_processes import PartyProcesses, buyer_config, party_processes, seller_config
from adyton.flywheel.progress import StepProgress
from adyton.flywheel.publish_step import PublishedBuyer
from adyton.kernel.chance import stream
from adyton.protocol.keys import TEST_MODE_KEY
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as services
from adyton.sandbox.pool import SandboxPool

SELLER = "seller.example"
PACKAGE = "com.example.feed"
FLOOR = 0.0
_AT_ONCE = 2
_DEADLINE_S = 10.0


@dataclass(frozen=True)
class AuctionRun:
    """One request of one device. reply_bytes: of the ciphertext.   failure: class of the error, None if it worked.

    clicked: what really happened, for replays of an impression; None where nobody knows.
    """

    device: int
    request: str
    is_replay: bool
    milliseconds: float
    request_bytes: int
    reply_bytes: int
    buyer: str
    render_url: str
    clicked: bool | None
    failure: str | None


@dataclass(frozen=True)
class AuctionStep:
    """All runs, and where the collectors left their reports: buyer -> folder of Parquet files."""

    runs: tuple[AuctionRun, ...]
    reports: Mapping[str, Path]
    devices: int
    isolation: str


@dataclass(frozen=True)
class AuctionPlan:
    """What the step needs.

    partner_buyers: those whose model wants the publisher's events too.   ads_by_creative: ids of published ads.
    countries: where devices are, with weights.   work, reports: folders for what is thrown away and what is kept.
    """

    buyers: Sequence[PublishedBuyer]
    seller_folder: Path
    users: Sequence[HeldOutUser]
    signals: SignalPlan
    partner_buyers: frozenset[str]
    ads_by_creative: Mapping[str, Sequence[str]]
    countries: Mapping[str, float]
    egress_bits: int
    noise_rate: str
    fixed_noise: bool
    seed: int
    work: Path
    reports: Path


def marker(seed: int, device: int) -> bytes:
    """Sixteen bytes that each device stores as a signal, so that a test can search for them in what a run wrote."""
    return stream(seed, "marker", device).bytes(16)


async def run_auctions(plan: AuctionPlan, progress: StepProgress) -> AuctionStep:
    """Start every party, run every device, stop every party."""
    async with party_processes(plan.work / "processes") as processes, SandboxPool(spares=1) as pool:
        collectors: dict[str, str] = {b.buyer: await processes.collect(plan.reports / b.buyer) for b in plan.buyers}
        collectors[SELLER] = await processes.collect(plan.reports / SELLER)
        address = await _serve(plan, processes)
        progress.update(0.15, "parties are up")
        async with Web(routes=collectors) as web, grpc.aio.insecure_channel(address) as channel:
            runner = _Runner(plan, web, SandboxEncoder(pool), services.SellerFrontEndStub(channel))  # type: ignore[no-untyped-call]
            runs = await runner.run(progress)
        isolation = pool.isolation.meaning
    return AuctionStep(tuple(runs), {b.buyer: plan.reports / b.buyer for b in plan.buyers}, len(plan.users), isolation)


async def _serve(plan: AuctionPlan, processes: PartyProcesses) -> str:
    addresses = await asyncio.gather(
        *(
            processes.serve(
                buyer_config(
                    buyer,
                    egress_bits=plan.egress_bits,
                    noise_rate=plan.noise_rate,
                    fixed_noise_seed=plan.seed if plan.fixed_noise else None,
                )
            )
            for buyer in plan.buyers
        )
    )
    fronts: dict[str, tuple[str, Path]] = {
        buyer.buyer: (address, buyer.folder / "report_win.js")
        for buyer, address in zip(plan.buyers, addresses, strict=True)
    }
    return await processes.serve(seller_config(plan.seller_folder, SELLER, fronts))


class _Runner:
    def __init__(self, plan: AuctionPlan, web: Web, runtime: SandboxEncoder, front_end: Any) -> None:
        self._plan = plan
        self._web = web
        self._runtime = runtime
        self._front_end = front_end
        self._done = 0

    async def run(self, progress: StepProgress) -> list[AuctionRun]:
        # Fixed noise repeats itself only if requests come in the same order.
        limit = asyncio.Semaphore(1 if self._plan.fixed_noise else _AT_ONCE)
        total = len(self._plan.users)

        async def one(user: HeldOutUser) -> list[AuctionRun]:
            async with limit:
                runs = await self._device(user)
            self._done += 1
            progress.update(0.15 + 0.85 * self._done / total, f"{self._done} of {total} devices")
            return runs

        results = await asyncio.gather(*(one(user) for user in self._plan.users))
        return [run for runs in results for run in runs]

    async def _device(self, user: HeldOutUser) -> list[AuctionRun]:
        plan = self._plan
        stores = plan.work / "devices"
        stores.mkdir(parents=True, exist_ok=True)
        device = Device.open(
            stores / f"{user.number}.sqlite",
            web=self._web,
            device_key=stream(plan.seed, "device key", user.number).bytes(32),
            runtime=self._runtime,
            public_keys=[TEST_MODE_KEY.public_key],
        )
        try:
            secret = marker(plan.seed, user.number)
            for buyer in plan.buyers:
                with_partner = buyer.buyer in plan.partner_buyers
                device.install_encoder(buyer.buyer, buyer.encoder, version=1)
                update = plan.signals.update_json(user, secret, with_partner=with_partner)
                device.apply_update(buyer.buyer, PACKAGE, update)
            outcomes = await device.encode()
            if any(outcome.step is not Step.RUN or outcome.failure is not None for outcome in outcomes):
                return [self._failed(user, "EncodingFailed")]
            country = self._country(user)
            named = plan.ads_by_creative.get(user.moment.creative_id, ())
            runs = [await self._auction(device, user, f"{user.number}-open", country, ())]
            if named:
                runs.append(await self._auction(device, user, f"{user.number}-replay", country, named))
            return runs
        finally:
            device.close()

    async def _auction(
        self, device: Device, user: HeldOutUser, request: str, country: str, named: Sequence[str]
    ) -> AuctionRun:
        started = time.perf_counter()
        asked = device.get_ad_selection_data(SELLER, package=PACKAGE)
        run = AuctionRun(user.number, request, bool(named), 0.0, len(asked.data), 0, "", "", None, None)
        config = self._auction_config(user, request, country, named)
        try:
            reply = await self._front_end.SelectAd(
                messages.SelectAdRequest(
                    protected_auction_ciphertext=asked.data,
                    auction_config=config,
                    client_type=messages.CLIENT_TYPE_ANDROID,
                ),
                timeout=_DEADLINE_S,
            )
            outcome = device.persist_ad_selection_result(asked.ad_selection_id, reply.auction_result_ciphertext)
        except grpc.aio.AioRpcError as error:
            return replace(run, failure=error.code().name)
        except AuctionResultError as error:
            return replace(run, failure=type(error).__name__)
        run = replace(
            run,
            milliseconds=1000 * (time.perf_counter() - started),
            reply_bytes=len(reply.auction_result_ciphertext),
            buyer=outcome.buyer,
            render_url=outcome.ad_render_uri,
        )
        return await self._report(device, user, outcome, run)

    async def _report(
        self, device: Device, user: HeldOutUser, outcome: AdSelectionOutcome, run: AuctionRun
    ) -> AuctionRun:
        if not outcome.has_winner:
            return run
        told = await device.report_impression(outcome.ad_selection_id)
        if told.failed:
            return replace(run, failure="ReportFailed")
        if not run.is_replay:
            return run
        if user.moment.clicked:
            await device.report_event(outcome.ad_selection_id, "click", "", [Destination.BUYER])
        return replace(run, clicked=user.moment.clicked)

    def _auction_config(
        self, user: HeldOutUser, request: str, country: str, named: Sequence[str]
    ) -> messages.AuctionConfig:
        config = messages.AuctionConfig(
            seller=SELLER,
            seller_signals=json.dumps({"floor": FLOOR, "reportingHost": SELLER}),
            auction_signals=json.dumps({"request": request}),
            buyer_list=[buyer.buyer for buyer in self._plan.buyers],
        )
        for buyer in self._plan.buyers:
            signals = {"country": country, "request": request, "context": buyer.context(user.moment)}
            per_buyer = config.per_buyer_config[buyer.buyer]
            per_buyer.buyer_signals = json.dumps(signals)
            if named:
                per_buyer.contextual_protected_app_signals_data.ad_render_ids.extend(named)
                per_buyer.contextual_protected_app_signals_data.fetch_ads_from_retrieval_service = True
        return config

    def _country(self, user: HeldOutUser) -> str:
        names = sorted(self._plan.countries)
        weights = [self._plan.countries[name] for name in names]
        total = sum(weights)
        draw = stream(self._plan.seed, "country", user.number).choice(len(names), p=[w / total for w in weights])
        return names[int(draw)]

    def _failed(self, user: HeldOutUser, failure: str) -> AuctionRun:
        return AuctionRun(user.number, f"{user.number}-open", False, 0.0, 0, 0, "", "", None, failure)
