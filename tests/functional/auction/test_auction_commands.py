"""`adyton auction serve` and `collector` as processes: ready lines, real requests, clean ends, no heavy imports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest

from adyton.protocol.messages import bidding_auction_servers_pb2_grpc as ba_grpc

RUN = "import sys; from adyton.cli.auction import auction; auction(sys.argv[1:])"


@contextlib.contextmanager
def command(*arguments: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """The ready line and the process of `adyton auction ...`."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield json.loads(line), process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_whole_stack_answers_an_auction_and_ends_on_sigterm(parts: ModuleType) -> None:
    async def ask(address: str) -> Any:
        message = parts.client_input(dict.fromkeys(parts.BUYERS, b"\x01\x01"), generation_id="987654321")
        async with grpc.aio.insecure_channel(address) as channel:
            ciphertext, context = parts.encrypt(message)
            stub = ba_grpc.SellerFrontEndStub(channel)
            return parts.decrypt(await stub.SelectAd(parts.select_ad_request(ciphertext), timeout=30), context)

    with command("serve", "--all", "--log-level", "INFO") as (ready, process):
        result = asyncio.run(ask(ready["processes"]["seller.example"]["grpc"]))
        metrics = urllib.request.urlopen(f"http://{ready['processes']['seller.example']['http']}/metrics").read()
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=30)[1]

    assert result.interest_group_owner in parts.BUYERS
    assert result.win_reporting_urls.buyer_reporting_urls.reporting_url.startswith("https://buyer")
    assert b'adyton_auction_calls_total{code="OK",method="SelectAd"} 1.0' in metrics
    assert process.returncode == 0, errors
    told = [json.loads(line) for line in errors.splitlines()]
    calls = [entry["method"] for entry in told if entry["message"] == "call"]
    assert sorted(calls) == ["GetBids", "GetBids", "SelectAd"]
    for secret in ("com.example.app", "987654321", "cdn.buyer", "generation_id"):
        assert secret not in errors


def test_collector_keeps_what_reports_carry_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "reports"
    with command("collector", "--out", str(out)) as (ready, process):
        base = f"http://{ready['http']}"
        for number in range(3):
            query = f"egress=BUA%3D&render=https%3A%2F%2Fcdn%2Fad-{number}&bid=1.5"
            request = urllib.request.Request(f"{base}/win?{query}", headers={"User-Agent": "secret-agent"})
            assert urllib.request.urlopen(request).status == 204
        assert json.load(urllib.request.urlopen(urllib.request.Request(f"{base}/flush", method="POST"))) == {
            "written": 3
        }
        urllib.request.urlopen(urllib.request.Request(f"{base}/click?request=r1", method="POST", data=b"body"))
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{base}/win?egress=1&egress=2")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    files = sorted(out.iterdir())
    assert [path.name.split("-")[0] for path in files] == ["click", "win"]
    wins = pq.read_table(files[1]).to_pydict()
    assert sorted(wins) == ["bid", "egress", "received_at_ms", "render"]
    assert wins["egress"] == ["BUA="] * 3
    assert wins["render"][2] == "https://cdn/ad-2"
    assert pq.read_table(files[0]).column_names == ["received_at_ms", "request"]
    assert not any(word in path.read_bytes() for path in files for word in (b"secret-agent", b"127.0.0.1", b"body"))
    assert process.returncode == 0


def test_services_start_without_torch_and_other_heavy_libraries() -> None:
    modules = "adyton.auction.services.process, adyton.auction.services.demo_stack, adyton.auction.collector"
    heavy = ("torch", "sklearn", "scipy", "numba", "pandas", "duckdb", "matplotlib")
    code = f"import sys, {modules}; print([m for m in {heavy!r} if m in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found.strip() == "[]"


def test_a_second_process_does_not_share_a_port(tmp_path: Path) -> None:
    """Two on one port would each get some of the calls, with other keys and other code."""
    with command("collector", "--out", str(tmp_path)) as (collector, _), command("serve", "--all") as (stack, _):
        (tmp_path / "score.js").write_text("function scoreAd() { return 1 }")
        for member, taken in (
            ("listen", stack["processes"]["seller.example"]["grpc"]),
            ("http_listen", collector["http"]),
        ):
            document = {"name": "s", "test_mode": True, "auction": {"score_ad": "score.js"}, member: taken}
            (tmp_path / "config.json").write_text(json.dumps(document))
            arguments = ["serve", "--config", str(tmp_path / "config.json")]
            ended = subprocess.run(
                [sys.executable, "-m", "adyton.cli.main", "auction", *arguments],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert ended.returncode == 10
            assert f"error: {taken}: the address cannot be bound" in ended.stderr
            assert "Traceback" not in ended.stderr
            assert ended.stdout == ""
