"""Worker processes for many scripts: one owner and one code version each, spares ready, failures backed off.

Code that has several functions, such as a buyer's prepareDataForAdRetrieval and generateBid in one file, is one version
and shares its workers; each call says what it is for, and has the host functions of that.

async with SandboxPool() as pool:
    handle = await pool.load("buyer.example", code, UdfKind.GENERATE_BID)
    result = await pool.call(handle, "generateBid", [orjson.dumps(ads), b'""'], deadline_ms=100)
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import deque
from collections.abc import Collection, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Self
from weakref import WeakValueDictionary

from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.errors import AdytonError
from adyton.sandbox.engines import Engine, worker_command
from adyton.sandbox.errors import (
    SandboxUnavailableError,
    UdfArgumentError,
    UdfCrashedError,
    UdfLoadError,
    UdfOutputError,
    UdfThrewError,
    UdfTimeoutError,
)
from adyton.sandbox.health import ScriptHealth
from adyton.sandbox.isolation import Isolation, strongest_isolation, warn_if_weak
from adyton.sandbox.lanes import Lane
from adyton.sandbox.outcomes import argument_form, outcome_of
from adyton.sandbox.process import WorkerProcess
from adyton.sandbox.request import ScriptRequest, current_request
from adyton.sandbox.values import (
    HostHook,
    SandboxLimits,
    UdfArgument,
    UdfHandle,
    UdfKind,
    UdfResult,
)

_log = logging.getLogger(__name__)
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_NO_HOOKS: Mapping[str, HostHook] = MappingProxyType({})
# A worker that is busy is most often free again in a few milliseconds; starting another takes far longer.
_GROWTH_WAIT_S = 0.02


class SandboxPool:
    """Runs untrusted scripts. An async context manager; `close` kills every process.

    spares: blank workers kept ready, so that loading and replacing never wait for a process to start.
    isolation: None finds the strongest wall of this machine when the pool opens.   engine: what runs the scripts.
    """

    def __init__(
        self,
        *,
        limits: SandboxLimits | None = None,
        spares: int = 1,
        clock: Clock | None = None,
        isolation: Isolation | None = None,
        engine: Engine = Engine.V8,
    ) -> None:
        self.limits = limits or SandboxLimits()
        self._engine = engine
        self._n_spares = spares
        self._clock: Clock = clock or SystemClock()
        self._isolation = isolation
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._loading: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._spares: deque[WorkerProcess] = deque()
        self._health = ScriptHealth(self.limits, self._clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: set[WorkerProcess] = set()
        self._n_workers = 0
        self._closed = False
        self._refilling = False

    @property
    def isolation(self) -> Isolation:
        """The wall around the workers; known once the pool is open."""
        if self._isolation is None:
            raise SandboxUnavailableError("the sandbox pool is not open", hint="use `async with SandboxPool()`")
        return self._isolation

    async def __aenter__(self) -> Self:
        if self._isolation is None:
            self._isolation = await asyncio.to_thread(strongest_isolation)
        warn_if_weak(self._isolation)
        self._refill()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def load(self, owner: str, code: str, kind: UdfKind) -> UdfHandle:
        """A handle for `code`, after a worker has compiled it and run its top level once.

        Loading the same code again gives the same handle at no cost, and many who load it at once start one worker.
        Raises UdfLoadError, UdfTimeoutError, UdfCrashedError, UdfOutputError, SandboxUnavailableError.
        """
        encoded = code.encode()
        handle = UdfHandle(owner, hashlib.sha256(encoded).hexdigest(), kind)
        if len(encoded) > self.limits.code_bytes:
            raise UdfLoadError(f"the script is larger than {self.limits.code_bytes} bytes", where=handle.label)
        async with self._loading.setdefault(handle.version, asyncio.Lock()):
            lane = self._lanes.get(handle.version)
            if lane is None or kind not in lane.kinds:
                lane = await self._widened(handle, code, {kind} if lane is None else {kind} | lane.kinds)
            lane.uses |= {kind}
        return handle

    async def unload(self, handle: UdfHandle) -> None:
        """Forget a script; requests in flight still end, then its processes do, if it has no other use."""
        lane = self._lanes.get(handle.version)
        if lane is None:
            return
        lane.uses -= {handle.kind}
        if lane.uses:
            return
        del self._lanes[handle.version]
        lane.unloaded = True
        self._drain(lane)

    async def _widened(self, handle: UdfHandle, code: str, kinds: Collection[UdfKind]) -> Lane:
        """The lane, with a worker that was told of more kinds. Those that know fewer give way: idle ones now, busy ones
        when they are free."""
        try:
            worker = await self._loaded_worker(handle.label, code, kinds)
        except (UdfTimeoutError, UdfCrashedError, UdfOutputError):
            self._health.count_failure(handle)
            raise
        if self._closed:
            await worker.kill()
            raise SandboxUnavailableError("the sandbox pool is closed")
        # It may have been unloaded in the meantime.
        lane = self._lanes.setdefault(handle.version, Lane(handle.version_label, code))
        lane.kinds = worker.kinds
        for narrow in [found for found in lane.idle if not found.kinds >= lane.kinds]:
            lane.idle.remove(narrow)
            lane.live -= 1
            self._retire(narrow)
        lane.live += 1
        lane.idle.append(worker)
        lane.wake()
        return lane

    def _drain(self, lane: Lane) -> None:
        while lane.idle and (lane.is_over or self._closed):
            lane.live -= 1
            self._retire(lane.idle.popleft())

    async def call(
        self,
        handle: UdfHandle,
        function: str,
        args: Sequence[UdfArgument],
        *,
        deadline_ms: int,
        hooks: Mapping[str, HostHook] = _NO_HOOKS,
        capture_console: bool = False,
        checks_json: bool = True,
        ends_request: bool = False,
    ) -> UdfResult:
        """What `function(*args)` returns, run in a context that no other request has used before (see `request`).

        deadline_ms: from now, the wait for a free worker included.   hooks: host functions for this request; the kind
        decides which names the script has, and one that is missing here throws inside the script.   checks_json: False
        for an answer that goes on as text to someone who parses it: then only its being UTF-8 is checked here.
        ends_request: no further call of this request runs the same code, so that the next request's context can be
        made at once.
        Raises UdfThrewError, UdfTimeoutError, UdfCrashedError, UdfOutputError, OwnerBackedOffError,
        SandboxUnavailableError, UdfArgumentError.
        """
        (outcome,) = await self.call_each(
            handle,
            function,
            [args],
            deadline_ms=deadline_ms,
            hooks=hooks,
            capture_console=capture_console,
            checks_json=checks_json,
            ends_request=ends_request,
        )
        if isinstance(outcome, UdfResult):
            return outcome
        raise outcome

    async def call_each(
        self,
        handle: UdfHandle,
        function: str,
        calls: Sequence[Sequence[UdfArgument]],
        *,
        deadline_ms: int,
        hooks: Mapping[str, HostHook] = _NO_HOOKS,
        capture_console: bool = False,
        checks_json: bool = True,
        ends_request: bool = False,
    ) -> list[UdfResult | UdfThrewError | UdfOutputError]:
        """The outcome of each call, in order, all made one after the other in one context.

        For one request that applies one function to many values (scoreAd over the ads of an auction): a call that
        throws or returns too much does not touch the others. Timeouts and crashes raise, as in `call`.
        """
        if not _IDENTIFIER.fullmatch(function):
            raise UdfArgumentError("the function's name is not an identifier", where=handle.label)
        if not calls:
            return []
        encoded = [[argument_form(value) for value in call] for call in calls]
        if sum(len(body) for call in encoded for _, body in call) > self.limits.argument_bytes:
            raise UdfArgumentError(f"arguments exceed {self.limits.argument_bytes} bytes", where=handle.label)
        self._health.check(handle)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_ms / 1000
        lane = self._lanes.get(handle.version)
        if lane is None or handle.kind not in lane.uses:
            raise UdfArgumentError("the script is not loaded", where=handle.label)
        request = current_request()
        lane.users += 1
        try:
            worker = await self._acquire(lane, deadline, request)
            try:
                answers = await worker.call(
                    handle,
                    function,
                    encoded,
                    timeout_s=max(deadline - loop.time(), 0.0),
                    hooks=hooks,
                    capture_console=capture_console,
                    request=request,
                    # Code that has one use has no other call of this request to keep its context for.
                    keeps=request is not None and not ends_request and len(lane.uses) > 1,
                )
            except (UdfTimeoutError, UdfCrashedError, UdfOutputError):
                self._health.count_failure(handle)
                raise
            finally:
                self._release(lane, worker, handle)
        finally:
            lane.users -= 1
            self._drain(lane)
        self._health.count_success(handle)
        return [outcome_of(handle, answer, checks_json=checks_json) for answer in answers]

    async def close(self) -> None:
        """Kill and reap every process. The pool cannot be used afterwards."""
        self._closed = True
        for lane in self._lanes.values():
            lane.unloaded = True
            self._drain(lane)
        self._lanes.clear()
        while self._resting:
            self._retire(self._resting.pop())
        while self._tasks or self._spares:
            while self._spares:
                self._retire(self._spares.popleft())
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _acquire(self, lane: Lane, deadline: float, request: ScriptRequest | None) -> WorkerProcess:
        """A worker of the lane. A new one starts beside the wait, so that one that gets free in the meantime serves."""
        loop = asyncio.get_running_loop()
        may_start_at = loop.time() + (_GROWTH_WAIT_S if lane.live else 0.0)
        has_started = False
        while True:
            while worker := lane.take(request):
                if worker.is_alive:
                    return worker
                lane.live -= 1
                self._retire(worker)
            now = loop.time()
            if now >= deadline:
                raise UdfTimeoutError("no worker was free before the deadline", where=lane.label)
            if has_started and lane.live == 0:
                if lane.failure is not None:
                    raise lane.failure
                has_started = False  # its worker came up and was lost to another script before it could serve
            may_start = not has_started and lane.live < self.limits.workers_per_udf
            if may_start and now >= may_start_at:
                has_started = True
                self._grow(lane)
            await lane.wait_free(min(deadline, may_start_at) if may_start and not has_started else deadline)

    def _release(self, lane: Lane, worker: WorkerProcess, handle: UdfHandle) -> None:
        if not worker.is_alive or self._closed:
            self._lost_worker(lane)
            self._retire(worker)
        elif worker.rests:
            self._resting.add(worker)
            worker.when_ready(self.limits.load_ms / 1000, partial(self._rested, lane, worker, handle))
        else:
            self._freed(lane, worker)

    def _rested(self, lane: Lane, worker: WorkerProcess, handle: UdfHandle, is_ready: bool) -> None:
        if worker not in self._resting:  # `close` was quicker
            return
        self._resting.remove(worker)
        if is_ready:
            self._freed(lane, worker)
        else:
            self._health.count_failure(handle)
            self._lost_worker(lane)
            self._retire(worker)

    def _freed(self, lane: Lane, worker: WorkerProcess) -> None:
        """A worker that has answered waits for the next request, or ends when it has served its share."""
        requests_left = self.limits.requests_per_worker - worker.requests
        if requests_left > 0 and not lane.is_over and worker.kinds >= lane.kinds:
            lane.idle.append(worker)
            lane.wake()
            # The next one starts early, so that no request has to wait for it.
            if requests_left <= self.limits.requests_per_worker // 10 and self._may_have_heir(worker):
                worker.has_heir = True
                self._grow(lane)
            return
        live = lane.live
        self._lost_worker(lane)
        self._retire(worker)
        has_room = lane.live < min(live, self.limits.workers_per_udf)
        if has_room and not worker.has_heir and not lane.is_over:
            self._grow(lane)

    def _may_have_heir(self, worker: WorkerProcess) -> bool:
        return not worker.has_heir and not self._closed and self._n_workers < self.limits.workers

    def _lost_worker(self, lane: Lane) -> None:
        lane.live -= 1
        lane.wake()
        if lane.live == 0 and not lane.is_over and not self._closed:
            self._grow(lane)

    def _grow(self, lane: Lane) -> None:
        lane.live += 1
        lane.failure = None
        self._spawn(self._add_worker(lane))

    async def _add_worker(self, lane: Lane) -> None:
        try:
            worker = await self._loaded_worker(lane.label, lane.code, lane.kinds)
        except AdytonError as error:
            # Whoever waits and has no other worker reports what is wrong; the next request tries again.
            lane.live -= 1
            lane.failure = error
            lane.wake_all()
            return
        # Where the code was loaded for one kind more in the meantime, a worker that can serve it is there already.
        if lane.is_over or self._closed or not worker.kinds >= lane.kinds:
            lane.live -= 1
            self._retire(worker)
        else:
            lane.idle.appendleft(worker)  # those that have served before are warm, and so come first
        lane.wake()

    async def _loaded_worker(self, label: str, code: str, kinds: Collection[UdfKind]) -> WorkerProcess:
        worker = await self._blank_worker()
        try:
            await worker.load(label, code, kinds)
        except BaseException:
            self._retire(worker)
            raise
        return worker

    async def _blank_worker(self) -> WorkerProcess:
        while self._spares:
            worker = self._spares.popleft()
            self._refill()
            if worker.is_alive:
                return worker
            self._retire(worker)
        return await self._start_worker()

    async def _start_worker(self) -> WorkerProcess:
        if self._closed:
            raise SandboxUnavailableError("the sandbox pool is closed")
        if self._n_workers >= self.limits.workers and not self._evict_idle():
            raise SandboxUnavailableError(f"all {self.limits.workers} workers are busy", hint="raise the worker limit")
        self._n_workers += 1
        try:
            return await WorkerProcess.start(worker_command(self._engine, self.limits, self.isolation), self.limits)
        except BaseException:
            self._n_workers -= 1
            raise

    def _evict_idle(self) -> bool:
        for lane in self._lanes.values():
            if lane.idle:
                lane.live -= 1
                self._retire(lane.idle.popleft())
                return True
        return False

    def _retire(self, worker: WorkerProcess) -> None:
        self._n_workers -= 1
        self._spawn(worker.kill())

    def _refill(self) -> None:
        if not self._refilling and not self._closed:
            self._refilling = True
            self._spawn(self._fill_spares())

    async def _fill_spares(self) -> None:
        try:
            while len(self._spares) < self._n_spares and self._n_workers < self.limits.workers:
                # `close` empties this queue once all tasks, this one included, have ended.
                self._spares.append(await self._start_worker())
        except AdytonError as error:
            if not self._closed:  # a pool that closes while it fills needs no spares
                _log.warning("no spare sandbox worker: %s", error)
        finally:
            self._refilling = False

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
