"""A device and its auctions through random days, against a model that keeps plain lists.

The device is real (store, encryption at rest, sandboxed encoder, seals); a seller and two buyers are real services on
loopback in this event loop; one manual clock is everybody's time. Each seed draws some 150 operations: update, install
an encoder, encode, select, lose a reply and open it later, replay a ciphertext, change a bit of one, open a reply for
another selection, block and unblock an app, opt out and in, reset, let seconds to months pass.

What counts as failure:

1. a ciphertext that carries other signals than the model holds: of a blocked app, deleted, expired, or lost;
2. a ciphertext or a reply of a size that is not one of the documented ones;
3. another winner than the dearest buyer with signals, or an ad where nobody has any;
4. a replay inside the window that has another result, or one outside of it that has an ad;
5. a reply that opens for another selection or a second time, or a changed ciphertext that is not refused as documented;
6. somebody who opted out, or blocked the app, being told apart by size, or being served;
7. a list of signals or apps that differs from the model's;
8. any other exception than the documented ones.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import grpc
import pytest

from adyton.auction.config import parse_config
from adyton.auction.services.process import PartyProcess
from adyton.device.auction import OPTED_OUT_BYTES, AuctionPolicy
from adyton.device.device import Device
from adyton.device.errors import AuctionResultError, UnknownSelectionError
from adyton.device.runtime import SandboxEncoder
from adyton.device.signals import TIME_TO_LIVE_MS
from adyton.device.web import Web
from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.clock import ManualClock
from adyton.protocol.compression import gzip_decompress
from adyton.protocol.frames import decode_client_frame
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.ohttp import Label, decapsulate_request
from adyton.sandbox.pool import SandboxPool

APPS = ("com.news", "com.games")
WINDOW_S = 300
N_OPERATIONS = 150
DAY_MS = 24 * 3_600_000
KEYS = [base64.b64encode(bytes([0, 0, 0, n])).decode() for n in range(4)]
ENCODER = """
function encodeSignals(signals, maxSize) {
  const out = [7];
  for (const [key, values] of signals) for (const v of values) out.push(...v.signal_value);
  return { status: 0, results: new Uint8Array(out) };
}
"""


def auction_parts() -> ModuleType:
    """The builders of the functional tests."""
    path = Path(__file__).parents[2] / "functional" / "auction" / "conftest.py"
    spec = importlib.util.spec_from_file_location("auction_parts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["auction_parts"] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Held:
    key: str
    value: bytes
    app: str
    at_ms: int


@dataclass
class Payload:
    values: list[bytes]
    at_ms: int


@dataclass
class Asked:
    """One ciphertext that was sent, what it carried and what came back first."""

    ad_selection_id: int
    data: bytes
    at_ms: int
    buyers: frozenset[str]
    reply: bytes | None = None
    url: str | None = None
    is_open: bool = True


@dataclass
class Model:
    signals: dict[str, list[Held]] = field(default_factory=dict)
    encoders: dict[str, int] = field(default_factory=dict)
    payloads: dict[str, Payload] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    is_opted_out: bool = False

    def drop(self, is_dropped: Callable[[Held], bool]) -> None:
        for buyer, held in self.signals.items():
            kept = [signal for signal in held if not is_dropped(signal)]
            if len(kept) != len(held):
                self.signals[buyer] = kept
                self.payloads.pop(buyer, None)
                self.changed.add(buyer)

    def update(self, buyer: str, key: str, value: bytes, app: str, now_ms: int) -> None:
        kept = [signal for signal in self.signals.get(buyer, []) if signal.key != key]
        self.signals[buyer] = [*kept, Held(key, value, app, now_ms)]
        self.changed.add(buyer)

    def encode(self, now_ms: int) -> None:
        for buyer in list(self.encoders):
            held = self.signals.get(buyer, [])
            if not held:
                del self.encoders[buyer]
                self.payloads.pop(buyer, None)
            elif buyer in self.changed or buyer not in self.payloads:
                self.payloads[buyer] = Payload([signal.value for signal in held], now_ms)
                self.changed.discard(buyer)

    def maintain(self, now_ms: int) -> None:
        oldest_ms = now_ms - TIME_TO_LIVE_MS
        self.drop(lambda signal: signal.at_ms < oldest_ms or signal.app in self.blocked)
        for buyer in [b for b, payload in self.payloads.items() if payload.at_ms < oldest_ms]:
            del self.payloads[buyer]
        for buyer in [b for b, at_ms in self.encoders.items() if at_ms < oldest_ms]:
            del self.encoders[buyer]

    def forget(self) -> None:
        self.drop(lambda _: True)
        self.encoders.clear()
        self.payloads.clear()


class Life:
    """One seed's run."""

    def __init__(
        self, seed: int, device: Device, clock: ManualClock, stub: ba_grpc.SellerFrontEndStub, parts: ModuleType
    ) -> None:
        self.chance = random.Random(seed)
        self.device, self.clock, self.stub, self.parts = device, clock, stub, parts
        self.model = Model()
        self.asked: list[Asked] = []
        self.counts: dict[str, int] = {}

    async def run(self) -> None:
        operations = {
            self.update: 30, self.install: 10, self.encode: 20, self.select: 30, self.select_and_lose: 12,
            self.open_lost: 6, self.replay: 12, self.tamper: 4, self.swap: 5, self.block: 3, self.unblock: 5,
            self.opt: 2, self.reset: 1, self.wait: 20, self.wait_long: 1,
        }  # fmt: skip
        for _ in range(N_OPERATIONS):
            (operation,) = self.chance.choices(list(operations), list(operations.values()))
            await operation()
            self.counts[operation.__name__] = self.counts.get(operation.__name__, 0) + 1
            self.check_lists()
            self.clock.advance_ms(self.chance.randrange(2000))

    # ---- what a person or an app does

    async def update(self) -> None:
        buyer, app = self.chance.choice(self.parts.BUYERS), self.chance.choice(APPS)
        key, value = self.chance.choice(KEYS), self.chance.randbytes(12)
        self.device.apply_update(buyer, app, json.dumps({"put": {key: base64.b64encode(value).decode()}}))
        if not self.model.is_opted_out and app not in self.model.blocked:
            self.model.update(buyer, key, value, app, self.clock.now_ms())

    async def install(self) -> None:
        buyer = self.chance.choice(self.parts.BUYERS)
        if not self.model.is_opted_out:
            self.device.install_encoder(buyer, ENCODER, version=3)
            self.model.encoders[buyer] = self.clock.now_ms()

    async def encode(self) -> None:
        await self.device.encode()
        if not self.model.is_opted_out:
            self.model.encode(self.clock.now_ms())

    async def block(self) -> None:
        app = self.chance.choice(APPS)
        self.device.block_app(app)
        self.model.blocked.add(app)
        self.model.drop(lambda signal: signal.app == app)

    async def unblock(self) -> None:
        app = self.chance.choice(APPS)
        self.device.unblock_app(app)
        self.model.blocked.discard(app)

    async def opt(self) -> None:
        if self.model.is_opted_out:
            self.device.opt_in()
        else:
            self.device.opt_out()
            self.model.forget()
            self.close_all()
        self.model.is_opted_out = not self.model.is_opted_out

    async def reset(self) -> None:
        self.device.reset()
        self.model.forget()
        self.close_all()

    async def wait(self) -> None:
        self.clock.advance_ms(self.chance.randrange(20 * 60_000))

    async def wait_long(self) -> None:
        self.clock.advance_ms(self.chance.randrange(70) * DAY_MS)
        self.device.maintain()
        self.model.maintain(self.clock.now_ms())
        self.close_all()

    # ---- auctions

    async def select(self) -> None:
        asked = self.ask()
        if asked is not None:
            await self.send(asked)
            self.open(asked)

    async def select_and_lose(self) -> None:
        asked = self.ask()
        if asked is not None:
            await self.send(asked)

    async def open_lost(self) -> None:
        lost = [asked for asked in self.asked if asked.is_open]
        if lost:
            self.open(self.chance.choice(lost))

    async def replay(self) -> None:
        if not self.asked:
            return
        asked = self.chance.choice(self.asked)
        is_fresh = self.clock.now_ms() - asked.at_ms <= 1000 * WINDOW_S
        first = asked.reply
        await self.send(asked)
        if asked.is_open:
            if is_fresh:
                self.open(asked)
            else:
                with pytest.raises(AuctionResultError, match="timestamp"):
                    self.persist(asked)
        elif self.model.is_opted_out:
            # An app must not learn the choice from its call: whatever comes back is no winner.
            assert not self.device.persist_ad_selection_result(asked.ad_selection_id, asked.reply or b"").has_winner
        else:
            with pytest.raises(UnknownSelectionError):
                self.persist(asked)
        asked.reply = first

    async def tamper(self) -> None:
        if not self.asked:
            return
        data = bytearray(self.chance.choice(self.asked).data)
        data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stub.SelectAd(self.parts.select_ad_request(bytes(data)), timeout=30)
        # The number of the key is not secret, and the test key answers every number: then the key schedule differs.
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def swap(self) -> None:
        opened = [asked for asked in self.asked if asked.is_open]
        if len(opened) >= 2:
            mine, other = self.chance.sample(opened, 2)
            with pytest.raises(AuctionResultError, match="cannot be read"):
                self.device.persist_ad_selection_result(mine.ad_selection_id, other.reply)

    def ask(self) -> Asked | None:
        app = self.chance.choice(APPS)
        data = self.device.get_ad_selection_data(self.parts.SELLER, package=app)
        if self.model.is_opted_out or app in self.model.blocked:
            assert len(data.data) == OPTED_OUT_BYTES
            return None
        carried, size = contents(data.data)
        assert size in (1024, 2048, 4096)
        payloads = {
            buyer: payload.values
            for buyer, payload in self.model.payloads.items()
            if self.clock.now_ms() - payload.at_ms <= TIME_TO_LIVE_MS
        }
        assert {b: sorted(chunks(p)) for b, p in carried.items()} == {b: sorted(v) for b, v in payloads.items()}
        asked = Asked(data.ad_selection_id, data.data, self.clock.now_ms(), frozenset(payloads))
        self.asked.append(asked)
        return asked

    async def send(self, asked: Asked) -> None:
        reply = await self.stub.SelectAd(self.parts.select_ad_request(asked.data), timeout=30)
        asked.reply = reply.auction_result_ciphertext
        size = len(asked.reply) - 32 - 16
        assert size >= 512
        assert size & (size - 1) == 0

    def open(self, asked: Asked) -> None:
        if not asked.buyers:
            with pytest.raises(AuctionResultError, match="missing buyer inputs"):
                self.persist(asked)
            return
        url = self.persist(asked)
        dearest = max(asked.buyers, key=lambda buyer: self.parts.PRICES[buyer][7])
        assert url == self.parts.ad_url(dearest, 7)

    def persist(self, asked: Asked) -> str:
        assert asked.reply is not None
        outcome = self.device.persist_ad_selection_result(asked.ad_selection_id, asked.reply)
        asked.is_open = False  # a result is taken once
        assert outcome.buyer in asked.buyers
        return outcome.ad_render_uri

    def close_all(self) -> None:
        """The device no longer knows its selections; their ciphertexts are still out there."""
        for asked in self.asked:
            asked.is_open = False

    def check_lists(self) -> None:
        listed = sorted((f.buyer, f.package, f.created_at_ms, f.size_bytes) for f in self.device.list_signals())
        held = sorted((b, s.app, s.at_ms, 16) for b, signals in self.model.signals.items() for s in signals)
        assert listed == held
        assert {use.package for use in self.device.list_apps() if use.blocked} == self.model.blocked


