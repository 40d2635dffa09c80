"""A seller and two buyers in one process, for trying things out: the test key, example scripts, a few example ads.

The parties still speak encrypted gRPC to each other; only the machine is shared. Nothing here may serve real people.
"""

from __future__ import annotations

import asyncio
import csv
import json
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from adyton.auction.config import ProcessConfig, parse_config
from adyton.auction.services.process import PartyProcess
from adyton.auction.services.run import stop_on_signals

SELLER = "seller.example"
BUYERS = ("buyer1.example", "buyer2.example")
_EXAMPLE = Path(__file__).resolve().parent.parent / "example"
_ADS_PER_BUYER = 8


def buyer_example(name: str, snapshot: Path) -> ProcessConfig:
    """A buyer's process with the example scripts and the ads in `snapshot`."""
    return parse_config(
        {
            "name": name,
            "test_mode": True,
            "http_listen": "127.0.0.1:0",
            "sandbox": {"spares": 0, "workers_per_udf": 1},
            "buyer_front_end": {},
            "bidding": {
                "generate_bid": str(_EXAMPLE / "buyer.js"),
                "prepare_data": str(_EXAMPLE / "buyer.js"),
                "egress_schema": str(_EXAMPLE / "egress_schema.json"),
                "limited_egress_bits": 3,
            },
            "key_value": {"snapshot": str(snapshot), "udf": str(_EXAMPLE / "retrieval.js")},
        }
    )


def seller_example(buyers: dict[str, str], *, listen: str = "127.0.0.1:0") -> ProcessConfig:
    """A seller's process that knows `buyers` (name -> address)."""
    return parse_config(
        {
            "name": SELLER,
            "listen": listen,
            "test_mode": True,
            "http_listen": "127.0.0.1:0",
            "sandbox": {"spares": 0, "workers_per_udf": 1},
            "seller_front_end": {
                "seller_domain": SELLER,
                "buyers": buyers,
                "uses_scoring_signals": False,
                "enable_chaffing": True,
            },
            "auction": {
                "score_ad": str(_EXAMPLE / "seller.js"),
                "report_win": {buyer: str(_EXAMPLE / "report_win.js") for buyer in buyers},
            },
        }
    )


def write_example_ads(folder: Path, buyer: str) -> None:
    """A snapshot of eight ads with four-dimensional embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    number = BUYERS.index(buyer) if buyer in BUYERS else 0
    with (folder / "SNAPSHOT_0000000000000001.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "logical_commit_time", "mutation_type", "value", "value_type"])
        for index in range(_ADS_PER_BUYER):
            ad = {
                "url": f"https://cdn.{buyer}/ad-{index}",
                "price": 1.0 + (3 * index + 5 * number) % 7 / 10,
                "country": ["DE", "AT"] if index % 2 else ["US", "DE"],
                "embedding": [1.0 if index % 4 == axis else 0.1 for axis in range(4)],
            }
            writer.writerow([f"ad-{index}", 1, "UPDATE", json.dumps(ad), "string"])


async def serve_demo_stack(*, announce: Callable[[str], None], listen: str = "127.0.0.1:0") -> None:
    """Serve until SIGTERM or SIGINT.

    announce: gets one JSON line with every party's addresses, as `serve_processes` writes it.
    """
    stop = stop_on_signals()
    with tempfile.TemporaryDirectory(prefix="adyton-stack-") as folder:
        async with AsyncExitStack() as stack:
            parties = []
            for buyer in BUYERS:
                snapshot = Path(folder) / buyer
                await asyncio.to_thread(write_example_ads, snapshot, buyer)
                parties.append(await stack.enter_async_context(PartyProcess(buyer_example(buyer, snapshot))))
            addresses = {party.config.name: party.addresses.grpc for party in parties}
            seller = await stack.enter_async_context(PartyProcess(seller_example(addresses, listen=listen)))
            told = {party.config.name: party.addresses.as_json() for party in (seller, *parties)}
            announce(json.dumps({"ready": True, "processes": told}))
            await stop.wait()
