"""The measurement names the version of every library that the enclave computes or reads bytes with."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from adyton.cleanroom.measurement import LOCKED_PACKAGES, measured

# Loaded by libraries for their own looks, types and errors; no row, key or message goes through them.
INCIDENTAL = {
    *("adyton", "annotated-types", "atpublic", "cffi", "click", "cloudpickle", "deprecated", "idna", "ml-dtypes"),
    *("mypy-extensions", "parsy", "pygments", "python-dateutil", "pyyaml", "rich", "setuptools", "six", "toolz"),
    *("typing-inspection", "typing-extensions", "wrapt", "tzdata", "mpmath", "sympy", "networkx", "jinja2"),
    *("markupsafe", "certifi", "h11", "sniffio", "filelock", "fsspec", "packaging", "pytz", "pandas"),
}
ENCLAVE = (
    "import json, sys; import adyton.cleanroom.enclave, adyton.cleanroom.enclave_main, adyton.cleanroom.scored_stream, "
    "adyton.cleanroom.templates, adyton.cleanroom.workload; from importlib.metadata import packages_distributions; "
    "by_name = packages_distributions(); tops = {name.partition('.')[0] for name in sys.modules}; "
    "print(json.dumps(sorted({one for top in tops for one in by_name.get(top, [])})))"
)


@pytest.mark.slow
def test_what_the_enclave_loads_is_in_its_measurement() -> None:
    said = subprocess.run([sys.executable, "-c", ENCLAVE], capture_output=True, text=True, check=True).stdout
    loaded = {name.lower().replace("_", "-") for name in json.loads(said)}

    assert {"duckdb", "torch", "numba", "opendp", "cbor2"} <= loaded
    assert loaded - set(LOCKED_PACKAGES) <= INCIDENTAL
    assert not INCIDENTAL & set(LOCKED_PACKAGES)


def test_another_version_of_a_library_is_another_measurement() -> None:
    packages = measured()["packages"]

    assert isinstance(packages, dict)
    assert set(packages) == set(LOCKED_PACKAGES)
    assert all(isinstance(version, str) and version for version in packages.values())
