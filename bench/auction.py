"""What one auction costs: a seller and two buyers as real processes on loopback, and a client that plays the device.

    python bench/auction.py --seconds 20 --json out.json

Each auction: a 5 kB request, two buyers, one inference call each (a 32-wide tower), 100 candidate ads x 32 dimensions
from a store of 2,000, a dot product for each in generateBid, scoring, both reports. Printed are

- auctions per second at full load and per core (CPU time of all parties' processes, the client's excluded),
- latency of one auction at a time, at full load and at half of that load (Poisson arrivals), from the moment a request
  should leave the device until its answer is there, and for the last the time per hop, from the services' histograms,
- the CPU time of what cannot be left out (HPKE, scripts in V8, inference, retrieval), each measured alone in this run,
  and the ratio of everything to it. Those scripts share one V8 context; the services give each of an auction's nine
  calls (twice prepare, retrieve and bid; then score, and the report of each side) a context that nobody has used (§8:
  no state between calls). Nine such contexts cost more than all of the scripts, so they are measured too and a second
  ratio counts them among what cannot be left out; a third counts the nine calls made in such contexts, where V8 has
  optimised nothing yet.

What is measured alone runs in a loop of its own, with its code and data in the processor's caches. In the services the
same work is done by two dozen processes that take turns on the cores and find the caches cold, which by itself costs
half as much again: a ratio of 1 is out of reach, also for the other ratios. Each buyer's processes stay on one core, as
two buyers would not share a machine either; the seller's run on every core (`--no-pins` lets all run on all).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from adyton.auction.retrieval.store import AdRetrievalStore
from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.frames import decode_client_frame, encode_client_frame
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.ohttp import ClientContext, Label, decapsulate_request, encapsulate_request
from adyton.protocol.tee import open_request, seal_request
from adyton.sandbox.deno import engine_flags, find_deno
from adyton.sandbox.engines import driver_source
from adyton.sandbox.process import driver_spec
from adyton.sandbox.values import SandboxLimits, UdfKind

D, N_ADS, K, FIELDS = 32, 2_000, 100, 8
BUYERS = ("buyer1.example", "buyer2.example")
REQUEST_BYTES = 5_000
WORKERS_PER_UDF = 1
"""Ten processes for scripts in all. A second worker for each makes colder caches on two cores, not shorter queues."""
MOST_PER_SECOND = 400
"""Requests prepared for each second of a closed loop, more than two cores can serve."""
HALF_LOAD_TIMES = 6
"""How much longer half load is measured: with arrivals by chance one burst decides the 99th percentile of 15 seconds.
For a server that needs 9.4 ms for each auction it was 39 to 67 ms by the seed of 12 s, and 44 ms over ten minutes."""
TICKS = os.sysconf("SC_CLK_TCK")

PREPARE = (
    """
function prepareDataForAdRetrieval(signals, version, auctionSignals, contextualSignals) {
  const content = [];
  for (let i = 0; i < FIELDS; i++) content.push(String(signals[i] / 255));
  const reply = JSON.parse(runInference(JSON.stringify({ request: [{ model_path: 'tower/1/', tensors: [{
    tensor_name: 'x', data_type: 'FLOAT', tensor_shape: [1, FIELDS], tensor_content: content }] }] })));
  return { user: reply.response[0].tensors[0].tensor_content };
}
"""
).replace("FIELDS", str(FIELDS))
RETRIEVAL = (
    """
