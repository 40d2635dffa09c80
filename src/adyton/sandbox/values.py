"""What goes into a script and what comes out: arguments, results, effects. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import orjson

from adyton.kernel.errors import BadInputError

HostHook = Callable[[str], Awaitable[str | bytes]]
"""A host function that a script may call. It gets one text and gives back text (or bytes, for the binary hooks)."""

JsonText = bytes
"""UTF-8 JSON text of one argument, as `orjson.dumps` makes it."""


class UdfKind(Enum):
    """What a script is for. The kind decides which host functions exist inside it (protected-auction §8-§11)."""

    PREPARE_DATA = "prepare_data"
    """`prepareDataForAdRetrieval`."""
    RETRIEVAL = "retrieval"
    """`HandleRequest` / `getCandidateAds` of the key/value service."""
    GENERATE_BID = "generate_bid"
    """`generateBid`."""
    SCORE_AD = "score_ad"
    """`scoreAd`."""
    REPORTING = "reporting"
    """`reportResult` and `reportWin`."""
    ENCODE_SIGNALS = "encode_signals"
    """`encodeSignals`, on the device."""


@dataclass(frozen=True)
class Bytes:
    """An argument that arrives in the script as a `Uint8Array`."""

    data: bytes


@dataclass(frozen=True)
class SignalMap:
    """An argument that arrives as the `Map` of encodeSignals (protected-auction §3.2).

    json: `[{"<hex key>":[{"val":"<hex>","time":<seconds>,"app":"<package>"}, ...]}, ...]`. In the script: keys are
    `Uint8Array(4)`, values arrays of `{signal_value: Uint8Array, creation_time: number, package_name: string}`.
    """

    json: JsonText


UdfArgument = JsonText | Bytes | SignalMap


@dataclass(frozen=True)
class UdfEffects:
    """What the script registered by calling the reporting functions of its kind.

    report_url: argument of `sendReportTo`.   beacons: event -> URL of `registerAdBeacon`.
    debug_win_url, debug_loss_url: arguments of `forDebuggingOnly.reportAdAuctionWin` / `...Loss`.
    """

    report_url: str | None = None
    beacons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    debug_win_url: str | None = None
    debug_loss_url: str | None = None


NO_EFFECTS = UdfEffects()


@dataclass(frozen=True)
class UdfResult:
    """The answer of one call.

    json: JSON text of the returned value; `undefined` becomes `null`.
    data: for ENCODE_SIGNALS, the bytes of `results` (and `json` then lacks that member); None when `results` is not
    a byte array.   console: captured lines, empty unless asked for.
    """

    json: JsonText
    data: bytes | None = None
    console: tuple[str, ...] = ()
    effects: UdfEffects = NO_EFFECTS

    @property
    def value(self) -> object:
        """The returned value as plain Python data, parsed anew on each access."""
        return orjson.loads(self.json)


@dataclass(frozen=True)
class UdfHandle:
    """A loaded script: whose, which version, for what."""

    owner: str
    code_sha256: str
    kind: UdfKind

    @property
    def version(self) -> tuple[str, str]:
        """Whose code in which version: what a worker process has."""
        return self.owner, self.code_sha256

    @property
    def slot(self) -> tuple[str, UdfKind]:
        """Whose script for what, in any version: what is not run for a while after failures in a row."""
        return self.owner, self.kind

    @property
    def label(self) -> str:
        """Owner, kind and the first digits of the version, for messages and logs."""
        return f"{self.owner}/{self.kind.value}/{self.code_sha256[:12]}"

    @property
    def version_label(self) -> str:
        """The same without the kind."""
        return f"{self.owner}/{self.code_sha256[:12]}"


@dataclass(frozen=True)
class SandboxLimits:
    """What one worker and one call may use.

    heap_mb: V8 heap.   data_mb: RLIMIT_DATA, which also bounds ArrayBuffers, since V8 keeps them outside its heap; the
    engine itself takes about 560 of it.
    cpu_s: RLIMIT_CPU over a worker's life.   requests_per_worker: after so many the process is replaced (1 = a new
    process for each request: the strongest isolation, at 50 to 100 ms each).   hook_bytes: texts and answers of host
    functions of one call together.   workers_per_udf, workers: processes for one script, and in all.
    failures_before_backoff: timeouts, crashes and bad frames in a row.   backoff_ms doubles up to backoff_max_ms.
    """

    heap_mb: int = 128
    data_mb: int = 832
    open_files: int = 32
    cpu_s: int = 600
    argument_bytes: int = 16 * 1024 * 1024
    result_bytes: int = 4 * 1024 * 1024
    console_bytes: int = 64 * 1024
    code_bytes: int = 8 * 1024 * 1024
    hook_calls: int = 100
    hook_bytes: int = 16 * 1024 * 1024
    load_ms: int = 5_000
    start_ms: int = 20_000
    requests_per_worker: int = 20_000
    workers_per_udf: int = 2
    workers: int = 24
    failures_before_backoff: int = 5
    backoff_ms: int = 500
    backoff_max_ms: int = 30_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise BadInputError(f"{name} must be at least 1, got {value}", where="SandboxLimits")
