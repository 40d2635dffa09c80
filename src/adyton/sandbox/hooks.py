"""Which host functions each kind of script has, and how their arguments and answers cross the line.

Call forms (script -> text for the host):
    text   the single argument as text            json   the single argument as JSON
    list   all arguments as one JSON array        none   empty text
Answer forms (host -> script):
    text   a string       json   the parsed JSON value       bytes   a Uint8Array
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from adyton.sandbox.values import UdfEffects, UdfKind


@dataclass(frozen=True)
class HookShape:
    """How one host function is marshalled."""

    call: str
    answer: str


HOOK_SHAPES: Mapping[str, HookShape] = MappingProxyType(
    {
        "runInference": HookShape("text", "text"),
        "getModelPaths": HookShape("none", "text"),
        "getValues": HookShape("json", "text"),
        "getValuesBinary": HookShape("json", "bytes"),
        "runQuery": HookShape("text", "json"),
        "runSetQueryUInt32": HookShape("text", "bytes"),
        "runSetQueryUInt64": HookShape("text", "bytes"),
        "runTopK": HookShape("list", "json"),
        "logCustomMetric": HookShape("text", "text"),
        "validate": HookShape("list", "json"),
    }
)
"""`runTopK(queryVector, {filter, k})` and `validate(payload, schema)` reach the host as a JSON array of arguments."""

HOOKS_OF_KIND: Mapping[UdfKind, frozenset[str]] = MappingProxyType(
    {
        UdfKind.PREPARE_DATA: frozenset({"runInference", "getModelPaths"}),
        UdfKind.RETRIEVAL: frozenset(
            {
                "getValues",
                "getValuesBinary",
                "runQuery",
                "runSetQueryUInt32",
                "runSetQueryUInt64",
                "runTopK",
                "logCustomMetric",
            }
        ),
        UdfKind.GENERATE_BID: frozenset({"runInference", "getModelPaths", "validate"}),
        UdfKind.SCORE_AD: frozenset(),
        UdfKind.REPORTING: frozenset(),
        UdfKind.ENCODE_SIGNALS: frozenset(),
    }
)
"""What a script of each kind may ask of the host."""

EFFECTS_OF_KIND: Mapping[UdfKind, frozenset[str]] = MappingProxyType(
    {
        UdfKind.PREPARE_DATA: frozenset(),
        UdfKind.RETRIEVAL: frozenset(),
        UdfKind.GENERATE_BID: frozenset({"forDebuggingOnly"}),
        UdfKind.SCORE_AD: frozenset({"forDebuggingOnly"}),
        UdfKind.REPORTING: frozenset({"sendReportTo", "registerAdBeacon"}),
        UdfKind.ENCODE_SIGNALS: frozenset(),
    }
)
"""What it may register, for the answer.

`console.*` and `logMessage` exist in every kind and never leave the worker before the call ends."""

_FIELDS_OF_EFFECT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "forDebuggingOnly": ("debug_win_url", "debug_loss_url"),
        "sendReportTo": ("report_url",),
        "registerAdBeacon": ("beacons",),
    }
)


def may_register(kind: UdfKind, effects: UdfEffects) -> bool:
    """False if `effects` hold anything that a call of this kind has no function for."""
    return not any(
        getattr(effects, field)
        for name, fields in _FIELDS_OF_EFFECT.items()
        if name not in EFFECTS_OF_KIND[kind]
        for field in fields
    )