function HandleRequest(metadata, protectedSignals) {
  const { user } = JSON.parse(protectedSignals);
  return runTopK(user, { k: CANDIDATES }).map(({ key, ad }) => ({ id: key, url: ad.url, e: ad.embedding }));
}
"""
).replace("CANDIDATES", str(K))
BID = """
function generateBid(ads, auctionSignals, buyerSignals, prepared) {
  let best = null, bestScore = -Infinity;
  for (const ad of ads) {
    let score = 0;
    for (let i = 0; i < ad.e.length; i++) score += ad.e[i] * prepared.user[i];
    if (score > bestScore) { best = ad; bestScore = score; }
  }
  return { bid: 1 / (1 + Math.exp(-bestScore)), render: best.url, ad: { id: best.id }, egressPayload:
    JSON.stringify({ features: [{ name: 'unsigned-integer-feature', value: 5 }] }) };
}
"""
SELLER = """
function scoreAd(ad, bid) { return bid; }
function reportResult(config, signals) { sendReportTo('https://seller.example/r?bid=' + signals.bid); return {}; }
"""
WIN = "function reportWin(a, b, c, d, e, egress) { sendReportTo('https://buyer.example/win?egress=' + egress); }"


def tower() -> bytes:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(FIELDS, D)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])],
        "tower",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FIELDS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, D])],
        [helper.make_tensor("w", TensorProto.FLOAT, [FIELDS, D], weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_files(folder: Path) -> None:
    rng = np.random.default_rng(2)
    for name, text in {"p.js": PREPARE, "r.js": RETRIEVAL, "b.js": BID, "s.js": SELLER, "w.js": WIN}.items():
        (folder / name).write_text(text)
    schema = {"cddl_version": "1.0.0", "version": 1, "features": [{"name": "unsigned-integer-feature", "size": 3}]}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "models" / "tower" / "1").mkdir(parents=True)
    (folder / "models" / "tower" / "1" / "model.onnx").write_bytes(tower())
    (folder / "models" / "models.json").write_text('{"model_metadata":[{"model_path":"tower/1/"}]}')
    for buyer in BUYERS:
        (folder / buyer).mkdir()
        rows = ["key,logical_commit_time,mutation_type,value,value_type"]
        for i in range(N_ADS):
            embedding = [round(float(x), 4) for x in rng.normal(size=D) / np.sqrt(D)]
            value = json.dumps({"url": f"https://cdn.{buyer}/{i}", "embedding": embedding}).replace('"', '""')
            rows.append(f'ad-{i},1,UPDATE,"{value}",string')
        (folder / buyer / "SNAPSHOT_0000000000000001.csv").write_text("\n".join(rows) + "\n")


class Party:
    """One process of one party, and the CPU time of its whole tree."""

    def __init__(self, folder: Path, document: dict[str, object], cores: Collection[int]) -> None:
        path = folder / f"{document['name']}.json"
        path.write_text(json.dumps(document))
        code = (
            f"import os, sys; os.sched_setaffinity(0, {sorted(cores)}); "
            "from adyton.cli.auction import auction; auction(sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--config", str(path)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.name = str(document["name"])
        self.addresses = ready["processes"][self.name]
        self.used: dict[tuple[int, str], tuple[str, float]] = {}

    def watch(self) -> None:
        """Remember the CPU time of each process of the party: that of ended ones can no longer be asked for."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            is_worker = b"/engine/" in line or b"deno" in line or b"quickjs_worker" in line
            kind = "scripts" if is_worker else "model" if b"model_process" in line else "services"
            self.used[pid, stat[19]] = (kind, (int(stat[11]) + int(stat[12])) / TICKS)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by program: "services", "model" (inference), "scripts", which include replaced workers."""
        self.watch()
        totals: dict[str, float] = {}
        for kind, seconds in self.used.values():
            totals[kind] = totals.get(kind, 0.0) + seconds
        return totals

    def histograms(self) -> dict[str, list[tuple[float, float]]]:
        """step -> cumulative (bucket edge in s, count)."""
        text = urllib.request.urlopen(f"http://{self.addresses['http']}/metrics").read().decode()
        found: dict[str, list[tuple[float, float]]] = {}
        for line in text.splitlines():
            if line.startswith("adyton_auction_latency_seconds_bucket"):
                labels, value = line[line.index("{") + 1 : line.index("}")], float(line.rsplit(" ", 1)[1])
                parts = dict(part.split("=", 1) for part in labels.split(","))
                found.setdefault(parts["step"].strip('"'), []).append((float(parts["le"].strip('"')), value))
        return found

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


async def watch(parties: Sequence[Party]) -> None:
    while True:
        await asyncio.sleep(0.5)
        for party in parties:
            party.watch()


def descendants(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return children + [grandchild for child in children for grandchild in descendants(child)]


@dataclass
class Prepared:
    """One auction's request and what opens its answer."""

    request: ba.SelectAdRequest
    context: ClientContext
    response: ba.SelectAdResponse | None = None


class Phase(NamedTuple):
    """Seconds of each auction of one phase, and of the whole phase."""

    latencies: list[float]
    wall_s: float


