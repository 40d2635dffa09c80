"""The hourly encoder job, and the download of encoding scripts (protected-auction §3)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from adyton.device import encoding
from adyton.device.encoding import Step
from adyton.device.errors import AdTechServerError, EncodingError
from adyton.device.records import EncodedPayload, Encoder
from adyton.device.runtime import EncoderRuntime
from adyton.device.signals import is_expired
from adyton.device.store import DeviceStore
from adyton.device.web import Web
from adyton.kernel.clock import Clock
from adyton.kernel.errors import RefusedError, UnavailableError
from adyton.kernel.ids import BuyerId

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodingOutcome:
    """What the job did for one buyer: the step, and the failure's text if the script failed."""

    buyer: BuyerId
    step: Step
    payload_bytes: int | None = None
    failure: str | None = None


class EncodingJob:
    """Encodes every buyer's signals with the buyer's own script, and keeps the scripts fresh."""

    def __init__(self, store: DeviceStore, web: Web, runtime: EncoderRuntime | None, clock: Clock) -> None:
        self._store, self._web, self._runtime, self._clock = store, web, runtime, clock

    async def run(self) -> list[EncodingOutcome]:
        """One outcome per buyer with anything stored. One buyer's failure does not touch the others."""
        return [await self.run_for(buyer) for buyer in self._store.buyers()]

    async def run_for(self, buyer: BuyerId) -> EncodingOutcome:
        """Encode one buyer if it is due; then refresh a script that is older than a day."""
        outcome = await self._encode(buyer)
        encoder = self._store.encoder(buyer)
        if encoder is not None and encoding.needs_refresh(encoder, self._clock.now_ms()):
            try:
                await self.download(encoder)
            except AdTechServerError as error:
                _log.warning("the encoding script of %s could not be refreshed: %s", buyer, error.what)
        return outcome

    async def download(self, encoder: Encoder) -> None:
        """Fetch a buyer's script from its endpoint.

        Raises AdTechServerError: also for an empty script or one that is not UTF-8.
        """
        reply = await self._web.get(
            encoder.endpoint, max_bytes=encoding.MAX_SCRIPT_BYTES, headers={"Cache-Control": "no-cache"}
        )
        self.store_script(encoder.buyer, reply.body, encoding.parse_version(reply.headers.get(encoding.VERSION_HEADER)))

    def store_script(self, buyer: BuyerId, script: bytes, version: int) -> None:
        """Keep a script of a registered buyer.

        Raises AdTechServerError if it is empty or not UTF-8.
        """
        try:
            code = script.decode()
        except UnicodeDecodeError as error:
            raise AdTechServerError("the encoding script is not UTF-8", where=buyer) from error
        if not code.strip():
            raise AdTechServerError("the encoding script is empty", where=buyer)
        self._store.store_encoder_code(buyer, code, version, self._clock.now_ms())

    async def _encode(self, buyer: BuyerId) -> EncodingOutcome:
        now_ms = self._clock.now_ms()
        signals = [s for s in self._store.signals(buyer) if not is_expired(s.created_at_ms, now_ms)]
        encoder = self._store.encoder(buyer)
        revision = self._store.signal_revision(buyer)
        step = encoding.next_step(
            encoder, self._store.payload(buyer), has_signals=bool(signals), signal_revision=revision
        )
        if step is Step.DELETE_ENCODER:
            self._store.delete_encoder(buyer)
        if step is not Step.RUN or encoder is None or encoder.code is None:
            return EncodingOutcome(buyer, step)
        if self._runtime is None:
            raise UnavailableError("this device has no sandbox to run encoding scripts in", hint="give it a runtime")
        try:
            data = await self._runtime.encode(buyer, encoder.code, signals, encoding.MAX_PAYLOAD_BYTES)
        except EncodingError as error:
            self._store.set_encoder_failures(buyer, encoder.failures + 1)
            return EncodingOutcome(buyer, step, failure=error.what)
        except RefusedError as error:  # the sandbox backs off from this buyer's scripts: not this script's failure
            return EncodingOutcome(buyer, step, failure=error.what)
        with self._store.transaction():
            if self._store.signal_revision(buyer) != revision or self._store.encoder(buyer) is None:
                # Signals changed while the script ran, perhaps by the user's wish: the next job encodes what is left.
                return EncodingOutcome(buyer, step, failure="the signals changed while they were encoded")
            self._store.set_encoder_failures(buyer, 0)
            self._store.store_payload(
                EncodedPayload(buyer, data, encoder.version, self._clock.now_ms(), revision, encoder.revision)
            )
        return EncodingOutcome(buyer, step, payload_bytes=len(data))
