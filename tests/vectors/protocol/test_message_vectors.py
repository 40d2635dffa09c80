"""Known answers of protected-auction §16.3, and the generated messages against their definitions."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

from adyton.protocol.errors import MalformedMessageError
from adyton.protocol.frames import (
    Compression,
    decode_client_frame,
    decode_get_bids_frame,
    encode_client_frame,
    encode_get_bids_frame,
)
from adyton.protocol.messages import bidding_auction_servers_pb2 as messages

ROOT = Path(__file__).parents[3]


def test_a_buyer_input_has_the_known_bytes() -> None:
    signals = messages.ProtectedAppSignals(app_install_signals=b"\xff", encoding_version=2)

    assert messages.BuyerInput(protected_app_signals=signals).SerializeToString() == bytes.fromhex("12050a01ff1002")


def test_a_client_frame_has_the_known_bytes() -> None:
    frame = encode_client_frame(b"payload", compression=Compression.BROTLI, size=16)

    assert frame.hex() == "01" + "00000007" + "7061796c6f6164" + "00000000"
    assert decode_client_frame(frame).payload == b"payload"


def test_a_first_byte_of_all_ones_is_version_7_compression_31_and_refused() -> None:
    frame = bytes.fromhex("ff000000077061796c6f6164")

    unread = decode_client_frame(frame, read_compression=False)
    assert (unread.version, unread.compression, unread.payload) == (7, 31, b"payload")
    with pytest.raises(MalformedMessageError):
        decode_client_frame(frame)


def test_a_get_bids_frame_has_the_known_bytes() -> None:
    assert encode_get_bids_frame(b"abc", gzip=False).hex() == "0000000003616263"
    assert decode_get_bids_frame(bytes.fromhex("0000000003616263")) == b"abc"


@pytest.mark.parametrize(
    ("frame_hex", "text"),
    [
        ("", "Malformed request."),
        ("00000000", "Malformed request."),
        ("0000000004616263", "Malformed request."),
        ("0100000003616263", "Malformed request."),
        ("0200000003616263", "Unsupported version and compression combination"),
        ("1000000003616263", "Unsupported version and compression combination"),
    ],
)
def test_a_malformed_get_bids_frame_has_the_reference_text(frame_hex: str, text: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        decode_get_bids_frame(bytes.fromhex(frame_hex))

    assert caught.value.what == text


def test_generating_the_messages_again_gives_the_committed_files(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed: the generated messages are not compared with their definitions")
    generate = runpy.run_path(str(ROOT / "tools" / "generate_messages.py"))["generate"]

    written = generate(tmp_path)

    committed = sorted((ROOT / "src/adyton/protocol/messages").glob("*_pb2*.py*"))
    assert [path.name for path in written] == [path.name for path in committed]
    for new, old in zip(written, committed, strict=True):
        assert new.read_text() == old.read_text(), f"{old.name} is stale: run python tools/generate_messages.py"
