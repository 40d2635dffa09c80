"""The auction's parties as processes of their own: started, waited for, and always ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from adyton.auction.config import (
    AuctionConfig,
    BiddingConfig,
    BuyerFrontEndConfig,
    InferenceConfig,
    KeyValueConfig,
    ProcessConfig,
    SandboxConfig,
    ScriptSource,
    SellerFrontEndConfig,
)
from adyton.flywheel.errors import StepFailedError
from adyton.flywheel.publish_step import PublishedBuyer

_READY_S = 60.0
_END_S = 10.0
_LINE_BYTES = 1 << 16


def buyer_config(
    published: PublishedBuyer, *, egress_bits: int, noise_rate: str, fixed_noise_seed: int | None
) -> dict[str, Any]:
    """One buyer's process: front end, bidding, ad retrieval and inference."""
    folder = published.folder
    bidding_code = ScriptSource(default=str(folder / "bidding.js"))
    config = ProcessConfig(
        name=published.buyer,
        test_mode=True,
        sandbox=SandboxConfig(workers_per_udf=1),
        buyer_front_end=BuyerFrontEndConfig(),
        bidding=BiddingConfig(
            generate_bid=bidding_code,
            prepare_data=bidding_code,
            egress_schema=ScriptSource(default=str(folder / "egress_schema.json")),
            limited_egress_bits=egress_bits,
            noise_rate=Fraction(noise_rate),
            insecure_fixed_noise_seed=fixed_noise_seed,
        ),
        key_value=KeyValueConfig(snapshot=str(folder / "ads"), udf=ScriptSource(default=str(folder / "retrieval.js"))),
        inference=InferenceConfig(models=str(folder / "models"), model_list="models.json"),
    )
    return config.model_dump(mode="json", exclude_none=True)


def seller_config(folder: Path, domain: str, buyers: Mapping[str, tuple[str, Path]]) -> dict[str, Any]:
    """The seller's process: front end, scoring, and the lookup of approved ads.

    buyers: buyer -> (address of its front end, its reportWin script).
    """
    config = ProcessConfig(
        name=domain,
        test_mode=True,
        sandbox=SandboxConfig(workers_per_udf=1),
        seller_front_end=SellerFrontEndConfig(
            seller_domain=domain,
            buyers={buyer: address for buyer, (address, _) in buyers.items()},
            requires_scoring_signals=True,
            enable_chaffing=True,
        ),
        auction=AuctionConfig(
            score_ad=ScriptSource(default=str(folder / "seller.js")),
            report_win={buyer: ScriptSource(default=str(script)) for buyer, (_, script) in buyers.items()},
        ),
        key_value=KeyValueConfig(snapshot=str(folder / "lookup")),
    )
    return config.model_dump(mode="json", exclude_none=True)


class PartyProcesses:
    """Child processes of the run; each announces itself by one line of JSON."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack

    async def serve(self, config: Mapping[str, Any]) -> str:
        """Start `adyton auction serve` with `config` and give back its gRPC address."""
        name = str(config["name"])
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(config, indent=1))
        ready = await self._start(name, ["auction", "serve", "--config", str(path)])
        return str(ready["processes"][name]["grpc"])

    async def collect(self, out: Path) -> str:
        """Start `adyton auction collector` that writes into `out`, and give back its URL."""
        ready = await self._start(out.name, ["auction", "collector", "--out", str(out)])
        return f"http://{ready['http']}"

    async def _start(self, name: str, arguments: Sequence[str]) -> dict[str, Any]:
        log = await asyncio.to_thread((self._folder / f"{name}.log").open, "wb")
        self._stack.callback(log.close)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "adyton", *arguments, stdout=asyncio.subprocess.PIPE, stderr=log, limit=_LINE_BYTES
        )
        self._stack.push_async_callback(_end, process)
        assert process.stdout is not None, "it was asked for"
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _READY_S)
            ready: dict[str, Any] = json.loads(line)
        except (TimeoutError, ValueError) as error:
            raise StepFailedError(
                "a process of the auction did not start", where=name, hint=f"its log is {name}.log; keep it with --keep"
            ) from error
        return ready


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def party_processes(folder: Path) -> AsyncIterator[PartyProcesses]:
    """Processes whose logs and configurations go into `folder`; all have ended when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        yield PartyProcesses(folder, stack)
