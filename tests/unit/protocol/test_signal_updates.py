"""The update JSON of protected-auction §2.2 and §2.3."""

from __future__ import annotations

import base64
import json

import pytest

from adyton.protocol.errors import SignalUpdateError
from adyton.protocol.signal_updates import Append, Put, PutIfNotPresent, Remove, parse_update


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


KEY = b64(b"\0\0\0\x01")
EXAMPLE = """{
  "put": {"AAAAAQ==": "AAAAZQ==", "AAAAAg==": "AAAAZg=="},
  "append": {"AAAAAw==": {"values": ["AAAAZw=="], "max_signals": 3}},
  "put_if_not_present": {"AAAABA==": "AAAAaQ=="},
  "remove": ["AAAABQ=="],
  "update_encoder": {"action": "REGISTER", "endpoint": "https://buyer.example/encoder.js"}
}"""


def test_the_example_of_the_spec_gives_its_five_commands() -> None:
    update = parse_update(EXAMPLE)

    assert update.commands == (
        Put(b"\0\0\0\x01", b"\0\0\0\x65"),
        Put(b"\0\0\0\x02", b"\0\0\0\x66"),
        Append(b"\0\0\0\x03", (b"\0\0\0\x67",), 3),
        PutIfNotPresent(b"\0\0\0\x04", b"\0\0\0\x69"),
        Remove(b"\0\0\0\x05"),
    )
    assert update.encoder_endpoint == "https://buyer.example/encoder.js"


def test_an_empty_update_is_no_command() -> None:
    assert parse_update("{}").commands == ()


@pytest.mark.parametrize(("key", "stored"), [("AQ==", b"\1\0\0\0"), ("AQ", b"\1\0\0\0"), ("", bytes(4))])
def test_short_keys_are_padded_with_zeros_and_base64_padding_is_optional(key: str, stored: bytes) -> None:
    assert parse_update(json.dumps({"put": {key: "AA"}})).commands == (Put(stored, b"\0"),)


@pytest.mark.parametrize("spelling", ["max_signals", "maxSignals"])
def test_both_spellings_of_max_signals_are_read(spelling: str) -> None:
    update = parse_update(json.dumps({"append": {KEY: {"values": [KEY], spelling: 1}}}))

    assert update.commands == (Append(b"\0\0\0\x01", (b"\0\0\0\x01",), 1),)


def test_a_value_of_100_bytes_is_accepted_and_101_is_not() -> None:
    assert parse_update(json.dumps({"put": {KEY: b64(bytes(100))}})).commands
    with pytest.raises(SignalUpdateError, match=r'^Values in "put" must be under 100 bytes$'):
        parse_update(json.dumps({"put": {KEY: b64(bytes(101))}}))


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', "[" * 10_000, b"\xff", '{"put": NaN}', '{"put":1,}'])
def test_anything_but_a_json_object_has_the_reference_text(body: str | bytes) -> None:
    with pytest.raises(SignalUpdateError, match=r"^Error converting response body to JSON$"):
        parse_update(body)


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(SignalUpdateError, match=r"^Invalid signal update command, valid commands are "):
        parse_update('{"put": {}, "update_properties": {}}')


