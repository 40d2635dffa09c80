"""From values to what a CALL carries, and from a checked answer to what the caller gets or is told."""

from __future__ import annotations

import orjson

from adyton.sandbox.errors import UdfOutputError, UdfThrewError
from adyton.sandbox.frames import Answer
from adyton.sandbox.values import Bytes, SignalMap, UdfArgument, UdfHandle, UdfResult


def argument_form(value: UdfArgument) -> tuple[str, bytes]:
    """Form and bytes of one argument, for a CALL."""
    if isinstance(value, Bytes):
        return "h", value.data
    if isinstance(value, SignalMap):
        return "m", value.json
    return "j", value


def outcome_of(
    handle: UdfHandle, answer: Answer, *, checks_json: bool = True
) -> UdfResult | UdfThrewError | UdfOutputError:
    """What a checked answer means for the caller. The JSON inside it is checked here, or only that it is UTF-8."""
    if answer.status == "L":
        return UdfOutputError("the returned value is too large", where=handle.label)
    if answer.status == "N":
        return UdfThrewError("the script has no such function", where=handle.label)
    if answer.status == "T":
        return UdfThrewError(
            "the function threw",
            where=handle.label,
            script_message=answer.body.decode(errors="replace"),
            effects=answer.effects,
            console=answer.console,
        )
    data: bytes | None = None
    body = answer.body
    try:
        if answer.status == "B":
            digits, _, body = body.partition(b";")
            data = bytes.fromhex(digits.decode("ascii"))
        if checks_json:
            orjson.loads(body)
        else:
            body.decode()
    except ValueError:
        return UdfOutputError("the returned value is not well-formed JSON", where=handle.label)
    return UdfResult(body, data, answer.console, answer.effects)
