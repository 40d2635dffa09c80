"""One worker process: start it, load one script, make calls, kill it. Owns the process and both ends of its pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Collection, Mapping, Sequence

import orjson

from adyton.kernel.errors import AdytonError
from adyton.sandbox.channel import Channel
from adyton.sandbox.engines import driver_source
from adyton.sandbox.errors import (
    SandboxUnavailableError,
    UdfCrashedError,
    UdfLoadError,
    UdfOutputError,
    UdfTimeoutError,
)
from adyton.sandbox.frames import (
    Answer,
    Frame,
    FrameType,
    MalformedFrameError,
    argument_forms,
    decode_answers,
    decode_host_call,
    encode_frame,
    with_header,
)
from adyton.sandbox.hooks import EFFECTS_OF_KIND, HOOK_SHAPES, HOOKS_OF_KIND, may_register
from adyton.sandbox.isolation import WorkerCommand
from adyton.sandbox.request import ScriptRequest
from adyton.sandbox.values import NO_EFFECTS, HostHook, SandboxLimits, UdfHandle, UdfKind

_FRAME_OVERHEAD_BYTES = 1024 * 1024


class WorkerProcess:
    """A worker that `start` made. Every error but UdfLoadError leaves it dead.

    kinds: what its script may be called for.   requests: calls so far.   kept_for: the request whose context it keeps,
    None if it keeps none.   rests: it may be collecting garbage after the last one, and `when_ready` tells the end.
    has_heir: the worker that is to take its place has been started.
    """

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, limits: SandboxLimits) -> None:
        self._process = process
        self._channel = channel
        self._limits = limits
        self.kinds: frozenset[UdfKind] = frozenset()
        self.requests = 0
        self.kept_for: ScriptRequest | None = None
        self.rests = False
        self.has_heir = False

    @classmethod
    async def start(cls, command: WorkerCommand, limits: SandboxLimits) -> WorkerProcess:
        """A worker without a script. Raises SandboxUnavailableError if it does not come up in `limits.start_ms`."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise SandboxUnavailableError("a worker's socket cannot be made", where=type(error).__name__) from error
        # The payload of a result is at most one answer over the limit plus console lines and effects.
        channel = Channel(limits.result_bytes + limits.hook_bytes + _FRAME_OVERHEAD_BYTES)
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                # What an engine prints when it dies may quote the script's data.
                stderr=asyncio.subprocess.DEVNULL,
                env=command.environment,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise SandboxUnavailableError("a worker process cannot be started", where=type(error).__name__) from error
        finally:
            theirs.close()
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
        worker = cls(process, channel, limits)
        try:
            async with asyncio.timeout(limits.start_ms / 1000):
                await worker._expect(FrameType.HELLO)
        except BaseException as error:
            await worker.kill()
            if isinstance(error, TimeoutError | AdytonError):
                raise SandboxUnavailableError(
                    "a worker process did not come up", hint="adyton sandbox report shows what works on this machine"
                ) from error
            raise
        return worker

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._channel.closed

    @property
    def pid(self) -> int:
        return self._process.pid

    async def load(self, label: str, code: str, kinds: Collection[UdfKind]) -> None:
        """Give the worker its script, and what it may be called for; `label` names it in errors.

        Raises UdfLoadError, UdfTimeoutError, UdfCrashedError, UdfOutputError.
        """
        parts = with_header({"driver": driver_source(), "spec": driver_spec(kinds, self._limits)}, code.encode())
        try:
            async with asyncio.timeout(self._limits.load_ms / 1000):
                self._channel.send(encode_frame(FrameType.LOAD, *parts))
                frame = await self._receive(label)
        except TimeoutError:
            await self.kill()
            raise UdfTimeoutError("the script did not load in time", where=label) from None
        except BaseException:
            await self.kill()
            raise
        if frame.type is FrameType.LOAD_FAILED:
            await self.kill()
            message = frame.payload.decode(errors="replace")
            raise UdfLoadError("the script cannot be loaded", where=label, script_message=message)
        if frame.type is not FrameType.LOADED:
            await self.kill()
            raise UdfOutputError("the worker broke the protocol while loading", where=label)
        self.kinds = frozenset(kinds)

    async def call(
        self,
        handle: UdfHandle,
        function: str,
        calls: Sequence[Sequence[tuple[str, bytes]]],
        *,
        timeout_s: float,
        hooks: Mapping[str, HostHook],
        capture_console: bool,
        request: ScriptRequest | None = None,
        keeps: bool = False,
    ) -> list[Answer]:
        """The answers to `calls` (each a list of (form, body) arguments), all made in one context: a fresh one, or the
        one that was kept for this request.

        keeps: the context stays for the next call of `request`, or until another request takes this worker.
        Raises UdfTimeoutError, UdfCrashedError, UdfOutputError; the process is dead afterwards, also on cancellation.
        """
        self.requests += 1
        is_kept = request is not None and self.kept_for is request
        self.kept_for = None
        header = {
            "function": function, "kind": handle.kind.value, "calls": [argument_forms(call) for call in calls],
            "console": capture_console, "fresh": not is_kept, "keep": keeps,
        }  # fmt: skip
        bodies = [body for call in calls for _, body in call]
        budget = _HookBudget(self._limits.hook_calls * len(calls), self._limits.hook_bytes)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        timer = loop.call_at(deadline, self._channel.expire)
        try:
            if self._channel.has_frames:
                raise MalformedFrameError("a frame while it had nothing to do")  # noqa: TRY301
            self._channel.send(encode_frame(FrameType.CALL, *with_header(header, *bodies)))
            while True:
                frame = await self._channel.receive()
                if frame.type is FrameType.RESULT:
                    answers, self.rests = decode_answers(frame.payload, len(calls))
                    for answer in answers:
                        if answer.effects is not NO_EFFECTS and not may_register(handle.kind, answer.effects):
                            raise MalformedFrameError("effects that this kind of script cannot have")  # noqa: TRY301
                    if keeps:
                        self._keep_for(request)
                    return answers
                if frame.type is not FrameType.HOST_CALL:
                    raise MalformedFrameError("an unexpected frame")  # noqa: TRY301
                async with asyncio.timeout_at(deadline):
                    await self._answer_host_call(handle, frame, hooks, budget)
        except TimeoutError:
            await self.kill()
            raise UdfTimeoutError(f"no answer within {timeout_s * 1000:.0f} ms", where=handle.label) from None
        except MalformedFrameError as error:
            await self.kill()
            raise UdfOutputError(f"the worker sent {error}", where=handle.label) from None
        except EOFError:
            await self.kill()
            raise UdfCrashedError("the worker process ended", where=handle.label) from None
        except BaseException:
            await self.kill()
            raise
        finally:
            timer.cancel()

    def forget(self, request: ScriptRequest) -> None:
        """Let go of the context that is kept for `request`; nothing to do where another request has taken its place."""
        if self.kept_for is request:
            self.kept_for = None
            self._channel.send(encode_frame(FrameType.FORGET))

    def _keep_for(self, request: ScriptRequest | None) -> None:
        if request is None or request.is_over:  # it ended while a task that it had started was still in the call
            self._channel.send(encode_frame(FrameType.FORGET))
        else:
            self.kept_for = request
            request.kept_by(self)

    def when_ready(self, timeout_s: float, then: Callable[[bool], None]) -> None:
        """Call `then(True)` once a worker that `rests` can take another call.

        `then(False)` if it is dead, breaks the protocol or needs longer than `timeout_s`; it is of no use then.
        """
        timer = asyncio.get_running_loop().call_later(timeout_s, self._channel.expire)

        def heard(frame: Frame | None) -> None:
            timer.cancel()
            then(frame is not None and frame.type is FrameType.READY)

        self._channel.listen(heard)

    async def kill(self) -> None:
        """SIGKILL the whole process group and reap it. Harmless when it is already dead."""
        self._channel.close()
        if self._process.returncode is None:
            # Not `Process.kill`: it polls, and so takes the exit status away from asyncio's own watcher.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # A cancelled caller must not leave a zombie behind.
        await asyncio.shield(self._process.wait())

    async def _answer_host_call(
        self, handle: UdfHandle, frame: Frame, hooks: Mapping[str, HostHook], budget: _HookBudget
    ) -> None:
        name, text = decode_host_call(frame.payload)
        if name not in HOOKS_OF_KIND[handle.kind]:
            raise MalformedFrameError("a call of a host function that this kind of script does not have")
        hook = hooks.get(name)
        if not budget.take_call(len(frame.payload)):
            reply = b"ethe budget for host functions is used up"
        elif hook is None:
            reply = b"enot available in this request"
        else:
            try:
                answer = await hook(text)
            except AdytonError:
                reply = b"ethe host function failed"
            else:
                reply = b"b" + answer if isinstance(answer, bytes) else b"s" + answer.encode()
                if not budget.take_bytes(len(reply)):
                    reply = b"ethe budget for host functions is used up"
        self._channel.send(encode_frame(FrameType.HOST_REPLY, reply))

    async def _expect(self, kind: FrameType) -> None:
        frame = await self._receive("worker")
        if frame.type is not kind:
            raise UdfOutputError("the worker sent an unexpected frame", where="worker")

    async def _receive(self, where: str) -> Frame:
        try:
            return await self._channel.receive()
        except MalformedFrameError as error:
            raise UdfOutputError(f"the worker sent {error}", where=where) from None
        except EOFError:
            raise UdfCrashedError("the worker process ended", where=where) from None


class _HookBudget:
    """How often and with how many bytes one request may still call host functions."""

    def __init__(self, calls: int, n_bytes: int) -> None:
        self._calls = calls
        self._bytes = n_bytes

    def take_call(self, n_bytes: int) -> bool:
        self._calls -= 1
        return self._calls >= 0 and self.take_bytes(n_bytes)

    def take_bytes(self, n_bytes: int) -> bool:
        self._bytes -= n_bytes
        return self._bytes >= 0


def driver_spec(kinds: Collection[UdfKind], limits: SandboxLimits) -> str:
    """What the driver is told about a script that may be called for these kinds, as JSON."""
    names = {name for kind in kinds for name in HOOKS_OF_KIND[kind]}
    shapes = {name: {"call": HOOK_SHAPES[name].call, "answer": HOOK_SHAPES[name].answer} for name in sorted(names)}
    return orjson.dumps(
        {
            "kinds": {kind.value: dict.fromkeys(HOOKS_OF_KIND[kind] | EFFECTS_OF_KIND[kind], True) for kind in kinds},
            "hooks": shapes,
            "consoleBytes": limits.console_bytes,
            "resultBytes": limits.result_bytes,
        }
    ).decode()