@pytest.mark.parametrize(
    ("update", "text"),
    [
        ({"put": []}, 'Value for "put" must be a JSON object'),
        ({"append": 1}, 'Value for "append" must be a JSON object'),
        ({"put_if_not_present": None}, 'Value for "put_if_not_present" must be a JSON object'),
        ({"update_encoder": "x"}, 'Value for "update_encoder" must be a JSON object'),
        ({"remove": {}}, 'Value for "remove" must be a JSON array'),
        ({"put": {"AAAAAAA=": "AA"}}, 'Keys in "put" must be valid base 64 and under 4 bytes.'),
        ({"put": {"A": "AA"}}, 'Keys in "put" must be valid base 64 and under 4 bytes.'),
        ({"put": {"AA=": "AA"}}, 'Keys in "put" must be valid base 64 and under 4 bytes.'),
        ({"put": {"A_A=": "AA"}}, 'Keys in "put" must be valid base 64 and under 4 bytes.'),
        ({"remove": ["A A="]}, 'Keys in "remove" must be valid base 64 and under 4 bytes.'),
        ({"remove": [1]}, 'Keys in "remove" must be valid base 64 and under 4 bytes.'),
        ({"put": {KEY: "é"}}, 'Values in "put" must be valid base 64'),
        ({"put": {KEY: 5}}, 'Values in "put" must be valid base 64'),
        ({"put_if_not_present": {KEY: {}}}, 'Values in "put_if_not_present" must be valid base 64'),
        (
            {"append": {KEY: {"values": ["AA", "AQ"], "max_signals": 1}}},
            "Attempting to append 2 than with a max_signals of 1",
        ),
        ({"put": {KEY: "AA", "AAAAAQ": "AA"}}, "Keys must only appear once per update JSON"),
        ({"put": {"AQ": "AA", "AQAAAA==": "AA"}}, "Keys must only appear once per update JSON"),
        ({"remove": [KEY, KEY]}, "Keys must only appear once per update JSON"),
        (
            {"put": {KEY: "AA"}, "remove": [KEY]},
            "Updates JSON attempts to perform multiple operations on a single key",
        ),
        (
            {"put_if_not_present": {KEY: "AA"}, "append": {KEY: {"values": [], "max_signals": 1}}},
            "Updates JSON attempts to perform multiple operations on a single key",
        ),
        ({"update_encoder": {"action": "REMOVE"}}, "Unrecognized update event type"),
        ({"update_encoder": {"action": "REGISTER"}}, '"update_encoder" needs a valid "endpoint" URI'),
        (
            {"update_encoder": {"action": "REGISTER", "endpoint": "http://x.example/"}},
            '"update_encoder" needs a valid "endpoint" URI',
        ),
    ],
)
def test_each_broken_rule_has_its_text(update: object, text: str) -> None:
    with pytest.raises(SignalUpdateError) as caught:
        parse_update(json.dumps(update))

    assert caught.value.what == text


@pytest.mark.parametrize(
    "member",
    [
        {},
        {"values": [KEY]},
        {"values": KEY, "max_signals": 1},
        {"values": [KEY], "max_signals": "1"},
        {"values": [KEY], "max_signals": True},
        {"values": [KEY], "max_signals": 1, "maxSignals": 2},
        {"values": [KEY], "max_signals": -1},
        [],
    ],
)
def test_a_malformed_append_is_refused(member: object) -> None:
    with pytest.raises(SignalUpdateError):
        parse_update(json.dumps({"append": {KEY: member}}))


def test_a_name_that_appears_twice_in_the_text_is_refused() -> None:
    with pytest.raises(SignalUpdateError, match="Keys must only appear once"):
        parse_update(f'{{"put": {{"{KEY}": "AA", "{KEY}": "AQ"}}}}')


@pytest.mark.parametrize("member", [{}, {"endpoint": "https://buyer.example/e.js"}])
def test_an_encoder_update_without_an_action_does_nothing(member: object) -> None:
    assert parse_update(json.dumps({"update_encoder": member})).encoder_endpoint is None


def test_no_repr_and_no_error_shows_a_key_or_a_value() -> None:
    secret = b"s3cret!!"
    update = parse_update(json.dumps({"put": {KEY: b64(secret)}}))
    with pytest.raises(SignalUpdateError) as caught:
        parse_update(json.dumps({"put": {b64(secret): b64(secret), KEY: "!" + b64(secret)}}))

    for text in (repr(update), str(caught.value), json.dumps(caught.value.as_json())):
        assert "s3cret" not in text
        assert b64(secret) not in text
        assert KEY not in text
