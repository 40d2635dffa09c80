"""`adyton sandbox report` against the real engine, and against an engine that is allowed everything."""

from __future__ import annotations

import asyncio
from importlib import resources

import orjson
import pytest
from click.testing import CliRunner

from adyton.cli.sandbox import sandbox
from adyton.sandbox.deno import deno_command, find_deno
from adyton.sandbox.isolation import Isolation, WorkerCommand, strongest_isolation
from adyton.sandbox.report import probe_attempts
from adyton.sandbox.values import SandboxLimits


def test_the_report_blocks_every_attempt_on_the_strongest_wall_of_this_machine() -> None:
    done = CliRunner().invoke(sandbox, ["report", "--json"])
    report = orjson.loads(done.stdout)

    assert [attempt["name"] for attempt in report["attempts"] if attempt["verdict"] != "BLOCKED"] == []
    assert done.exit_code == 0
    assert report["all_blocked"] is True
    assert len(report["attempts"]) > 50
    assert report["isolation"] == strongest_isolation().value


@pytest.mark.slow
def test_the_report_blocks_every_attempt_on_quickjs_too() -> None:
    pytest.importorskip("_quickjs", reason="the extra `quickjs` is not installed")
    done = CliRunner().invoke(sandbox, ["report", "--json", "--engine", "quickjs"])
    report = orjson.loads(done.stdout)

    assert [attempt["name"] for attempt in report["attempts"] if attempt["verdict"] != "BLOCKED"] == []
    assert len(report["attempts"]) > 30


def test_permissions_alone_block_code_that_holds_the_engine() -> None:
    attempts = asyncio.run(probe_attempts(deno_command(SandboxLimits(), Isolation.PROCESS, "probe.js")))

    assert [attempt.name for attempt in attempts if not attempt.blocked] == []


def test_the_probe_says_allowed_where_everything_is_allowed() -> None:
    """A report that could only say BLOCKED would say nothing."""
    program = str(resources.files("adyton.sandbox").joinpath("probe.js"))
    walls_down = WorkerCommand(
        (str(find_deno()), "run", "--quiet", "--no-config", "--allow-all", program), {"HOME": "/tmp"}, Isolation.PROCESS
    )

    attempts = asyncio.run(probe_attempts(walls_down))
    allowed = {attempt.name.removesuffix(", inside the engine") for attempt in attempts if not attempt.blocked}

    assert allowed >= {
        "read a file",
        "read environment variables",
        "start a process",
        "call native code",
        "open a connection",
        "fetch from the network",
        "listen on a port",
    }


@pytest.mark.parametrize("wall", ["nonsense", "PROCESS"])
def test_an_unknown_wall_is_a_usage_error(wall: str) -> None:
    assert CliRunner().invoke(sandbox, ["report", "--isolation", wall]).exit_code == 2
