"""A worker that has fallen to its script: real processes that send whatever they like."""

from __future__ import annotations

import asyncio
import os
import sys

import orjson
import pytest

from adyton.kernel.errors import AdytonError
from adyton.sandbox.errors import SandboxUnavailableError, UdfCrashedError, UdfOutputError, UdfTimeoutError
from adyton.sandbox.frames import Answer
from adyton.sandbox.isolation import Isolation, WorkerCommand
from adyton.sandbox.outcomes import outcome_of
from adyton.sandbox.process import WorkerProcess
from adyton.sandbox.values import NO_EFFECTS, SandboxLimits, UdfHandle, UdfKind, UdfResult

HANDLE = UdfHandle("attacker.example", "0" * 64, UdfKind.SCORE_AD)
LIMITS = SandboxLimits(start_ms=10_000, load_ms=2_000)
PROGRAM = """
import os, sys, struct, time
def send(kind, payload=b""): os.write(1, struct.pack(">IB", len(payload), kind) + payload)
def take():
    head = os.read(0, 5); need = struct.unpack(">I", head[:4])[0]
    while need: need -= len(os.read(0, need))
def header(text, body=b""): return struct.pack(">I", len(text)) + text + body
send(16); take(); send(17); take()
"""
FORGED = {
    "a type that workers do not send": ("send(3)", UdfOutputError),
    "an endless length": ("os.write(1, b'\\xff\\xff\\xff\\xff' + bytes([19]))", UdfOutputError),
    "noise": ("os.write(1, b'console output' * 10)", UdfOutputError),
    "a flood of frames": ("[send(21) for _ in range(10_000)]", UdfOutputError),
    "a result that is not one": ("send(19, b'no header')", UdfOutputError),
    "a result of another request": ("send(19, header(b'{\"items\":[]}'))", UdfOutputError),
    "a host function of another kind": ("send(20, header(b'{\"name\":\"runInference\"}', b'x'))", UdfOutputError),
    "an effect of another kind": (
        'send(19, header(b\'{"items":[{"status":"R","size":1,"console":"[]",'
        '"effects":"{\\\\"reportUrl\\\\":\\\\"https://x\\\\"}"}]}\', b"1"))',
        UdfOutputError,
    ),
    "half a frame and silence": ("os.write(1, b'\\0\\0'); time.sleep(60)", UdfTimeoutError),
    "half a frame and death": ("os.write(1, b'\\0\\0')", UdfCrashedError),
}


@pytest.mark.parametrize("name", sorted(FORGED))
def test_a_fallen_worker_costs_its_own_request(name: str) -> None:
    body, expected = FORGED[name]

    async def run() -> None:
        command = WorkerCommand((sys.executable, "-c", PROGRAM + body), {}, Isolation.PROCESS)
        worker = await WorkerProcess.start(command, LIMITS)
        await worker.load(HANDLE.label, "", {HANDLE.kind})
        with pytest.raises(expected):
            await worker.call(HANDLE, "f", [[]], timeout_s=1.5, hooks={}, capture_console=False)

        assert not worker.is_alive
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)

    asyncio.run(run())


def test_a_frame_sent_between_requests_is_no_answer_to_the_next() -> None:
    result = """send(19, header(b'{"items":[{"status":"R","size":1,"effects":"{}","console":"[]"}]}', b'1'))"""
    forged = f"{result}; {result}; take(); time.sleep(60)"

    async def run() -> None:
        command = WorkerCommand((sys.executable, "-c", PROGRAM + forged), {}, Isolation.PROCESS)
        worker = await WorkerProcess.start(command, LIMITS)
        await worker.load(HANDLE.label, "", {HANDLE.kind})
        await worker.call(HANDLE, "f", [[]], timeout_s=5, hooks={}, capture_console=False)
        await asyncio.sleep(0.2)
        with pytest.raises(UdfOutputError):
            await worker.call(HANDLE, "f", [[]], timeout_s=5, hooks={}, capture_console=False)

        assert not worker.is_alive

    asyncio.run(run())


def test_an_answer_that_is_not_json_is_an_output_error() -> None:
    forged = """send(19, header(b'{"items":[{"status":"R","size":3,"effects":"{}","console":"[]"}]}', b'{,}'))"""

    async def run() -> None:
        command = WorkerCommand((sys.executable, "-c", PROGRAM + forged + "; time.sleep(60)"), {}, Isolation.PROCESS)
        worker = await WorkerProcess.start(command, LIMITS)
        await worker.load(HANDLE.label, "", {HANDLE.kind})
        (answer,) = await worker.call(HANDLE, "f", [[]], timeout_s=5, hooks={}, capture_console=False)
        await worker.kill()

        assert isinstance(outcome_of(HANDLE, answer), UdfOutputError)

    asyncio.run(run())


def test_an_answer_that_nobody_reads_here_is_still_text() -> None:
    text, noise = (Answer("R", body, NO_EFFECTS, ()) for body in (b"{,}", b"\xff"))

    unread = outcome_of(HANDLE, text, checks_json=False)
    assert isinstance(unread, UdfResult)
    assert unread.json == b"{,}"
    with pytest.raises(orjson.JSONDecodeError):
        _ = unread.value
    assert isinstance(outcome_of(HANDLE, text), UdfOutputError)
    assert isinstance(outcome_of(HANDLE, noise, checks_json=False), UdfOutputError)


def test_a_process_that_says_nothing_is_not_a_worker() -> None:
    async def run() -> None:
        command = WorkerCommand((sys.executable, "-c", "pass"), {}, Isolation.PROCESS)
        with pytest.raises(SandboxUnavailableError):
            await WorkerProcess.start(command, LIMITS)
        with pytest.raises(SandboxUnavailableError):
            await WorkerProcess.start(WorkerCommand(("/nonexistent/deno",), {}, Isolation.PROCESS), LIMITS)

    asyncio.run(run())


def test_errors_name_the_script_and_never_its_data() -> None:
    assert issubclass(UdfTimeoutError, AdytonError)
    assert HANDLE.label == "attacker.example/score_ad/" + "0" * 12
