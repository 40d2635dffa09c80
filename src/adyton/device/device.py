"""A device as an SDK and its user see it: signals in, sealed auction input out, results and reports, user controls.

    async with Web() as web, SandboxPool() as pool:
        device = Device.open(path, device_key=key, web=web, runtime=SandboxEncoder(pool), public_keys=keys)
        await device.update_signals("https://buyer.example/signals", package="com.news")
        await device.encode()
        asked = device.get_ad_selection_data("seller.example", package="com.news")
        outcome = device.persist_ad_selection_result(asked.ad_selection_id, response_bytes)
        await device.report_impression(outcome.ad_selection_id)

One class, since an SDK sees one object. Cheap enough for hundreds in one process, which share `web`, `runtime`,
`enrolment` and `clock`. Not for several threads.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from adyton.device import encoding
from adyton.device.auction import (
    MAX_BEACONS,
    OPTED_OUT_BYTES,
    AdSelectionData,
    AdSelectionOutcome,
    AuctionPolicy,
    SellerConfiguration,
    auction_input,
    context_from_bytes,
    context_to_bytes,
    new_ad_selection_id,
    open_auction_result,
    outcome_from_bytes,
    outcome_to_bytes,
    seal_auction_input,
)
from adyton.device.delegation import PACKAGE_HEADER, ask_acknowledgement
from adyton.device.enrolment import OPEN_ENROLMENT, Enrolment, belongs_to, check_domain, check_package_name, https_host
from adyton.device.errors import (
    AdTechServerError,
    BackgroundCallerError,
    DelegationError,
    NoPublicKeyError,
    RateExceededError,
    UnknownSelectionError,
)
from adyton.device.job import EncodingJob, EncodingOutcome
from adyton.device.public_keys import PublicKeyCache
from adyton.device.records import AppUse, SignalFacts
from adyton.device.reporting import MAX_EVENT_BYTES, Destination, ReportOutcome, send_event, send_impression
from adyton.device.runtime import EncoderRuntime
from adyton.device.signals import TIME_TO_LIVE_MS, apply_update, is_expired
from adyton.device.store import DeviceStore
from adyton.device.vault import DEVICE_KEY_BYTES, Vault
from adyton.device.web import Web
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.ids import AdSelectionId, BuyerId
from adyton.protocol.keys import PublicKey
from adyton.protocol.signal_updates import MAX_UPDATE_BYTES, SignalUpdate, parse_update

MIN_UPDATE_INTERVAL_S = 1.0
SELECTION_LIFETIME_MS = 24 * 3_600_000
"""How long a selection can still be completed and reported: our choice, the spec names none."""
_REFUSED_BY_USER = b""
"""In place of an encryption context: nothing was sent that could be answered."""
_log = logging.getLogger(__name__)


class Device:
    """One device. Make it with `Device.open`."""

    def __init__(
        self,
        store: DeviceStore,
        *,
        web: Web,
        runtime: EncoderRuntime | None = None,
        enrolment: Enrolment = OPEN_ENROLMENT,
        public_keys: Sequence[PublicKey] = (),
        policy: AuctionPolicy | None = None,
        clock: Clock | None = None,
        source: RandomSource | None = None,
        encode_after_update: bool = False,
        enforce_foreground: bool = False,
    ) -> None:
        self._store = store
        self._web = web
        self._enrolment = enrolment
        self._policy = policy or AuctionPolicy()
        self._clock: Clock = clock or SystemClock()
        self._source: RandomSource = source or OsRandom()
        self._keys = {"": PublicKeyCache(public_keys, web, self._clock)}
        self._encode_after_update = encode_after_update
        self._enforce_foreground = enforce_foreground
        self._job = EncodingJob(store, web, runtime, self._clock)
        self._last_update_s: dict[str, float] = {}

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        web: Web,
        device_key: bytes | None = None,
        runtime: EncoderRuntime | None = None,
        enrolment: Enrolment = OPEN_ENROLMENT,
        public_keys: Sequence[PublicKey] = (),
        policy: AuctionPolicy | None = None,
        clock: Clock | None = None,
        source: RandomSource | None = None,
        encode_after_update: bool = False,
        enforce_foreground: bool = False,
    ) -> Device:
        """The device whose store is the file at `path`, or one in memory if `path` is None.

        device_key: 32 bytes that seal what is stored (`vault.load_device_key`); a new one only for a store in memory.
        enrolment: without one, every https host is the ad tech of its own URLs.   public_keys: the seller's.
        enforce_foreground: updates of apps in the background are refused.   Raises DeviceStoreError.
        """
        source = source or OsRandom()
        if device_key is None and path is None:
            device_key = source.token(DEVICE_KEY_BYTES)
        store = DeviceStore(path, Vault(device_key or b"", source))
        return cls(
            store,
            web=web,
            runtime=runtime,
            enrolment=enrolment,
            public_keys=public_keys,
            policy=policy,
            clock=clock,
            source=source,
            encode_after_update=encode_after_update,
            enforce_foreground=enforce_foreground,
        )

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    # ---- signals

    async def update_signals(
        self,
        update_uri: str,
        *,
        package: str,
        uid: int | None = None,
        is_foreground: bool = True,
        buyer: str | None = None,
        verification_token: str | None = None,
    ) -> None:
        """Fetch an update for the calling app `package` and apply it (protected-auction §2.1).

        buyer, verification_token: for an update that a partner of `buyer` serves, with the token by which `buyer` let
        it. Nothing happens, without a word, if the user opted out or blocked the app: after every check, since an app
        could tell the choice from a check that was left out.
        Raises UpdateUriError, NotAllowedError, DelegationError, RateExceededError, BackgroundCallerError,
        AdTechServerError and SignalUpdateError.
        """
        self._enrolment.check_package(package, uid)
        self._throttle(package)
        if self._enforce_foreground and not is_foreground:
            raise BackgroundCallerError(
                "Background thread is not allowed to call this service.", where=package, hint="bring the app to front"
            )
        host = https_host(update_uri)
        owner = self._ad_tech(update_uri, host, buyer, package, verification_token)
        if self._is_refused_by_user(package):
            return
        reply = await self._web.get(update_uri, max_bytes=MAX_UPDATE_BYTES, headers={PACKAGE_HEADER: package})
        update = parse_update(reply.body)
        if not belongs_to(host, owner):
            endpoint = self._enrolment.acknowledgement_endpoint(owner)
            if endpoint is not None:
                token = verification_token or ""
                await ask_acknowledgement(
                    endpoint, self._web, token=token, partner=host, package=package, update=reply.body
                )
        await self._apply(owner, update, package)

    fetch_signal_updates = update_signals
    """The proposal's name for the same."""

    def apply_update(self, buyer: str, package: str, update_json: bytes | str) -> None:
        """Apply an update that is already here, under the same rules but the throttle; no script is downloaded.

        Raises NotAllowedError, SignalUpdateError.
        """
        check_package_name(package)
        self._enrolment.check_ad_tech(buyer, package)
        if self._is_refused_by_user(package):
            return
        self._write(BuyerId(buyer), parse_update(update_json), package)

    def install_encoder(self, buyer: str, script: bytes | str, *, version: int = 0, endpoint: str = "") -> None:
        """Give a buyer an encoding script that is already here, as a registration with its download would.

        Raises BadInputError if the buyer is no domain, AdTechServerError if the script is empty or not UTF-8.
        """
        check_domain(buyer)
        code = script if isinstance(script, bytes) else script.encode()
        with self._store.transaction():
            self._store.register_encoder(
                BuyerId(buyer), endpoint or f"https://{buyer}/encoder.js", self._clock.now_ms()
            )
            self._job.store_script(BuyerId(buyer), code, version)

    def list_signals(self) -> list[SignalFacts]:
        """Buyer, app, time and size of every signal, never its content."""
        return self._store.signal_facts()

    async def encode(self, buyer: str | None = None) -> list[EncodingOutcome]:
        """Run the hourly job now, for one buyer or for all (protected-auction §3.1)."""
        if self._store.opted_out:
            return []
        return await self._job.run() if buyer is None else [await self._job.run_for(BuyerId(buyer))]

    # ---- auction

    async def fetch_public_keys(self, url: str, *, coordinator: str = "") -> None:
        """Get a coordinator's key list, unless the one here is still fresh (protected-auction §14.1).

        coordinator: the origin that sellers name it by; "" for the default.   Raises AdTechServerError, KeyListError.
        """
        cache = self._keys.get(coordinator) or self._keys[""].empty_like()
        await cache.refresh(url)
        self._keys[coordinator] = cache

    def get_ad_selection_data(
        self,
        seller: str,
        *,
        package: str,
        configuration: SellerConfiguration | None = None,
        coordinator: str = "",
    ) -> AdSelectionData:
        """The sealed input of an auction of `seller` in the app `package` (protected-auction §4.1).

        coordinator: whose key list the input is sealed to.
        If the user opted out or blocked the app: 1024 random bytes, as the reference device gives, and whatever result
        comes for them is no winner.
        Raises NoPublicKeyError, MalformedMessageError if the input is too large for its padding.
        """
        check_package_name(package)
        ad_selection_id = new_ad_selection_id(self._source)
        if self._is_refused_by_user(package):
            self._store.store_selection(ad_selection_id, _REFUSED_BY_USER, self._clock.now_ms())
            return AdSelectionData(ad_selection_id, self._source.token(OPTED_OUT_BYTES))
        keys = self._keys.get(coordinator)
        key = None if keys is None else keys.pick(self._source)
        if key is None:
            raise NoPublicKeyError(
                "there is no public key of the coordinator", where=coordinator or seller, hint="fetch its list first"
            )
        now_ms = self._clock.now_ms()
        payloads = [
            p
            for p in self._store.payloads()
            if not is_expired(p.created_at_ms, now_ms) and self._enrolment.is_enrolled(p.buyer)
        ]
        frame = auction_input(
            payloads,
            ad_selection_id=ad_selection_id,
            package=package,
            policy=self._policy,
            now_ms=now_ms,
            seller=configuration,
        )
        data, context = seal_auction_input(frame, key, self._policy)
        self._store.store_selection(ad_selection_id, context_to_bytes(context, seller), now_ms)
        return AdSelectionData(ad_selection_id, data)

    def persist_ad_selection_result(self, ad_selection_id: int, result: bytes) -> AdSelectionOutcome:
        """Open, check and keep the result of an auction (protected-auction §4.3).

        Raises UnknownSelectionError, AuctionResultError.
        """
        stored = self._store.selection_context(ad_selection_id)
        if stored is None and self._store.opted_out:
            stored = _REFUSED_BY_USER
        if stored is None:
            raise UnknownSelectionError("this ad selection is not open", where=str(ad_selection_id))
        if stored == _REFUSED_BY_USER:
            return self._kept(AdSelectionOutcome(AdSelectionId(ad_selection_id), "", ""))
        context, seller = context_from_bytes(stored)
        outcome = open_auction_result(
            result,
            context,
            ad_selection_id=AdSelectionId(ad_selection_id),
            seller=seller,
            is_enrolled=self._enrolment.is_enrolled,
        )
        return self._kept(outcome)

    async def report_impression(self, ad_selection_id: int) -> ReportOutcome:
        """Tell both parties that the ad was shown.

        Raises UnknownSelectionError.
        """
        return await send_impression(self._outcome(ad_selection_id), self._web)

    async def report_event(
        self,
        ad_selection_id: int,
        key: str,
        data: str = "",
        destinations: Collection[Destination] = tuple(Destination),
    ) -> ReportOutcome:
        """Tell those destinations that registered `key` of an event; `data` at most 64 KiB.

        Raises UnknownSelectionError.
        """
        if len(data.encode()) > MAX_EVENT_BYTES:
            raise UnknownSelectionError(f"the data of an event has at most {MAX_EVENT_BYTES} bytes", where=key)
        return await send_event(self._outcome(ad_selection_id), key, data, frozenset(destinations), self._web)

    # ---- user controls (protected-auction §2.5) and maintenance

    def list_apps(self) -> list[AppUse]:
        """Apps that hold signals or are blocked."""
        return self._store.apps()

    def block_app(self, package: str) -> None:
        """Delete an app's signals and take no new ones. Raises BadInputError if this is no app's name."""
        check_package_name(package)
        with self._store.transaction():
            self._store.delete_app_signals(package)
            self._store.set_blocked(package, True)

    def unblock_app(self, package: str) -> None:
        check_package_name(package)
        self._store.set_blocked(package, False)

    def reset(self) -> None:
        """Delete all signals, payloads, scripts and selections. Blocked apps stay blocked."""
        self._store.delete_everything()

    def opt_out(self) -> None:
        """Delete everything; later updates are ignored without a word, and auctions get random bytes."""
        with self._store.transaction():
            self._store.set_opted_out(True)
        self._store.delete_everything()

    def opt_in(self) -> None:
        self._store.set_opted_out(False)

    @property
    def is_opted_out(self) -> bool:
        return self._store.opted_out

    def app_uninstalled(self, package: str) -> None:
        """Forget an app and what it stored."""
        check_package_name(package)
        with self._store.transaction():
            self._store.delete_app_signals(package)
            self._store.forget_app(package)

    def app_data_cleared(self, package: str) -> None:
        """Forget what an app stored."""
        check_package_name(package)
        self._store.delete_app_signals(package)

    def maintain(self, installed: Collection[str] | None = None) -> None:
        """Delete what is too old, of ad techs that left the registry, of apps that are gone, disallowed or blocked.

        installed: the packages on this device; None keeps all.
        """
        now_ms = self._clock.now_ms()
        with self._store.transaction():
            self._store.delete_expired(now_ms - TIME_TO_LIVE_MS)
            self._store.delete_selections(now_ms - SELECTION_LIFETIME_MS)
            for buyer in self._store.buyers():
                if not self._enrolment.is_enrolled(buyer):
                    self._store.delete_buyer(buyer)
            for package in self._store.blocked_apps():
                self._store.delete_app_signals(package)
            for facts in self._store.signal_facts():
                if not self._enrolment.is_allowed(facts.buyer, facts.package):
                    self._store.delete_buyer_app_signals(facts.buyer, facts.package)
            if installed is not None:
                for app in self._store.apps():
                    if app.package not in installed:
                        self.app_uninstalled(app.package)

    # ---- inside

    def _is_refused_by_user(self, package: str) -> bool:
        return self._store.opted_out or self._store.is_blocked(package)

    def _throttle(self, package: str) -> None:
        now_s = self._clock.monotonic_s()
        last_s = self._last_update_s.get(package)
        if last_s is not None and now_s - last_s < MIN_UPDATE_INTERVAL_S:
            raise RateExceededError("one update a second and app", where=package, hint="try again in a second")
        self._last_update_s[package] = now_s

    def _ad_tech(self, uri: str, host: str, buyer: str | None, package: str, token: str | None) -> BuyerId:
        owner = BuyerId(buyer) if buyer is not None else self._enrolment.ad_tech_of(uri)
        self._enrolment.check_ad_tech(owner, package)
        if not belongs_to(host, owner):
            if token is None:
                raise DelegationError("a partner's update needs a verification token", where=owner)
            now_ms = self._clock.now_ms()
            self._enrolment.check_delegation(token, buyer=owner, partner=host, package=package, now_ms=now_ms)
        return owner

    async def _apply(self, buyer: BuyerId, update: SignalUpdate, package: str) -> None:
        if self._is_refused_by_user(package):
            return  # chosen while the update was on its way
        had_script = (encoder := self._store.encoder(buyer)) is not None and encoder.code is not None
        self._write(buyer, update, package)
        encoder = self._store.encoder(buyer)
        if update.encoder_endpoint is not None and not had_script and encoder is not None:
            try:
                await self._job.download(encoder)
            except AdTechServerError as error:
                _log.warning("the encoding script of %s could not be downloaded: %s", buyer, error.what)
        if self._encode_after_update and encoding.may_force_encoding(
            self._store.encoder(buyer),
            self._store.payload(buyer),
            has_signals=bool(self._store.signals(buyer)),
            now_ms=self._clock.now_ms(),
        ):
            await self._job.run_for(buyer)

    def _write(self, buyer: BuyerId, update: SignalUpdate, package: str) -> None:
        now_ms = self._clock.now_ms()
        with self._store.transaction():
            change = apply_update(self._store.signals(buyer), update, package=package, now_ms=now_ms)
            self._store.record_consent(package, now_ms)
            self._store.write_change(buyer, change)
            if update.encoder_endpoint is not None:
                self._store.register_encoder(buyer, update.encoder_endpoint, now_ms)

    def _kept(self, outcome: AdSelectionOutcome) -> AdSelectionOutcome:
        with self._store.transaction():
            outcome = outcome.with_beacons_for(max(0, MAX_BEACONS - self._store.beacon_count()))
            self._store.store_selection_result(
                outcome.ad_selection_id, outcome_to_bytes(outcome), n_beacons=outcome.n_beacons
            )
        return outcome

    def _outcome(self, ad_selection_id: int) -> AdSelectionOutcome:
        stored = self._store.selection_result(ad_selection_id)
        if stored is None and self._store.opted_out:
            return AdSelectionOutcome(AdSelectionId(ad_selection_id), "", "")
        if stored is None:
            raise UnknownSelectionError("this ad selection has no kept result", where=str(ad_selection_id))
        return outcome_from_bytes(ad_selection_id, stored)
