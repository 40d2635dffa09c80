"""The imports between packages are the arrows of the design, and no others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import adyton

ROOT = Path(adyton.__file__).parent
EVERYTHING = {
    "kernel",
    "protocol",
    "sandbox",
    "learning",
    "review",
    "cleanroom",
    "device",
    "auction",
    "flywheel",
    "console",
    "cli",
}
ALLOWED: dict[str, set[str]] = {
    "kernel": set(),
    "protocol": {"kernel"},
    "sandbox": {"kernel"},
    "learning": {"kernel"},
    "review": {"kernel"},
    "cleanroom": {"kernel", "learning"},
    "device": {"kernel", "protocol", "sandbox"},
    "auction": {"kernel", "protocol", "sandbox"},
    "flywheel": EVERYTHING - {"console", "cli"},
    "console": EVERYTHING - {"cli"},
    "cli": EVERYTHING,
}
NO_IO = {"kernel", "protocol"}
IO_MODULES = {
    "socket",
    "subprocess",
    "sqlite3",
    "asyncio",
    "grpc",
    "httpx",
    "requests",
    "multiprocessing",
    "urllib",
    "tempfile",
    "shutil",
    "duckdb",
    "sqlalchemy",
}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", sorted(EVERYTHING))
def test_package_imports_only_what_the_design_allows(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "adyton" and len(parts) > 1 and parts[1] in EVERYTHING:
                target = parts[1]
                if target != package and target not in ALLOWED[package]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")

    assert wrong == []


@pytest.mark.parametrize("package", sorted(NO_IO))
def test_rules_packages_do_no_io(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in imports_of(path) if name.split(".")[0] in IO_MODULES]

    assert wrong == []


def test_every_package_on_disk_is_in_the_design() -> None:
    on_disk = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert on_disk == EVERYTHING


def test_no_module_grows_past_six_hundred_lines() -> None:
    too_long = {
        str(path.relative_to(ROOT)): n
        for path in ROOT.rglob("*.py")
        if not path.stem.endswith(("_pb2", "_pb2_grpc")) and (n := len(path.read_text().splitlines())) > 600
    }

    assert too_long == {}
