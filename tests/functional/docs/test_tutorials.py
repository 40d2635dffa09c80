"""Every tutorial's commands are run as they stand, and what they print is what the page shows.

In a block marked `console`, `$ ` begins a command and `> ` continues it; other lines are its output (stdout and
stderr), in which a line of `...` stands for any lines and `...` inside a line for any text. A command without output
lines may print anything. It must end with 0, or with N where it ends in `# exit N`; one that ends in `&` goes on
until the end.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[3] / "docs" / "tutorials").glob("*.md"))
MARK = "end of command"


@dataclass(frozen=True)
class Step:
    command: str
    shown: str

    @property
    def exit_code(self) -> int:
        found = re.search(r"# exit (\d+)\s*$", self.command)
        return int(found.group(1)) if found else 0


def steps_of(page: str) -> list[Step]:
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *rest = part.splitlines()
            more = [line for line in rest if line.startswith("> ")]
            command = "\n".join([first, *(line.removeprefix("> ") for line in more)])
            steps.append(Step(command, "\n".join(rest[len(more) :])))
    return steps


def matches(shown: str, printed: str) -> bool:
    if not shown:
        return True
    parts = [r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
             for line in shown.splitlines()]  # fmt: skip
    return re.fullmatch("".join(parts), printed if printed.endswith("\n") else printed + "\n") is not None


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a ... z", "a b z\n", True),
        ("a\nb", "a\nc\n", False),
        ("a\n...\nd", "a\nb\n", False),
        ("a", "a\nb\n", False),
        ("", "whatever", True),
    ],
)
def test_shown_output_is_compared(shown: str, printed: str, expected: bool) -> None:
    assert matches(shown, printed) is expected


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    steps = steps_of(page.read_text())
    assert steps
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--norc"], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert shell.stdin is not None
    assert shell.stdout is not None
    try:
        for number, step in enumerate(steps):
            if step.command.rstrip().endswith("&"):
                start_in_background(shell, step, tmp_path / f"background-{number}")
                continue
            shell.stdin.write(f"{step.command}\nprintf '\\n{MARK} %d\\n' $?\n")
            shell.stdin.flush()
            printed: list[str] = []
            while not (line := shell.stdout.readline()).startswith(MARK):
                assert line, f"the shell ended at: {step.command}\n{''.join(printed)}"
                printed.append(line)
            code, text = int(line.split()[-1]), "".join(printed).removesuffix("\n")

            assert code == step.exit_code, f"{step.command}\n{text}"
            assert matches(step.shown, text), f"{step.command}\n--- shown\n{step.shown}\n--- printed\n{text}"
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(20)
        shell.stdin.close()
        shell.stdout.close()


def start_in_background(shell: subprocess.Popen[str], step: Step, log: Path) -> None:
    """Go on when the command has printed what the page shows."""
    assert shell.stdin is not None
    shell.stdin.write(f"{step.command.rstrip().removesuffix('&')} > {log} 2>&1 &\n")
    shell.stdin.flush()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if log.exists() and set(step.shown.splitlines()) <= set(log.read_text().splitlines()):
            return
        time.sleep(0.1)
    raise AssertionError(f"{step.command}\n{log.read_text() if log.exists() else 'nothing printed'}")
