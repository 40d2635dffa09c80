"""The reference page of the configuration says what the configuration's classes say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from adyton.auction import config

ROOT = Path(__file__).parents[3]


def tool() -> ModuleType:
    path = ROOT / "tools/auction_config_reference.py"
    spec = importlib.util.spec_from_file_location("auction_config_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_tool_makes() -> None:
    assert (ROOT / "docs/reference/auction-config.md").read_text() == tool().reference(), (
        "run python tools/auction_config_reference.py"
    )


def test_every_section_and_member_is_on_the_page() -> None:
    page = tool().reference()
    sections = [
        item
        for item in vars(config).values()
        if isinstance(item, type) and issubclass(item, BaseModel) and item.__module__ == config.__name__
    ]
    for section in sections:
        if section is config.Section:
            continue
        text = page.split(f"## {section.__name__}\n", 1)[1].split("\n## ", 1)[0]
        for member, found in section.model_fields.items():
            (row,) = [line for line in text.splitlines() if line.startswith(f"| `{member}` |")]
            assert ("required" in row) == found.is_required()