class Client:
    """Plays devices and ad server.

    Devices have processors of their own, so their work is done before and after the time that is measured: requests are
    encrypted beforehand, answers opened afterwards.
    """

    def __init__(self, stub: ba_grpc.SellerFrontEndStub) -> None:
        self.stub = stub
        self.n = 0
        self.n_failed = 0

    def prepare(self) -> Prepared:
        self.n += 1
        message = ba.ProtectedAuctionInput(publisher_name="app", generation_id=str(self.n))
        for buyer in BUYERS:
            data = ba.BuyerInput(protected_app_signals={"app_install_signals": os.urandom(1536)})
            message.buyer_input[buyer] = gzip_compress(data.SerializeToString())
        payload = message.SerializeToString()
        frame = b"\x02" + encode_client_frame(payload, size=max(REQUEST_BYTES, len(payload) + 5))[1:]
        ciphertext, context = encapsulate_request(TEST_MODE_KEY.public_key, frame, Label.SFE_CURRENT)
        request = ba.SelectAdRequest(protected_auction_ciphertext=ciphertext, client_type=ba.CLIENT_TYPE_ANDROID)
        config = request.auction_config
        config.seller, config.seller_signals, config.auction_signals = "seller.example", "{}", "{}"
        for buyer in BUYERS:
            config.buyer_list.append(buyer)
            config.per_buyer_config[buyer].buyer_signals = "{}"
        return Prepared(request, context)

    async def auction(self, prepared: Prepared, due: float | None = None) -> float:
        """Seconds of one auction, from `due` if it should have started then."""
        started = time.perf_counter() if due is None else due
        with contextlib.suppress(grpc.aio.AioRpcError):
            prepared.response = await self.stub.SelectAd(prepared.request, timeout=20)
        return time.perf_counter() - started

    def check(self, done: Sequence[Prepared]) -> None:
        """Open every answer; one that is missing or names no winner has failed."""
        for prepared in done:
            if prepared.response is None:
                self.n_failed += 1
                continue
            frame = prepared.context.decapsulate_response(prepared.response.auction_result_ciphertext)
            result = ba.AuctionResult.FromString(gzip_decompress(decode_client_frame(frame).payload))
            if result.is_chaff or not result.ad_render_url:
                self.n_failed += 1

    async def full_load(self, seconds: float, width: int) -> Phase:
        """`width` auctions always under way."""
        stock = [self.prepare() for _ in range(int(seconds * MOST_PER_SECOND))]
        done: list[Prepared] = []
        latencies: list[float] = []
        started = time.perf_counter()

        async def lane() -> None:
            while time.perf_counter() < started + seconds and stock:
                prepared = stock.pop()
                latencies.append(await self.auction(prepared))
                done.append(prepared)

        await asyncio.gather(*(lane() for _ in range(width)))
        wall_s = time.perf_counter() - started
        self.check(done)
        return Phase(latencies, wall_s)

    async def open_load(self, seconds: float, per_second: float) -> Phase:
        """Poisson arrivals; each auction is timed from the moment it should have started."""
        chance = random.Random(3)
        dues = list(itertools.takewhile(lambda at: at < seconds, itertools.accumulate(gaps(chance, per_second))))
        stock = [self.prepare() for _ in dues]
        tasks, started = [], time.perf_counter()
        for due, prepared in zip(dues, stock, strict=True):
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            tasks.append(asyncio.create_task(self.auction(prepared, started + due)))
        latencies = list(await asyncio.gather(*tasks))
        wall_s = time.perf_counter() - started
        self.check(stock)
        return Phase(latencies, wall_s)


def gaps(chance: random.Random, per_second: float) -> Iterator[float]:
    """Seconds between arrivals of a Poisson process."""
    while True:
        yield chance.expovariate(per_second)


def cpu_of(call: Callable[[], object], *, n: int = 200) -> float:
    """CPU seconds of one call, measured over `n`."""
    call()
    started = time.process_time()
    for _ in range(n):
        call()
    return (time.process_time() - started) / n


