"""The documented limit on how old a request may be (protected-auction §7.5 [D]). An option: off unless configured."""

from __future__ import annotations


def is_inside_replay_window(request_timestamp_ms: int, now_ms: int, window_s: int | None) -> bool:
    """True if no window is configured, the request names no time, or its time is within ± `window_s` of now.

    A request without a time passes, since the member is optional (§4.1); a deployment that wants the limit to bind has
    to have clients that send it.
    """
    if window_s is None or request_timestamp_ms == 0:
        return True
    return abs(now_ms - request_timestamp_ms) <= window_s * 1000
