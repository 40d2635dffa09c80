"""Metrics and logs of one process. Neither ever holds a signal, a bid, an id of an auction or any plaintext.

The exception is consented debugging (protected-auction §13): a developer's own device names the server's secret token,
and then that request is told verbatim: to a logger of its own and, where asked for outside production, in the answer.
"""

from __future__ import annotations

import hmac
import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from adyton.protocol.messages import server_common_pb2 as common

CONSENTED_LOGGER = "adyton.auction.consented"
_consented = logging.getLogger(CONSENTED_LOGGER)
_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class Metrics:
    """Counters and latencies of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "adyton_auction_calls", "Finished calls by method and status", ["method", "code"], registry=self.registry
        )
        self.latency_s = Histogram(
            "adyton_auction_latency_seconds",
            "Wall time of a step",
            ["step"],
            registry=self.registry,
            buckets=_BUCKETS_S,
        )
        self.events = Counter(
            "adyton_auction_events", "Things that happened inside requests", ["event"], registry=self.registry
        )
        # Steps are a fixed set, and looking one up costs more than counting in it.
        self._step = cache(self.latency_s.labels)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Observe the wall time of the block, also if it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._step(step).observe(time.perf_counter() - started)

    def event(self, name: str) -> None:
        """Count one event of a fixed set of names (never a value from a request)."""
        self.events.labels(name).inc()

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


@dataclass
class RequestLog:
    """The consented log of one request on one server; does nothing without consent."""

    server_name: str
    is_consented: bool
    wants_debug_info: bool
    generation_id: str = ""
    adtech_debug_id: str = ""
    lines: list[str] = field(default_factory=list)
    downstream: list[common.DebugInfo] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Tell `text` verbatim if, and only if, the request carries consent."""
        if self.is_consented:
            self.lines.append(text)
            _consented.info(
                "%s", text, extra={"generation_id": self.generation_id, "adtech_debug_id": self.adtech_debug_id}
            )

    def note_script(self, function: str, lines: Iterable[str]) -> None:
        """`note` what a script said, one line each, under its function's name."""
        for line in lines:
            self.note(f"{function}: {line}")

    def debug_info(self) -> common.DebugInfo | None:
        """What the answer carries, or None if it must carry nothing."""
        if not (self.is_consented and self.wants_debug_info):
            return None
        return common.DebugInfo(server_name=self.server_name, logs=self.lines, downstream_servers=self.downstream)

    def add_downstream(self, info: common.DebugInfo, server_name: str) -> None:
        """Keep a downstream server's debug info for the answer, under the name that the caller knows it by."""
        if self.is_consented and self.wants_debug_info:
            named = common.DebugInfo()
            named.CopyFrom(info)
            named.server_name = server_name
            self.downstream.append(named)


@dataclass(frozen=True)
class DebugPolicy:
    """A server's secret token for consented debugging ("" switches it off), and whether it is in production."""

    token: str = ""
    is_production: bool = False

    def request_log(
        self,
        server_name: str,
        consent: common.ConsentedDebugConfiguration,
        context: common.LogContext,
    ) -> RequestLog:
        """The log of one request; consent needs the flag and the equal token."""
        is_consented = (
            bool(self.token)
            and consent.is_consented
            and hmac.compare_digest(self.token.encode(), consent.token.encode())
        )
        return RequestLog(
            server_name=server_name,
            is_consented=is_consented,
            wants_debug_info=consent.is_debug_info_in_response and not self.is_production,
            generation_id=context.generation_id if is_consented else "",
            adtech_debug_id=context.adtech_debug_id if is_consented else "",
        )


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("method", "code", "duration_ms", "generation_id", "adtech_debug_id"):
            if hasattr(record, name):
                entry[name] = getattr(record, name)
        if record.exc_info:
            # The trace names our own lines; an exception's text could quote a request.
            entry["exception"] = record.exc_info[0].__name__ if record.exc_info[0] else None
        return json.dumps(entry, ensure_ascii=False)


def log_to_stderr(level: str = "INFO") -> None:
    """Send this program's logs to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("adyton")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    # Whoever named the secret token asked for these, at whatever level the rest is told.
    _consented.setLevel("INFO")
