"""The update JSON of an ad tech, as commands (protected-auction §2.2-2.3).

The error texts are those of the reference device where the spec gives them. No text repeats a key or a value.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from adyton.protocol.errors import SignalUpdateError

MAX_UPDATE_BYTES = 10 * 1024
KEY_BYTES = 4
MAX_VALUE_BYTES = 100
COMMANDS = ("put", "append", "put_if_not_present", "remove", "update_encoder")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True)
class Put:
    """Delete every signal with this key and add one."""

    key: bytes = field(repr=False)
    value: bytes = field(repr=False)


@dataclass(frozen=True)
class PutIfNotPresent:
    """Add one signal if the key has none."""

    key: bytes = field(repr=False)
    value: bytes = field(repr=False)


@dataclass(frozen=True)
class Append:
    """Add all `values`; drop the oldest signals so that at most `max_signals` remain."""

    key: bytes = field(repr=False)
    values: tuple[bytes, ...] = field(repr=False)
    max_signals: int


@dataclass(frozen=True)
class Remove:
    """Delete every signal with this key."""

    key: bytes = field(repr=False)


Command = Put | PutIfNotPresent | Append | Remove


@dataclass(frozen=True)
class SignalUpdate:
    """One update: at most one command per key, and the encoder endpoint to register, if any."""

    commands: tuple[Command, ...]
    encoder_endpoint: str | None = None


def parse_update(body: bytes | str) -> SignalUpdate:
    """The commands of an update JSON.

    Raises SignalUpdateError for anything that is not a valid update as a whole.   Source: protected-auction §2.2, §2.3.
    """
    document = _load(body)
    commands: list[Command] = []
    for name, member in document.items():
        if name not in COMMANDS:
            raise SignalUpdateError(f"Invalid signal update command, valid commands are {', '.join(COMMANDS)}")
        if name == "remove":
            if not isinstance(member, list):
                raise SignalUpdateError(f'Value for "{name}" must be a JSON array')
            commands += [Remove(_key(key, name)) for key in member]
        elif not isinstance(member, _Members):
            raise SignalUpdateError(f'Value for "{name}" must be a JSON object')
        elif name == "put":
            commands += [Put(_key(key, name), _value(value, name)) for key, value in member.items()]
        elif name == "put_if_not_present":
            commands += [PutIfNotPresent(_key(key, name), _value(value, name)) for key, value in member.items()]
        elif name == "append":
            commands += [_append(_key(key, name), value) for key, value in member.items()]
    _check_touched_once(commands)
    return SignalUpdate(tuple(commands), _encoder_endpoint(document.get("update_encoder")))


class _Members(dict[str, object]):
    """A JSON object that remembers whether one of its names came twice."""

    has_duplicates = False


def _load(body: bytes | str) -> Mapping[str, object]:
    try:
        document = json.loads(body, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SignalUpdateError("Error converting response body to JSON") from error
    if not isinstance(document, _Members):
        raise SignalUpdateError("Error converting response body to JSON")
    if document.has_duplicates or any(isinstance(m, _Members) and m.has_duplicates for m in document.values()):
        raise SignalUpdateError("Keys must only appear once per update JSON")
    return document


def _members(pairs: list[tuple[str, object]]) -> _Members:
    members = _Members(pairs)
    members.has_duplicates = len(members) != len(pairs)
    return members


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _key(text: object, command: str) -> bytes:
    decoded = _decode(text)
    if decoded is None or len(decoded) > KEY_BYTES:
        raise SignalUpdateError(f'Keys in "{command}" must be valid base 64 and under {KEY_BYTES} bytes.')
    return decoded.ljust(KEY_BYTES, b"\0")


def _value(text: object, command: str) -> bytes:
    decoded = _decode(text)
    if decoded is None:
        raise SignalUpdateError(f'Values in "{command}" must be valid base 64')
    if len(decoded) > MAX_VALUE_BYTES:
        raise SignalUpdateError(f'Values in "{command}" must be under {MAX_VALUE_BYTES} bytes')
    return decoded


def _append(key: bytes, member: object) -> Append:
    if not isinstance(member, _Members):
        raise SignalUpdateError('Value for a key in "append" must be a JSON object')
    values, limits = member.get("values"), [member[n] for n in ("max_signals", "maxSignals") if n in member]
    if not isinstance(values, list):
        raise SignalUpdateError('"values" in "append" must be a JSON array')
    if len(limits) != 1 or isinstance(limits[0], bool) or not isinstance(limits[0], int):
        raise SignalUpdateError('"append" needs one integer "max_signals"')
    max_signals = limits[0]
    if len(values) > max_signals:
        raise SignalUpdateError(f"Attempting to append {len(values)} than with a max_signals of {max_signals}")
    return Append(key, tuple(_value(value, "append") for value in values), max_signals)


def _check_touched_once(commands: list[Command]) -> None:
    touched: dict[bytes, type[Command]] = {}
    for command in commands:
        earlier = touched.setdefault(command.key, type(command))
        if earlier is not type(command):
            raise SignalUpdateError("Updates JSON attempts to perform multiple operations on a single key")
    if len(touched) != len(commands):
        raise SignalUpdateError("Keys must only appear once per update JSON")


def _encoder_endpoint(member: object) -> str | None:
    if not isinstance(member, _Members) or "action" not in member:
        return None
    if member["action"] != "REGISTER":
        raise SignalUpdateError("Unrecognized update event type")
    endpoint = member.get("endpoint")
    if not isinstance(endpoint, str) or not _is_https_url(endpoint):
        raise SignalUpdateError('"update_encoder" needs a valid "endpoint" URI')
    return endpoint


def _is_https_url(text: str) -> bool:
    return re.fullmatch(r"https://[^\s/?#@\\]+(?:[/?#][^\s]*)?", text) is not None


def _decode(text: object) -> bytes | None:
    if not isinstance(text, str) or not _BASE64.fullmatch(text):
        return None
    digits = text.rstrip("=")
    if len(digits) % 4 == 1 or (digits != text and len(text) % 4):
        return None
    return base64.b64decode(digits + "=" * (-len(digits) % 4))