def irreducible(folder: Path) -> dict[str, float]:
    """CPU seconds for one auction of each part that cannot be left out, measured alone."""
    ring = KeyRing.test_mode()
    frame, reply = bytes(REQUEST_BYTES), bytes(512)

    def client_hpke() -> None:
        _, context = decapsulate_request(ring, client_body)
        context.encapsulate_response(reply)

    def buyer_hpke() -> None:
        ciphertext, sender = seal_request(TEST_MODE_KEY.public_key, bytes(2_000))
        _, receiver = open_request(ring, ciphertext, 64)
        sender.open_response(receiver.seal_response(bytes(500)))

    client_body, _ = encapsulate_request(TEST_MODE_KEY.public_key, frame, Label.SFE_CURRENT)
    session = onnxruntime.InferenceSession(tower(), providers=["CPUExecutionProvider"])
    x = np.zeros((1, FIELDS), dtype=np.float32)
    store = AdRetrievalStore()
    store.load_snapshot(folder / BUYERS[0] / "SNAPSHOT_0000000000000001.csv")
    query = [0.1] * D
    return {
        "hpke": cpu_of(client_hpke) + 2 * cpu_of(buyer_hpke),
        "inference": 2 * cpu_of(lambda: session.run(None, {"x": x})),
        "retrieval": 2 * cpu_of(lambda: store.top_k(query, {"k": K})),
        "scripts": script_cpu_s(folder),
    }


def script_cpu_s(folder: Path, n: int = 400) -> float:
    """CPU seconds of all scripts of one auction: parse the arguments, run, print the reply, in one V8 context."""
    ads = json.loads("[" + ",".join(_ad_texts(folder)) + "]")
    calls = f"""
import process from "node:process";
const ADS = {json.dumps(json.dumps(ads))};
const VECTOR = {json.dumps(json.dumps([0.1] * D))};
const REPLY = JSON.stringify({{ response: [{{ tensors: [{{ tensor_content: JSON.parse(VECTOR) }}] }}] }});
const signals = new Uint8Array(1536);
const runInference = () => REPLY;
const runTopK = () => JSON.parse(ADS);
const sendReportTo = () => {{}};
function auction() {{
  for (let b = 0; b < 2; b++) {{
    const prepared = JSON.stringify(prepareDataForAdRetrieval(signals, 1, {{}}, {{}}));
    const ads = JSON.stringify(HandleRequest({{}}, prepared));
    JSON.stringify(generateBid(JSON.parse(ads), {{}}, {{}}, JSON.parse(prepared)));
    scoreAd({{}}, 1);
  }}
  reportResult({{}}, {{ bid: 1 }}); reportWin({{}}, {{}}, {{}}, {{}}, {{}}, "");
}}
for (let i = 0; i < 50; i++) auction();
const from = process.cpuUsage();
for (let i = 0; i < {n}; i++) auction();
const used = process.cpuUsage(from);
console.log((used.user + used.system) / 1e6 / {n});
"""
    path = folder / "scripts_alone.mjs"
    path.write_text(PREPARE + RETRIEVAL + BID + SELLER + WIN + calls)
    return float(_deno(path))


def fresh_contexts_cpu_s(folder: Path, *, runs_scripts: bool, n: int = 100) -> float:
    """CPU seconds of the nine fresh contexts of one auction, in a process as workers run, driver and script loaded.

    runs_scripts: also make the nine calls in them, from the text of the arguments to the text of the result; code that
    runs in a context for the first time is interpreted, so this is more than the contexts and the scripts apart.
    """
    path = folder / "contexts_alone.mjs"
    limits = SandboxLimits()
    ads = "[" + ",".join(_ad_texts(folder)) + "]"
    reply = json.dumps({"response": [{"tensors": [{"tensor_content": [0.1] * D}]}]})
    specs = {kind.name: driver_spec(kind, limits) for kind in UdfKind}
    path.write_text(f"""
import process from "node:process";
import vm from "node:vm";
const driver = new vm.Script({json.dumps(driver_source())}), RUNS = {json.dumps(runs_scripts)};
const SPECS = {json.dumps(specs)}, ADS = {json.dumps(ads)}, REPLY = {json.dumps(reply)};
const SIGNALS = "00".repeat(1536), ask = (name) => "s" + (name === "runInference" ? REPLY : ADS);
const [PREPARE, RETRIEVAL, BID, SELLER, WIN] = {json.dumps([PREPARE, RETRIEVAL, BID, SELLER, WIN])}
  .map((code) => new vm.Script(code));
function call(kind, code, name, ...args) {{
  const context = vm.createContext(vm.constants.DONT_CONTEXTIFY, {{ microtaskMode: "afterEvaluate" }});
  const made = driver.runInContext(context)(ask, SPECS[kind]);
  code.runInContext(context);
  if (!RUNS) return "";
  made.begin(false);
  const answer = made.invoke(name, ...args);
  if (answer[0] !== "R") throw new Error(name + ": " + answer);
  return answer.slice(1);
}}
function auction() {{
  for (let b = 0; b < 2; b++) {{
    const user = call("PREPARE_DATA", PREPARE, "prepareDataForAdRetrieval", "h", SIGNALS, "j", "1", "j", "{{}}");
    const ads = call("RETRIEVAL", RETRIEVAL, "HandleRequest", "j", "{{}}", "j", JSON.stringify(user));
    call("GENERATE_BID", BID, "generateBid", "j", ads, "j", "{{}}", "j", "{{}}", "j", user);
  }}
  call("SCORE_AD", SELLER, "scoreAd", "j", "{{}}", "j", "1");
  call("REPORTING", SELLER, "reportResult", "j", "{{}}", "j", '{{"bid":1}}');
  call("REPORTING", WIN, "reportWin", "j", "{{}}", "j", "{{}}", "j", "{{}}", "j", "{{}}", "j", "{{}}", "j", '""');
}}
for (let i = 0; i < 30; i++) auction();
const from = process.cpuUsage();
for (let i = 0; i < {n}; i++) auction();
const used = process.cpuUsage(from);
console.log((used.user + used.system) / 1e6 / {n});
""")
    return float(_deno(path))


