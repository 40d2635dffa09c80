"""Receives what devices report about won auctions and keeps it as Parquet for training (protected-auction §13).

A win report is a GET of the buyer's own URL, `/win?render=...&bid=...&egress=<base64>`; an event report is a POST to a
registered URL, such as `/click?request=...`. Stored is what the URL carries and when it came: no address, no header, no
cookie, no body.

One file per flush, `<path>-<first ms>-<number>.parquet`, with text columns for the parameters of that path:

    win-1763838462000-0.parquet    received_at_ms int64, <parameter> string, ... ("egress" stays base64)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.parquet as pq
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adyton.auction.errors import ConfigError
from adyton.auction.services.http_app import http_server
from adyton.auction.services.listening import bind
from adyton.auction.services.run import stop_on_signals
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.errors import UnavailableError

_log = logging.getLogger(__name__)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
RECEIVED_AT = "received_at_ms"
MAX_PARAMETERS = 32
MAX_VALUE_CHARACTERS = 8192
FLUSH_EVERY_S = 60.0
MAX_PENDING = 10_000
MAX_KINDS = 64
"""Kinds in one flush: each is a file, and anybody may send reports."""


@dataclass(frozen=True)
class Report:
    """One report: its kind (the URL's path), its parameters and when it came."""

    kind: str
    received_at_ms: int
    parameters: Mapping[str, str]


def parse_report(path: str, query: str, received_at_ms: int) -> Report | None:
    """The report of one request, or None if it is none: an odd path, too many or too long parameters, one twice."""
    kind = path.strip("/")
    if not _KIND.fullmatch(kind) or len(query) > MAX_PARAMETERS * MAX_VALUE_CHARACTERS:
        return None
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except (ValueError, UnicodeDecodeError):
        return None
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or any(len(value) > MAX_VALUE_CHARACTERS for value in parameters.values()):
        return None
    if any(not _NAME.fullmatch(name) or name == RECEIVED_AT for name in parameters):
        return None
    return Report(kind, received_at_ms, parameters)


class ReportStore:
    """Pending reports and the folder that they are written to. A file appears whole or not at all."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._pending: list[Report] = []
        self._kinds: set[str] = set()
        self._n_files = 0

    def add(self, report: Report) -> bool:
        """Keep a report until the next flush; False if too many are pending, and then it is lost."""
        if len(self._pending) >= MAX_PENDING:
            return False
        if report.kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            return False
        self._kinds.add(report.kind)
        self._pending.append(report)
        return True

    @property
    def n_pending(self) -> int:
        """Reports that are in no file yet."""
        return len(self._pending)

    def flush(self) -> int:
        """Write what is pending, one file for each kind; gives back the number of reports written.

        What cannot be written stays pending, with a warning.
        """
        pending, self._pending = self._pending, []
        self._kinds.clear()
        by_kind: dict[str, list[Report]] = {}
        for report in pending:
            by_kind.setdefault(report.kind, []).append(report)
        n_written = 0
        for kind, reports in by_kind.items():
            try:
                self._write(kind, reports)
            except OSError as error:
                _log.warning("reports stay pending: %s", error.strerror or type(error).__name__)
                self._pending[:0] = reports
                self._kinds.add(kind)
            else:
                n_written += len(reports)
        return n_written

    def _write(self, kind: str, reports: list[Report]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        names = sorted({name for report in reports for name in report.parameters})
        columns: dict[str, pa.Array] = {RECEIVED_AT: pa.array([r.received_at_ms for r in reports], pa.int64())}
        for name in names:
            columns[name] = pa.array([report.parameters.get(name) for report in reports], pa.string())
        stem = f"{kind}-{self._clock.now_ms()}-{self._n_files}"
        self._n_files += 1
        unfinished = self._folder / f".{stem}.partial"
        try:
            pq.write_table(pa.table(columns), unfinished)
            unfinished.replace(self._folder / f"{stem}.parquet")
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise


def build_collector(store: ReportStore, clock: Clock) -> Starlette:
    """The collector's application: any GET or POST path is a report, but for /healthz and POST /flush."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "SERVING"})

    async def flush(_: Request) -> Response:
        return JSONResponse({"written": await asyncio.to_thread(store.flush)})

    async def report(request: Request) -> Response:
        parsed = parse_report(request.url.path, request.url.query, clock.now_ms())
        if parsed is None:
            return Response(status_code=400)
        return Response(status_code=204 if store.add(parsed) else 503)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/flush", flush, methods=["POST"]),
            Route("/{kind}", report, methods=["GET", "POST"]),
        ]
    )


async def serve_collector(
    folder: Path, address: str, *, announce: Callable[[str], None], clock: Clock | None = None
) -> None:
    """Collect until SIGTERM or SIGINT, then write what is pending.

    announce: gets one JSON line `{"ready": true, "http": "host:port"}`.
    Raises ConfigError; at the end UnavailableError if there are reports that cannot be written.
    """
    clock = clock or SystemClock()
    store = ReportStore(folder, clock)
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder cannot be made ({error.strerror})", where=str(folder)) from error
    listener = bind(address)
    stop = stop_on_signals()
    server = http_server(build_collector(store, clock))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()[:2]
    announce(json.dumps({"ready": True, "http": f"{host}:{port}"}))
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), FLUSH_EVERY_S)
        await asyncio.to_thread(store.flush)
    server.should_exit = True
    await serving
    store.flush()
    if store.n_pending:
        raise UnavailableError(f"{store.n_pending} reports could not be written and are lost", where=str(folder))
