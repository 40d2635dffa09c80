"""The notebook runs from its first cell to its last, and the shipped one was run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[3] / "examples" / "ad_review.ipynb"
SMALL = "DAYS = 2\nVOLUME = 0.1\nMODERATORS = 60\nLEARNING_DAYS = 2\nWORKERS = 1\n"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict[str, Any], kind: str) -> list[str]:
    """The outputs of one MIME type, in order."""
    found = [output.get("data", {}) for cell in code_cells(notebook) for output in cell["outputs"]]
    return ["".join(data[kind]) for data in found if kind in data]


def test_the_shipped_notebook_was_run_in_order_without_an_error() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    code = code_cells(notebook)

    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert len(outputs(notebook, "image/png")) >= 6
    assert any("above the bound" in text for text in outputs(notebook, "text/markdown"))


@pytest.mark.slow
def test_every_cell_runs_on_small_days(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    names = [set(re.findall(r"^\w+", text, re.MULTILINE)) for text in (SMALL, parameters.source)]
    assert names[0] == names[1]
    parameters.source = SMALL
    shipped = len(outputs(notebook, "image/png"))

    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert len(outputs(notebook, "image/png")) == shipped
    assert any("above the bound" in text for text in outputs(notebook, "text/markdown"))
