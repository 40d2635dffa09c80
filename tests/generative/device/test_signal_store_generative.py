"""The store and its rules against a slow twin that does what §2.3-2.4 say, word by word."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.device.signals import HARD_QUOTA_BYTES, SOFT_QUOTA_BYTES, TIME_TO_LIVE_MS, apply_update
from adyton.device.store import DeviceStore
from adyton.device.vault import Vault
from adyton.kernel.ids import BuyerId
from adyton.protocol.signal_updates import parse_update

BUYER = BuyerId("buyer.example")
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Held:
    key: str
    value: str
    package: str
    at_ms: int


def slow_update(held: list[Held], update: dict[str, Any], package: str, now_ms: int) -> list[Held]:
    """`held` in order of insertion, keys and values as base64 text."""
    held = [h for h in held if now_ms - h.at_ms <= TIME_TO_LIVE_MS]
    for command, members in update.items():
        for key in members:
            same = [h for h in held if h.key == key]
            if command == "put":
                held = [h for h in held if h.key != key] + [Held(key, members[key], package, now_ms)]
            elif command == "put_if_not_present":
                if not same:
                    held = [*held, Held(key, members[key], package, now_ms)]
            elif command == "remove":
                held = [h for h in held if h.key != key]
            else:
                new = [Held(key, value, package, now_ms) for value in members[key]["values"]]
                n_gone = max(0, len(same) + len(new) - members[key]["max_signals"])
                for oldest in same[:n_gone]:
                    held.remove(oldest)
                held = held + new

    def size() -> int:
        return sum(4 + len(base64.b64decode(h.value)) for h in held)

    if size() > HARD_QUOTA_BYTES:
        while size() > SOFT_QUOTA_BYTES:
            held.remove(min(held, key=lambda h: h.at_ms))
    return held


keys = [base64.b64encode(bytes([0, 0, 0, n])).decode() for n in range(4)]
values = st.integers(0, 10**6).map(lambda n: base64.b64encode(n.to_bytes(100, "big")).decode())
appends = st.integers(0, 90).flatmap(
    lambda n: st.fixed_dictionaries(
        {"values": st.lists(values, min_size=n, max_size=n), "max_signals": st.integers(n, n + 90)}
    )
)


@st.composite
def updates(draw: st.DrawFn) -> dict[str, Any]:
    update: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(keys), unique=True, max_size=4)):
        command = draw(st.sampled_from(["put", "put_if_not_present", "append", "append", "remove"]))
        if command == "remove":
            update.setdefault(command, []).append(key)
        else:
            update.setdefault(command, {})[key] = draw(appends if command == "append" else values)
    return update


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(updates(), st.sampled_from(["com.a", "com.b"]), st.sampled_from([0, 1, 20 * DAY_MS])), max_size=8
    )
)
def test_store_and_rules_agree_with_the_slow_twin(steps: list[tuple[dict[str, Any], str, int]]) -> None:
    store, held, now_ms = DeviceStore(None, Vault(bytes(32))), [], 10**12
    for update, package, pause_ms in steps:
        now_ms += pause_ms
        change = apply_update(store.signals(BUYER), parse_update(json.dumps(update)), package=package, now_ms=now_ms)
        store.write_change(BUYER, change)
        held = slow_update(held, update, package, now_ms)

        stored = [
            Held(base64.b64encode(s.key).decode(), base64.b64encode(s.value).decode(), s.package, s.created_at_ms)
            for s in store.signals(BUYER)
        ]
        assert stored == held
        assert sum(s.size_bytes for s in store.signals(BUYER)) <= HARD_QUOTA_BYTES
