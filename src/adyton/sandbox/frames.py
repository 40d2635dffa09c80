"""Frames between host and worker: `u32 length | u8 type | payload`, big-endian, one pair of byte streams.

    host -> worker   LOAD(header, code)   CALL(header, argument texts)   HOST_REPLY(kind, body)   FORGET
    worker -> host   HELLO   LOADED   LOAD_FAILED(text)   RESULT(header, answers)   HOST_CALL(header, text)   READY

A worker takes the next CALL at once after a RESULT, unless that says `rest`: it may then collect garbage, and READY
tells the end of it. A CALL whose header says `keep` leaves its context to the next CALL, unless that says `fresh`, a
FORGET comes first, or the script has locked it so that it cannot serve the next call's kind.
A header is `u32 length | JSON`. Every frame from a worker is hostile until checked: lengths are capped before anything
is kept, and any surprise is a `MalformedFrameError`, after which the process is killed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import orjson

from adyton.sandbox.values import NO_EFFECTS, UdfEffects


class FrameType(IntEnum):
    """Second field of a frame."""

    LOAD = 1
    CALL = 2
    HOST_REPLY = 3
    FORGET = 4
    HELLO = 16
    LOADED = 17
    LOAD_FAILED = 18
    RESULT = 19
    HOST_CALL = 20
    READY = 21


FROM_WORKER = frozenset(kind for kind in FrameType if kind >= FrameType.HELLO)
_FROM_WORKER_BY_NUMBER = {int(kind): kind for kind in FROM_WORKER}
_HEAD = struct.Struct(">IB")


class MalformedFrameError(ValueError):
    """Bytes from a worker that are not a frame it may send. Never leaves the package."""


class Frame(NamedTuple):
    """One frame from a worker."""

    type: FrameType
    payload: bytes


@dataclass(frozen=True)
class Answer:
    """One entry of a RESULT frame, checked but for the JSON inside `body`.

    status: R value, B bytes and value, T threw, N no such function, L too large.
    """

    status: str
    body: bytes
    effects: UdfEffects
    console: tuple[str, ...]


def encode_frame(kind: FrameType, *parts: bytes) -> bytes:
    """The bytes of one frame."""
    length = sum(map(len, parts))
    return b"".join([_HEAD.pack(length, kind), *parts])


def with_header(header: object, *bodies: bytes) -> tuple[bytes, ...]:
    """Parts of a payload that begins with a JSON header."""
    text = orjson.dumps(header)
    return (len(text).to_bytes(4, "big"), text, *bodies)


class FrameReader:
    """Cuts a byte stream into frames. `max_payload_bytes` is checked as soon as the length is known."""

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises MalformedFrameError for a type or length that cannot be."""
        if not self._rest:
            # Most often a read brings whole frames, which are cut out of it directly.
            frames, used = self._cut(data)
            self._rest += data[used:]
        else:
            self._rest += data
            frames, used = self._cut(self._rest)
            del self._rest[:used]
        return frames

    def _cut(self, data: bytes | bytearray) -> tuple[list[Frame], int]:
        frames: list[Frame] = []
        at = 0
        while len(data) - at >= _HEAD.size:
            length, number = _HEAD.unpack_from(data, at)
            kind = _FROM_WORKER_BY_NUMBER.get(number)
            if kind is None:
                raise MalformedFrameError("a frame of a type that workers do not send")
            if length > self._max_payload_bytes:
                raise MalformedFrameError("a frame longer than the limit")
            end = at + _HEAD.size + length
            if len(data) < end:
                break
            frames.append(Frame(kind, bytes(data[at + _HEAD.size : end])))
            at = end
        return frames, at


def decode_host_call(payload: bytes) -> tuple[str, str]:
    """Name and argument of a HOST_CALL."""
    header, body = _split(payload)
    name = header.get("name")
    if not isinstance(name, str):
        raise MalformedFrameError("a host call without a name")
    try:
        return name, body.decode()
    except UnicodeDecodeError:
        raise MalformedFrameError("a host call that is not UTF-8") from None


def decode_answers(payload: bytes, n_calls: int) -> tuple[list[Answer], bool]:
    """The answers of a RESULT to `n_calls` calls, and whether a READY will follow."""
    header, body = _split(payload)
    items, rest = header.get("items"), header.get("rest", False)
    if not isinstance(rest, bool):
        raise MalformedFrameError("a result whose rest is not a boolean")
    if not isinstance(items, list) or len(items) != n_calls:
        raise MalformedFrameError("a result with the wrong number of answers")
    answers: list[Answer] = []
    at = 0
    for item in items:
        if not isinstance(item, dict):
            raise MalformedFrameError("an answer that is not an object")
        status, size = item.get("status"), item.get("size")
        if status not in ("R", "B", "T", "N", "L") or type(size) is not int or not 0 <= size <= len(body) - at:
            raise MalformedFrameError("an answer with an unknown status or size")
        answers.append(
            Answer(status, body[at : at + size], _effects(item.get("effects")), _console(item.get("console")))
        )
        at += size
    if at != len(body):
        raise MalformedFrameError("bytes after the last answer")
    return answers, rest


def _console(text: object) -> tuple[str, ...]:
    if text == "[]":
        return ()
    lines = _parsed(text)
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise MalformedFrameError("console lines that are not strings")
    return tuple(lines)


def _effects(text: object) -> UdfEffects:
    if text == "{}":
        return NO_EFFECTS
    found = _parsed(text)
    if not isinstance(found, dict):
        raise MalformedFrameError("effects that are not an object")
    beacons = found.get("beacons", {})
    if not isinstance(beacons, dict) or not all(isinstance(url, str) for url in beacons.values()):
        raise MalformedFrameError("beacons that are not a map of strings")
    return UdfEffects(
        report_url=_optional_text(found, "reportUrl"),
        beacons=beacons,
        debug_win_url=_optional_text(found, "debugWinUrl"),
        debug_loss_url=_optional_text(found, "debugLossUrl"),
    )


def _optional_text(found: Mapping[str, object], name: str) -> str | None:
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedFrameError(f"{name} is not a string")
    return value


def _parsed(text: object) -> object:
    if not isinstance(text, str):
        raise MalformedFrameError("a part that is not text")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MalformedFrameError("a part that is not JSON") from None


def _split(payload: bytes) -> tuple[dict[str, object], bytes]:
    size = int.from_bytes(payload[:4], "big")
    if len(payload) < 4 + size:
        raise MalformedFrameError("a header longer than its frame")
    try:
        header = orjson.loads(payload[4 : 4 + size])
    except orjson.JSONDecodeError:
        raise MalformedFrameError("a header that is not JSON") from None
    if not isinstance(header, dict):
        raise MalformedFrameError("a header that is not an object")
    return header, payload[4 + size :]


def argument_forms(forms_and_bodies: Sequence[tuple[str, bytes]]) -> list[tuple[str, int]]:
    """What the header of a CALL says about one call's arguments: form and byte length of each."""
    return [(form, len(body)) for form, body in forms_and_bodies]
