"""A device's auction through real processes, with every hop recorded on the wire between them.

seller front end -> two buyers (one with its retrieval in a process of its own) -> auction and seller's store -> device
-> collector. Each arrow is a TCP connection through a proxy of this test, which keeps the bytes. What is checked:

- sizes: what crosses a hop has a size that the documents allow and that tells nothing else (§4.2, §5.3, §7.5);
- contents: a marker inside a device's signals is on no wire, in no log and in no file, in no usual spelling.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from adyton.auction.buyer.get_bids_checks import read_get_bids_frame
from adyton.device.auction import AdSelectionOutcome, AuctionPolicy
from adyton.device.device import Device
from adyton.device.encoding import Step
from adyton.device.reporting import Destination
from adyton.device.runtime import SandboxEncoder
from adyton.device.web import Web
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.messages import http_body_pb2
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.ohttp import Label
from adyton.protocol.tee import open_request
from adyton.sandbox.pool import SandboxPool

ONE, TWO = "buyer1.example", "buyer2.example"
PACKAGE = "com.example.app"
MARKER = bytes.fromhex("f00dfacecafebeef1122334455667788")
RUN = "import sys; from adyton.cli.auction import auction; auction(sys.argv[1:])"
ENCODER = """
function encodeSignals(signals, maxSize) {
  const out = [7];
  for (const [key, values] of signals) for (const v of values) out.push(...v.signal_value);
  return { status: 0, results: new Uint8Array(out) };
}
"""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TAG, ENC, NONCE, IV = 16, 32, 32, 12
CLIENT_BUCKETS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass
class Wiretap:
    """A TCP proxy in front of one service, and every byte that went through it."""

    hop: str
    address: str = ""
    connections: list[tuple[bytearray, bytearray]] = field(default_factory=list)

    @asynccontextmanager
    async def before(self, target: str) -> AsyncIterator[Wiretap]:
        host, _, port = target.rpartition(":")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, record: bytearray) -> None:
            try:
                while data := await source.read(65536):
                    record += data
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection(host, int(port))
            sent, received = bytearray(), bytearray()
            self.connections.append((sent, received))
            await asyncio.gather(pump(reader, there_writer, sent), pump(there_reader, writer, received))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    def requests(self, kind: type[Message]) -> list[Any]:
        return [kind.FromString(body) for sent, _ in self.connections for body in grpc_messages(bytes(sent))]

    def responses(self, kind: type[Message]) -> list[Any]:
        return [kind.FromString(body) for _, received in self.connections for body in grpc_messages(bytes(received))]


def grpc_messages(stream: bytes) -> list[bytes]:
    """The gRPC messages of one direction of an HTTP/2 connection: DATA frames by stream, cut at their prefixes."""
    at = len(HTTP2_PREFACE) if stream.startswith(HTTP2_PREFACE) else 0
    bodies: dict[int, bytes] = {}
    while at + 9 <= len(stream):
        length, kind, flags = int.from_bytes(stream[at : at + 3], "big"), stream[at + 3], stream[at + 4]
        stream_id = int.from_bytes(stream[at + 5 : at + 9], "big")
        if kind == 0:
            assert not flags & 0x8, "gRPC does not pad its DATA frames"
            bodies[stream_id] = bodies.get(stream_id, b"") + stream[at + 9 : at + 9 + length]
        at += 9 + length
    found = []
    for body in bodies.values():
        while body:
            assert body[0] == 0, "a compressed message would hide contents from this test"
            size = int.from_bytes(body[1:5], "big")
            found.append(body[5 : 5 + size])
            body = body[5 + size :]
    return found


def spellings(secret: bytes) -> set[bytes]:
    """The secret raw, in hex, and inside any base64 text, whichever of three places it starts at."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret)
        found.add(text[4 * (shift > 0) : 4 * ((shift + len(secret)) // 3)])
        found.add(text[4 * (shift > 0) : 4 * ((shift + len(secret)) // 3)].replace(b"+", b"-").replace(b"/", b"_"))
    return found


@dataclass
class Parties:
    """Child processes, stopped and their stderr kept."""

    folder: Path
    stack: AsyncExitStack
    errors: list[Path] = field(default_factory=list)

    async def start(self, *arguments: str) -> dict[str, Any]:
        log = self.folder / "logs" / f"{len(self.errors)}.txt"
        log.parent.mkdir(exist_ok=True)
        self.errors.append(log)
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, *arguments, "--log-level", "DEBUG"], stdout=subprocess.PIPE, stderr=stderr
            )
        assert process.stdout is not None

        def stop() -> None:
            process.terminate()
            assert process.wait(timeout=60) == 0
            assert process.stdout is not None
            process.stdout.close()

        self.stack.push_async_callback(asyncio.to_thread, stop)
        line = await asyncio.to_thread(process.stdout.readline)
        assert line, log.read_text()
        return dict(json.loads(line))

    async def serve(self, document: dict[str, object]) -> str:
        path = self.folder / f"{document['name']}.json"
        path.write_text(json.dumps(document))
        ready = await self.start("serve", "--config", str(path))
        return str(ready["processes"][document["name"]]["grpc"])


@dataclass
class World:
    """Taps by hop, and a seller stub behind the first of them."""

    taps: dict[str, Wiretap]
    stub: ba_grpc.SellerFrontEndStub
    web: Web
    collectors: dict[str, str]


@asynccontextmanager
async def world(folder: Path, parts: ModuleType) -> AsyncIterator[World]:
    parts.write_files(folder)
    lookup = folder / "lookup"
    lookup.mkdir()
    rows = ["key,logical_commit_time,mutation_type,value,value_type"]
    rows += [f"{parts.ad_url(buyer, topic)},1,UPDATE,approved,string" for buyer in parts.BUYERS for topic in (0, 7)]
    (lookup / "SNAPSHOT_0000000000000001.csv").write_text("\n".join(rows) + "\n")
    async with AsyncExitStack() as stack:
        parties = Parties(folder, stack)
        taps: dict[str, Wiretap] = {}

        async def tapped(hop: str, address: str) -> str:
            taps[hop] = await stack.enter_async_context(Wiretap(hop).before(address))
            return taps[hop].address

        one, two = (parts.buyer_document(folder, buyer) for buyer in (ONE, TWO))
        store = {"name": f"{ONE}-store", "test_mode": True, "sandbox": {"spares": 0}, "key_value": one.pop("key_value")}
        one["bidding"]["retrieval_address"] = await tapped("retrieval", await parties.serve(store))
        fronts = {
            buyer: await tapped(buyer, await parties.serve(document)) for buyer, document in ((ONE, one), (TWO, two))
        }
        seller = parts.seller_document(
            folder, fronts, uses_scoring_signals=True, requires_scoring_signals=True, enable_chaffing=True
        )
        scoring = {
            "name": "seller-scoring",
            "test_mode": True,
            "sandbox": {"spares": 0},
            "auction": seller.pop("auction") | {"requires_scoring_signals": True},
            "key_value": {"snapshot": str(lookup)},
        }
        scoring_address = await parties.serve(scoring)
        seller["seller_front_end"] |= {
            "auction_address": await tapped("score ads", scoring_address),
            "key_value_address": await tapped("scoring signals", scoring_address),
        }
        address = await tapped("select ad", await parties.serve(seller))
        collectors = {
            name: (await parties.start("collector", "--out", str(folder / "reports" / name)))["http"]
            for name in (ONE, parts.SELLER)
        }
        collectors[TWO] = collectors[ONE]
        web = await stack.enter_async_context(
            Web(routes={name: f"http://{address}" for name, address in collectors.items()})
        )
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        yield World(taps, ba_grpc.SellerFrontEndStub(channel), web, collectors)


async def select(
    world: World, device: Device, parts: ModuleType, *, wants: Callable[[str], bool]
) -> AdSelectionOutcome:
    """One auction of `device`, with the first selection id for which `wants` is true."""
    while True:
        asked = device.get_ad_selection_data(parts.SELLER, package=PACKAGE)
        if wants(str(asked.ad_selection_id)):
            break
    reply = await world.stub.SelectAd(parts.select_ad_request(asked.data), timeout=60)
    return device.persist_ad_selection_result(asked.ad_selection_id, reply.auction_result_ciphertext)


def open_get_bids(request: ba.GetBidsRequest) -> tuple[bytes, ba.GetBidsRequest.GetBidsRawRequest]:
    frame, _ = open_request(KeyRing.test_mode(), request.request_ciphertext, request.key_id)
    return frame, read_get_bids_frame(frame)


def is_padded(size: int) -> bool:
    return size >= 512 and size & (size - 1) == 0


@pytest.mark.slow
def test_every_hop_of_a_devices_auction_is_padded_and_shows_no_signal(tmp_path: Path, parts: ModuleType) -> None:
    device_folder = tmp_path / "device"
    device_folder.mkdir()
    outcomes: list[AdSelectionOutcome] = []

    def chaffs(real: tuple[str, ...]) -> Callable[[str], bool]:
        candidates = tuple(buyer for buyer in parts.BUYERS if buyer not in real)
        return lambda generation_id: parts.plans_chaff(
            generation_id, real=real, candidates=candidates, n_configured=len(parts.BUYERS)
        )

    def payload(extra: int) -> str:
        values = {"AAAAAQ==": base64.b64encode(MARKER).decode()}
        values |= {
            base64.b64encode(bytes([9, 9, 9, n])).decode(): base64.b64encode(random.Random(n).randbytes(100)).decode()
            for n in range(extra)
        }
        return json.dumps({"put": values})

    async def open_device(world: World, pool: SandboxPool, label: Label, buyers: tuple[str, ...], extra: int) -> Device:
        device = Device.open(
            device_folder / f"{label.name}-{len(buyers)}-{extra}.sqlite",
            web=world.web,
            device_key=bytes(range(32)),
            runtime=SandboxEncoder(pool),
            public_keys=[TEST_MODE_KEY.public_key],
            policy=AuctionPolicy(label=label),
        )
        for buyer in buyers:
            device.install_encoder(buyer, ENCODER, version=3)
            device.apply_update(buyer, PACKAGE, payload(extra))
        if buyers:
            assert {outcome.step for outcome in await device.encode()} == {Step.RUN}
        return device

    async def scenario() -> dict[str, Wiretap]:
        async with world(tmp_path, parts) as running, SandboxPool(spares=0) as pool:
            for label in (Label.SFE_CURRENT, Label.SFE_LEGACY):
                for buyers, extra in (((ONE, TWO), 0), ((ONE, TWO), 13), ((ONE,), 0)):
                    device = await open_device(running, pool, label, buyers, extra)
                    wants = chaffs(buyers) if len(buyers) == 1 else lambda _: True
                    outcome = await select(running, device, parts, wants=wants)
                    told = await device.report_impression(outcome.ad_selection_id)
                    clicked = await device.report_event(outcome.ad_selection_id, "click", "x", [Destination.BUYER])
                    assert (len(told.sent), told.failed) == (2, ())
                    assert clicked.sent == (Destination.BUYER,)
                    outcomes.append(outcome)
                    device.close()
            for name in (ONE, parts.SELLER):
                await asyncio.to_thread(flush, running.collectors[name])
            return running.taps

    taps = asyncio.run(scenario())

    # the device's results: the dearer buyer wins where both have signals
    assert [outcome.buyer for outcome in outcomes] == [TWO, TWO, ONE] * 2
    assert outcomes[0].ad_render_uri == parts.ad_url(TWO, 7)

    # device <-> seller: one of few sizes, both request formats
    requests = taps["select ad"].requests(ba.SelectAdRequest)
    ciphertexts = [request.protected_auction_ciphertext for request in requests]
    leading = [int(ciphertext[0] == 0) for ciphertext in ciphertexts]
    assert leading == [1, 1, 1, 0, 0, 0]
    sizes = [len(c) - extra - 7 - ENC - TAG for c, extra in zip(ciphertexts, leading, strict=True)]
    assert set(sizes) <= set(CLIENT_BUCKETS)
    assert sizes == [1024, 4096, 1024] * 2, "one buyer or two does not show; a lot of signals shows as a bucket"
    replies = taps["select ad"].responses(ba.SelectAdResponse)
    assert len(replies) == 6
    assert all(is_padded(len(reply.auction_result_ciphertext) - NONCE - TAG) for reply in replies)
    assert len({len(reply.auction_result_ciphertext) for reply in replies}) == 1

    # seller <-> buyers: chaff where the device has nothing, of the documented sizes
    opened = {buyer: [open_get_bids(r) for r in taps[buyer].requests(ba.GetBidsRequest)] for buyer in parts.BUYERS}
    assert [raw.is_chaff for _, raw in opened[ONE]] == [False] * 6
    assert [raw.is_chaff for _, raw in opened[TWO]] == [False, False, True] * 2
    answers = taps[TWO].responses(ba.GetBidsResponse)
    for (frame, raw), answer in zip(opened[TWO], answers, strict=True):
        if raw.is_chaff:
            assert 9_000 <= len(frame) <= 95_000
            assert 1_000 <= len(answer.response_ciphertext) - IV - TAG <= 10_500
            assert raw == ba.GetBidsRequest.GetBidsRawRequest(is_chaff=True, log_context=raw.log_context)
        else:
            assert MARKER in raw.protected_app_signals_buyer_input.protected_app_signals.app_install_signals
            assert frame[0] == 1, "with chaff on, real requests are compressed as chaff is"

    # bidding <-> retrieval, seller front end <-> seller's store
    for hop, n_calls in (("retrieval", 6), ("scoring signals", 6)):
        asked = taps[hop].requests(kv.ObliviousGetValuesRequest)
        told = taps[hop].responses(http_body_pb2.HttpBody)
        assert (len(asked), len(told)) == (n_calls, n_calls)
        assert all(is_padded(len(request.raw_body.data) - 7 - ENC - TAG) for request in asked)
        assert all((size := len(body.data) - NONCE - TAG) & (size - 1) == 0 for body in told)
    assert len(taps["score ads"].requests(ba.ScoreAdsRequest)) == 6

    # nothing of the signals anywhere: wires, logs, files
    needles = spellings(MARKER)
    for hop, tap in taps.items():
        for sent, received in tap.connections:
            for needle in needles:
                assert needle not in sent, hop
                assert needle not in received, hop
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in files)
    assert any(path.suffix == ".sqlite" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path.name

    # the collectors hold what was won
    wins = [pq.read_table(path).to_pylist() for path in (tmp_path / "reports" / ONE).glob("win-*.parquet")]
    assert sorted(row["seen"] for table in wins for row in table) == sorted(o.ad_render_uri for o in outcomes)
    assert all(row["egress"] for table in wins for row in table)
    clicks = [pq.read_table(path).num_rows for path in (tmp_path / "reports" / ONE).glob("click-*.parquet")]
    assert sum(clicks) == 6


def flush(address: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"http://{address}/flush", method="POST"), timeout=30).close()


def test_the_search_for_a_marker_finds_it_in_every_spelling() -> None:
    for around in range(4):
        text = bytes(around) + MARKER + b"\xff\xfe"
        for spelling in (text, text.hex().encode(), base64.b64encode(text), base64.urlsafe_b64encode(text)):
            assert any(needle in spelling for needle in spellings(MARKER))
    assert not any(needle in base64.b64encode(bytes(64)) for needle in spellings(MARKER))
