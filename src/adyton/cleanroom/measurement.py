"""What code runs in the enclave, as one hash.

    measurement = SHA-256 over canonical JSON of
        files      {path in the package: SHA-256} of adyton's kernel, learning and cleanroom code
        packages   {name: version} of the libraries that this code needs (the lock)
        python     the interpreter's version
        settings   the enclave's settings that do not come from a contract

The contract is not in it: the contract names the measurement, and evidence binds the contract's hash apart. On trusted
hardware the platform measures the image; here the enclave's process measures itself, which its administrator can fake.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import adyton
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.errors import InternalError

CODE_PACKAGES: Final = ("kernel", "learning", "cleanroom")
CODE_SUFFIXES: Final = frozenset((".py", ".pem"))
# What rows, keys and messages go through; a test compares it with what an enclave loads.
LOCKED_PACKAGES: Final = (
    *("cbor2", "cryptography", "duckdb", "httpcore", "httpx", "ibis-framework", "llvmlite", "numba", "numpy", "onnx"),
    *("onnxruntime", "opendp", "protobuf", "pyarrow", "pydantic", "pydantic-core", "pyjwt", "scikit-learn", "scipy"),
    *("sqlglot", "torch"),
)
SETTINGS: Final[dict[str, Json]] = {"spill": "refused", "network": "brokers only", "outputs": "sealed"}


@cache
def code_measurement() -> bytes:
    """32 bytes. The same on every machine with the same code, library versions and interpreter."""
    return hashlib.sha256(canonical_bytes(measured())).digest()


def measured() -> dict[str, Json]:
    """What goes into the hash, for people who want to compare two measurements."""
    root = Path(adyton.__file__).parent
    paths = [root / "__init__.py"]
    for package in CODE_PACKAGES:
        paths += [path for path in (root / package).rglob("*") if path.suffix in CODE_SUFFIXES]
    files: dict[str, Json] = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)
    }
    return {
        "files": files,
        "packages": {name: _version(name) for name in LOCKED_PACKAGES},
        "python": platform.python_version(),
        "settings": SETTINGS,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise InternalError("a library that the enclave needs is not installed", where=name) from error