def contents(data: bytes) -> tuple[dict[str, bytes], int]:
    """What a ciphertext carries for each buyer, read with the test key, and the size of its frame."""
    plaintext, _ = decapsulate_request(KeyRing.test_mode(), data)
    frame = decode_client_frame(plaintext, read_compression=False)
    message = ba.ProtectedAuctionInput.FromString(frame.payload)
    inputs = {b: ba.BuyerInput.FromString(gzip_decompress(text)) for b, text in message.buyer_input.items()}
    return {b: i.protected_app_signals.app_install_signals for b, i in inputs.items()}, len(plaintext)


def chunks(payload: bytes) -> list[bytes]:
    assert payload[0] == 7
    return [payload[at : at + 12] for at in range(1, len(payload), 12)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_device_and_its_auctions_agree_with_a_plain_model(seed: int, tmp_path: Path) -> None:
    parts = auction_parts()
    logging.getLogger("adyton.device.job").setLevel(logging.ERROR)

    async def scenario() -> Life:
        clock = ManualClock(1_763_838_462_000)
        parts.write_files(tmp_path)
        async with AsyncExitStack() as stack:
            addresses = {}
            for buyer in parts.BUYERS:
                process = PartyProcess(parse_config(parts.buyer_document(tmp_path, buyer)), clock=clock)
                addresses[buyer] = (await stack.enter_async_context(process)).addresses.grpc
            options = {"replay_window_s": WINDOW_S, "enable_buyer_caching": True, "enable_chaffing": True}
            document = parts.seller_document(tmp_path, addresses, **options)
            seller = await stack.enter_async_context(PartyProcess(parse_config(document), clock=clock))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(seller.addresses.grpc))
            pool = await stack.enter_async_context(SandboxPool(spares=0))
            # The ad techs' own servers are down: scripts are not refreshed, and nothing else may change.
            web = await stack.enter_async_context(Web(routes=dict.fromkeys(parts.BUYERS, "http://127.0.0.1:1")))
            device = Device.open(
                tmp_path / "device.sqlite",
                web=web,
                device_key=bytes(range(32)),
                runtime=SandboxEncoder(pool),
                public_keys=[TEST_MODE_KEY.public_key],
                policy=AuctionPolicy(label=Label.SFE_CURRENT if seed % 2 else Label.SFE_LEGACY),
                clock=clock,
                source=InsecureFixedRandom(seed),
            )
            life = Life(seed, device, clock, ba_grpc.SellerFrontEndStub(channel), parts)
            for buyer in parts.BUYERS:
                device.install_encoder(buyer, ENCODER, version=3)
                life.model.encoders[buyer] = clock.now_ms()
            await life.run()
            device.close()
            return life

    life = asyncio.run(scenario())

    assert life.counts["select"] > 10
    assert any(asked.buyers for asked in life.asked)