def _deno(script: Path) -> str:
    command = [str(find_deno()), "run", "--quiet", "--allow-all", engine_flags(SandboxLimits()), str(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _ad_texts(folder: Path) -> list[str]:
    store = AdRetrievalStore()
    store.load_snapshot(folder / BUYERS[0] / "SNAPSHOT_0000000000000001.csv")
    found = store.top_k([0.1] * D, {"k": K})
    return [f'{{"key":{json.dumps(ad.key)},"score":{ad.score!r},"ad":{ad.text}}}' for ad in found]


def since(
    old: dict[str, list[tuple[float, float]]], new: dict[str, list[tuple[float, float]]]
) -> dict[str, list[tuple[float, float]]]:
    """What came into each step's histogram between two readings; steps without anything are left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for step, buckets in new.items():
        before = dict(old.get(step, []))
        grown = [(edge, count - before.get(edge, 0.0)) for edge, count in buckets]
        if grown[-1][1] > 0:
            found[step] = grown
    return found


def quantile(buckets: list[tuple[float, float]], q: float) -> float:
    """A quantile in seconds, interpolated inside its histogram bucket."""
    buckets = sorted(buckets)
    target, low, below = q * buckets[-1][1], 0.0, 0.0
    for edge, count in buckets:
        if count >= target:
            if edge == float("inf"):
                return low
            return low + (edge - low) * (target - below) / max(count - below, 1e-9)
        low, below = edge, count
    return low


def milliseconds(values: list[float]) -> dict[str, float]:
    return {f"p{q}": round(1000 * float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


async def measure(
    seconds: float, width: int, engine: str, pins: bool, at_once: int | None, folder: Path
) -> dict[str, object]:
    load_average = [round(load, 2) for load in os.getloadavg()]
    write_files(folder)
    sandbox = {"spares": 0, "workers_per_udf": WORKERS_PER_UDF, "engine": engine}
    base = {"test_mode": True, "http_listen": "127.0.0.1:0", "sandbox": sandbox}
    parties: list[Party] = []
    all_cores = sorted(os.sched_getaffinity(0))
    try:
        for i, buyer in enumerate(BUYERS):
            bidding = {
                "generate_bid": str(folder / "b.js"),
                "prepare_data": str(folder / "p.js"),
                "egress_schema": str(folder / "schema.json"),
                "limited_egress_bits": 3,
            }
            document = {
                **base,
                "name": buyer,
                "buyer_front_end": {"requests_at_once": at_once},
                "bidding": bidding,
                "key_value": {"snapshot": str(folder / buyer), "udf": str(folder / "r.js")},
                "inference": {"models": str(folder / "models")},
            }
            parties.append(Party(folder, document, [all_cores[i % len(all_cores)]] if pins else all_cores))
        fronts = {party.name: party.addresses["grpc"] for party in parties}
        seller = {
            **base,
            "name": "seller.example",
            "seller_front_end": {
                "seller_domain": "seller.example",
                "buyers": fronts,
                "uses_scoring_signals": False,
                "enable_chaffing": True,
                "auctions_at_once": at_once and at_once + 1,
            },
            "auction": {
                "score_ad": str(folder / "s.js"),
                "report_win": {buyer: str(folder / "w.js") for buyer in BUYERS},
            },
        }
        parties.append(Party(folder, seller, all_cores))
        async with grpc.aio.insecure_channel(parties[-1].addresses["grpc"]) as channel:
            client = Client(ba_grpc.SellerFrontEndStub(channel))
            # Twice the width, so that every script has all of its workers before anything is measured.
            await client.full_load(5, 2 * width)
            single = await client.full_load(seconds / 4, 1)
            before = [party.cpu_s() for party in parties]
            watching = asyncio.create_task(watch(parties))
            full = await client.full_load(seconds, width)
            watching.cancel()
            n_auctions = len(full.latencies)
            after = [party.cpu_s() for party in parties]
            per_second = n_auctions / full.wall_s
            earlier = [party.histograms() for party in parties]
            half = await client.open_load(HALF_LOAD_TIMES * seconds, per_second / 2)
            hops_after = [party.histograms() for party in parties]
            over = await client.open_load(seconds / 2, per_second * 1.5)
        hops = {
            f"{party.name}: {step}": {f"p{q}": round(1000 * quantile(b, q / 100), 2) for q in (50, 95, 99)}
            for party, old, new in zip(parties, earlier, hops_after, strict=True)
            for step, b in since(old, new).items()
        }
    finally:
        for party in parties:
            party.stop()
    cpu_ms: dict[str, float] = {}
    for old, new in zip(before, after, strict=True):
        for kind, value in new.items():
            cpu_ms[kind] = cpu_ms.get(kind, 0.0) + 1000 * (value - old.get(kind, 0.0)) / n_auctions
    total_ms = sum(cpu_ms.values())
    alone_ms = {name: 1000 * value for name, value in irreducible(folder).items()}
    contexts_ms, fresh_scripts_ms = (
        1000 * fresh_contexts_cpu_s(folder, runs_scripts=runs_scripts) for runs_scripts in (False, True)
    )
    fresh_ms = sum(alone_ms.values()) - alone_ms["scripts"] + fresh_scripts_ms
    return {
        "auctions": n_auctions,
        "failed": client.n_failed,
        "auctions_per_second": round(per_second, 1),
        "auctions_per_cpu_second": round(1000 / total_ms, 1),
        "cpu_ms_per_auction": {kind: round(value, 2) for kind, value in cpu_ms.items()},
        "irreducible_cpu_ms_per_auction": {name: round(value, 3) for name, value in alone_ms.items()},
        "fresh_contexts_cpu_ms_per_auction": round(contexts_ms, 3),
        "scripts_in_fresh_contexts_cpu_ms_per_auction": round(fresh_scripts_ms, 3),
        # All CPU time, over HPKE, inference, retrieval and the scripts run in one context that is never renewed.
        "ratio": round(total_ms / sum(alone_ms.values()), 2),
        # All CPU time, over the same and nine fresh contexts.
        "ratio_with_fresh_contexts": round(total_ms / (contexts_ms + sum(alone_ms.values())), 2),
        # All CPU time, over HPKE, inference, retrieval and the scripts run in nine fresh contexts.
        "ratio_with_scripts_in_fresh_contexts": round(total_ms / fresh_ms, 2),
        "latency_one_at_a_time_ms": milliseconds(single.latencies),
        "latency_full_load_ms": milliseconds(full.latencies),
        "latency_half_load_ms": milliseconds(half.latencies),
        "latency_at_one_and_a_half_times_full_load_ms": milliseconds(over.latencies),
        "hops_half_load_ms": hops,
        "cores": os.cpu_count(),
        "buyers_on_one_core_each": pins,
        "load_average_before": load_average,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=20, help="of the closed loop; half load takes six times as long"
    )
    parser.add_argument("--width", type=int, default=4, help="auctions under way at full load")
    parser.add_argument("--engine", choices=["v8", "quickjs"], default="v8", help="what the services run scripts on")
    parser.add_argument("--no-pins", dest="pins", action="store_false", help="let buyers' processes run on every core")
    parser.add_argument(
        "--at-once", type=int, default=1, help="requests a buyer works on at once, the seller one more; 0: no limit"
    )
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adyton-bench-") as folder:
        result = asyncio.run(
            measure(options.seconds, options.width, options.engine, options.pins, options.at_once or None, Path(folder))
        )
    text = json.dumps(result, indent=1)
    if options.json is not None:
        options.json.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
