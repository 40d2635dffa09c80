"""Frames from a worker are hostile: any bytes give frames, or the one documented error."""

from __future__ import annotations

import contextlib
import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adyton.sandbox.frames import (
    FROM_WORKER,
    FrameReader,
    FrameType,
    MalformedFrameError,
    decode_answers,
    decode_host_call,
    encode_frame,
    with_header,
)

frames = st.lists(st.tuples(st.sampled_from(sorted(FROM_WORKER)), st.binary(max_size=50)), max_size=5)


@given(frames, st.lists(st.integers(0, 300), max_size=6))
def test_frames_arrive_whole_however_the_stream_is_cut(sent: list[tuple[FrameType, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(kind, payload) for kind, payload in sent)
    reader = FrameReader(100)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got = [frame for a, b in itertools.pairwise(edges) for frame in reader.feed(stream[a:b])]

    assert [(frame.type, frame.payload) for frame in got] == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_malformed(data: bytes) -> None:
    reader = FrameReader(64)
    try:
        for frame in reader.feed(data):
            assert frame.type in FROM_WORKER
            assert len(frame.payload) <= 64
    except MalformedFrameError:
        pass


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["items", "status", "size", "effects", "console", "name"]), inner, max_size=5)
    ),
    max_leaves=12,
)
payloads = st.one_of(
    st.binary(max_size=60),
    st.tuples(anything, st.binary(max_size=10)).map(lambda x: b"".join(with_header_or_text(x[0], x[1]))),
)


def with_header_or_text(header: object, body: bytes) -> tuple[bytes, ...]:
    try:
        return with_header(header, body)
    except (TypeError, orjson.JSONEncodeError):
        return (body,)


@given(payloads, st.integers(0, 3))
def test_any_payload_is_answers_or_malformed(payload: bytes, n_calls: int) -> None:
    with contextlib.suppress(MalformedFrameError):
        assert len(decode_answers(payload, n_calls)[0]) == n_calls
    try:
        name, text = decode_host_call(payload)
        assert isinstance(name, str)
        assert isinstance(text, str)
    except MalformedFrameError:
        pass


def answer(**changes: object) -> bytes:
    item = {"status": "R", "size": 4, "effects": "{}", "console": "[]", **changes}
    return b"".join(with_header({"items": [item]}, b"null"))


def test_a_good_answer_is_read() -> None:
    (found,), rests = decode_answers(answer(effects='{"reportUrl":"https://x","beacons":{"a":"b"}}'), 1)

    assert not rests
    assert decode_answers(b"".join(with_header({"items": [], "rest": True})), 0) == ([], True)
    with pytest.raises(MalformedFrameError):
        decode_answers(b"".join(with_header({"items": [], "rest": 1})), 0)
    assert (found.status, found.body) == ("R", b"null")
    assert found.effects.report_url == "https://x"
    assert dict(found.effects.beacons) == {"a": "b"}


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "X"},
        {"status": None},
        {"size": 5},
        {"size": 3},
        {"size": -1},
        {"size": True},
        {"effects": "[]"},
        {"effects": '{"reportUrl":1}'},
        {"effects": '{"beacons":{"a":1}}'},
        {"effects": "{"},
        {"console": "[1]"},
        {"console": None},
    ],
)
def test_a_forged_answer_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedFrameError):
        decode_answers(answer(**changes), 1)
