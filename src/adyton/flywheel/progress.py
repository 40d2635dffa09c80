"""What a person sees while the loop runs: one line per step, a bar inside long ones, all of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class StepProgress(Protocol):
    """Told by a step how far it is."""

    def update(self, fraction: float, what: str) -> None:
        """`fraction` in [0, 1] of this step is done; `what` is being done now."""
        ...


class Reporter(Protocol):
    """Told by the loop which step runs."""

    def step(self, number: int, title: str) -> AbstractContextManager[StepProgress]:
        """Around one step."""
        ...


class _Silent:
    def update(self, fraction: float, what: str) -> None:
        """Nobody is looking."""


class SilentReporter:
    """Says nothing: for libraries and tests."""

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[StepProgress]:  # noqa: ARG002
        yield _Silent()


class TerminalReporter:
    """A bar on a terminal, one finished line per step elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[StepProgress]:
        started = time.monotonic()
        if self._console.is_terminal:
            with Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[what]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            ) as bar:
                task = bar.add_task(f"{number}/6 {title}", total=1.0, what="")

                class _Bar:
                    def update(self, fraction: float, what: str) -> None:
                        bar.update(task, completed=fraction, what=what)

                yield _Bar()
        else:
            yield _Silent()
        self._console.print(f"{number}/6 {title}: {time.monotonic() - started:.1f} s")
