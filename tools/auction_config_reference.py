"""Write `docs/reference/auction-config.md` from the configuration itself: `python tools/auction_config_reference.py`.

A test compares the file with what this makes.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adyton.auction import config

PAGE = Path(__file__).parent.parent / "docs/reference/auction-config.md"
INTRODUCTION = """\
# Configuration of the auction's services

Made from `adyton.auction.config` by `tools/auction_config_reference.py`; do not edit.

`adyton auction serve --config FILE` reads one JSON document. Its members are those of the first table; a member whose
type is a section holds an object with the members of that section's table. Unknown members are errors, and paths are
relative to the file.

"""


def reference() -> str:
    """The whole page."""
    return INTRODUCTION + "\n".join(_section(section) for section in _sections(config.ProcessConfig, []))


def _sections(section: type[BaseModel], seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """The section and all that it holds, each once, outer ones first."""
    seen.append(section)
    for found in section.model_fields.values():
        for inner in _models(found.annotation):
            if inner not in seen:
                _sections(inner, seen)
    return seen


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _section(section: type[BaseModel]) -> str:
    lines = [f"## {section.__name__}", "", *_prose(section), ""]
    lines += ["| member | type | default |", "|---|---|---|"]
    for name, found in section.model_fields.items():
        kind, null, _ = _type(found.annotation).partition(" or null")
        lines.append(f"| `{name}` | {kind}{_limits(found)}{null} | {_default(found)} |")
    return "\n".join([*lines, ""])


def _prose(section: type[BaseModel]) -> list[str]:
    """The docstring, with the description of each member on a line of its own."""
    first, _, rest = inspect.cleandoc(section.__doc__ or "").partition("\n\n")
    lines = [" ".join(first.split())]
    members = "|".join(map(re.escape, section.model_fields))
    described = re.split(rf"(?<!,)\s+(?=(?:(?:{members})(?:, )?)+: )", " ".join(rest.split("\n")).strip())
    bullets = [" ".join(item.split()) for item in described if item.strip()]
    if bullets:
        lines += ["", *(re.sub(r"^([a-z_, ]+):", _as_code, f"{bullet}") for bullet in bullets)]
        lines[2:] = [f"- {line}" for line in lines[2:]]
    return [line.replace("None", "null") for line in lines]


def _as_code(match: re.Match[str]) -> str:
    return ", ".join(f"`{name}`" for name in match.group(1).split(", ")) + ":"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (types.UnionType, Union):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is dict:
        return f"object of {_type(arguments[1])}"
    if origin is tuple:
        return f"array of {_type(arguments[0])}"
    if origin is not None:  # Annotated
        return _type(arguments[0])
    names = {str: "text", int: "integer", bool: "true or false", Fraction: "fraction", type(None): "null"}
    if annotation in names:
        return names[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f'`"{member.value}"`' for member in annotation)
    if annotation is config.ScriptSource:
        return "path, URL, or [ScriptSource](#scriptsource)"
    return f"[{annotation.__name__}](#{annotation.__name__.lower()})"


def _limits(found: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [
        f"{sign} {getattr(item, name)}"
        for item in found.metadata
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    return f" {', '.join(limits)}" if limits else ""


def _default(found: FieldInfo) -> str:
    if found.is_required():
        return "required"
    value = found.get_default(call_default_factory=True, validated_data={})
    assert value is not PydanticUndefined, "a member is required or has a default"
    if isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, Enum):
        return f'`"{value.value}"`'
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower() if value is not None else 'null'}`"
    if isinstance(value, str | Fraction):
        return f'`"{value}"`'
    if isinstance(value, dict | tuple):
        return "`{}`" if isinstance(value, dict) else "`[]`"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(reference())
