"""What one auction costs: a seller and two buyers as real processes on loopback, and a client that plays the device.

    python bench/auction.py --seconds 20 --json out.json

Each auction: a 5 kB request, two buyers, one inference call each (a 32-wide tower), 100 candidate ads x 32 dimensions
from a store of 2,000, a dot product for each in generateBid, scoring, both reports. Printed are

- auctions per second at full load and per core (CPU time of all parties' processes, the client's excluded),
- latency of one auction at a time, at full load and at half of that load (Poisson arrivals), from the moment a request
  should leave the device until its answer is there, and for the last the time per hop, from the services' histograms,
- the CPU time of what cannot be left out (HPKE, scripts in V8, inference, retrieval), each measured alone in this run,
  and the ratio of everything to it. Those scripts share one V8 context; the services make an auction's nine calls in
  contexts that no other request has used (§8: no state between requests): one for prepare, retrieve and bid of each
  buyer, one for scoring, one for the report of each side. These five cost more than all of the scripts, so they are
  measured too and a second ratio counts them among what cannot be left out; a third counts the nine calls made in such
  contexts, where V8 has optimised nothing yet. `--separate-files` gives each function of a buyer a file of its own, and
  with it a process and a context: nine contexts then.

What is measured alone runs in a loop of its own, with its code and data in the processor's caches. In the services the
same work is done by a dozen processes that take turns on the cores and find the caches cold, which by itself costs
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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
from auction_work import BUYERS, REQUEST_BYTES, fresh_contexts_cpu_s, irreducible, write_files

from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.frames import decode_client_frame, encode_client_frame
from adyton.protocol.keys import TEST_MODE_KEY
from adyton.protocol.messages import bidding_auction_servers_pb2 as ba
from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc
from adyton.protocol.ohttp import ClientContext, Label, encapsulate_request

WORKERS_PER_UDF = 1
"""Five processes for scripts in all, nine with separate files. A second worker for each makes colder caches on two
cores, not shorter queues."""
MOST_PER_SECOND = 400
"""Requests prepared for each second of a closed loop, more than two cores can serve."""
HALF_LOAD_TIMES = 6
"""How much longer half load is measured: with arrivals by chance one burst decides the 99th percentile of 15 seconds.
For a server that needs 9.4 ms for each auction it was 39 to 67 ms by the seed of 12 s, and 44 ms over ten minutes."""
TICKS = os.sysconf("SC_CLK_TCK")


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
    seconds: float, width: int, engine: str, pins: bool, at_once: int | None, separate_files: bool, folder: Path
) -> dict[str, object]:
    load_average = [round(load, 2) for load in os.getloadavg()]
    write_files(folder, separate_files)
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
        1000 * fresh_contexts_cpu_s(folder, runs_scripts=runs_scripts, separate_files=separate_files)
        for runs_scripts in (False, True)
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
        # All CPU time, over the same and the fresh contexts.
        "ratio_with_fresh_contexts": round(total_ms / (contexts_ms + sum(alone_ms.values())), 2),
        # All CPU time, over HPKE, inference, retrieval and the scripts run in these fresh contexts.
        "ratio_with_scripts_in_fresh_contexts": round(total_ms / fresh_ms, 2),
        "latency_one_at_a_time_ms": milliseconds(single.latencies),
        "latency_full_load_ms": milliseconds(full.latencies),
        "latency_half_load_ms": milliseconds(half.latencies),
        "latency_at_one_and_a_half_times_full_load_ms": milliseconds(over.latencies),
        "hops_half_load_ms": hops,
        "cores": os.cpu_count(),
        "buyers_on_one_core_each": pins,
        "separate_files": separate_files,
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
    parser.add_argument(
        "--separate-files",
        action="store_true",
        help="a file, process and context for each function of a buyer",
    )
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adyton-bench-") as folder:
        result = asyncio.run(
            measure(
                options.seconds,
                options.width,
                options.engine,
                options.pins,
                options.at_once or None,
                options.separate_files,
                Path(folder),
            )
        )
    text = json.dumps(result, indent=1)
    if options.json is not None:
        options.json.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
