"""When a buyer's signals are encoded, and what a script's answer must be: rules only (protected-auction §3).

`job` runs them against the store, the web and a script runtime.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum

from adyton.device.records import EncodedPayload, Encoder
from adyton.device.signals import Signal

JOB_PERIOD_MS = 3_600_000
SCRIPT_TIMEOUT_MS = 5_000
MAX_PAYLOAD_BYTES = 1536
MAX_FAILURES = 3
REFRESH_AFTER_MS = 24 * 3_600_000
FORCED_ENCODING_COOLDOWN_MS = 4 * 3_600_000
MAX_SCRIPT_BYTES = 1_048_576
VERSION_HEADER = "X_ENCODER_VERSION"


class Step(Enum):
    """What the job does for one buyer."""

    NO_ENCODER = "no encoding script"
    DELETE_ENCODER = "no signals: the encoding script is deleted"
    UNCHANGED = "nothing changed since the last encoding"
    STOPPED = "stopped after repeated failures"
    RUN = "encode"


def next_step(
    encoder: Encoder | None, payload: EncodedPayload | None, *, has_signals: bool, signal_revision: int
) -> Step:
    """What to do for a buyer whose signals have this revision (protected-auction §3.1)."""
    if encoder is None:
        return Step.NO_ENCODER
    if not has_signals:
        return Step.DELETE_ENCODER
    if encoder.code is None:
        return Step.NO_ENCODER
    if (
        payload is not None
        and payload.signal_revision == signal_revision
        and payload.encoder_revision == encoder.revision
    ):
        return Step.UNCHANGED
    if encoder.failures >= MAX_FAILURES:
        return Step.STOPPED
    return Step.RUN


def needs_refresh(encoder: Encoder, now_ms: int) -> bool:
    """Whether a script is missing or older than 24 hours."""
    return encoder.downloaded_at_ms is None or now_ms - encoder.downloaded_at_ms > REFRESH_AFTER_MS


def may_force_encoding(
    encoder: Encoder | None, payload: EncodedPayload | None, *, has_signals: bool, now_ms: int
) -> bool:
    """Whether an update may be followed by an encoding at once: at most every four hours."""
    if encoder is None:
        return False
    if payload is None:
        return has_signals
    return now_ms - payload.created_at_ms > FORCED_ENCODING_COOLDOWN_MS


def marshal_signals(signals: Sequence[Signal]) -> bytes:
    """The JSON that becomes encodeSignals' Map: keys in order of first appearance, values oldest first."""
    by_key: dict[str, list[dict[str, object]]] = {}
    for signal in signals:
        entry = {"val": signal.value.hex(), "time": signal.created_at_ms // 1000, "app": signal.package}
        by_key.setdefault(signal.key.hex(), []).append(entry)
    return json.dumps([{key: values} for key, values in by_key.items()], separators=(",", ":")).encode()


def parse_version(header: str | None) -> int:
    """The integer of `X_ENCODER_VERSION`, 0 if it is missing, unparsable or beyond a signed 32-bit number."""
    text = (header or "").strip()
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return 0
    version = int(text)
    return version if -(2**31) <= version < 2**31 else 0
