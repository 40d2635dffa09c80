"""Lock files install anywhere: hashes, no addresses, and only versions that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-dev.lock": PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"],
}


def pinned(text: str) -> list[tuple[str, str]]:
    """(name, version) of every line; a name may have one version for each range of Pythons."""
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", text, re.MULTILINE)
    return [(name.lower().replace("_", "-"), version) for name, version in pins]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_file_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = pinned(text)
    hashed = re.findall(r"^[A-Za-z0-9_.-]+==[^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE)

    assert "://" not in text
    assert len(hashed) == len(pins) > 20


@pytest.mark.parametrize("name", LOCKS)
def test_lock_file_holds_every_dependency_at_an_allowed_version(name: str) -> None:
    pins = pinned((ROOT / name).read_text())
    wrong = []
    for requirement in map(Requirement, LOCKS[name]):
        key = requirement.name.lower().replace("_", "-")
        if key == "torch":
            assert key not in dict(pins), "torch is left to each machine (docs/adr/0005)"
            continue
        versions = [version for pinned_name, version in pins if pinned_name == key]
        if not versions or not all(requirement.specifier.contains(v, prereleases=True) for v in versions):
            wrong.append(str(requirement))

    assert wrong == []
