"""The example runs as its docstring says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "ad_review.py"


@pytest.mark.slow
def test_the_example_prints_its_findings_and_draws_figures(tmp_path: Path) -> None:
    arguments = ["--days", "2", "--volume", "0.2", "--moderators", "80", "--figures", str(tmp_path)]
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=True)

    assert [line[:2] for line in done.stdout.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3.", "4."]
    assert "above the bound" in done.stdout
    assert (tmp_path / "loss_by_allocator.png").stat().st_size > 5_000
