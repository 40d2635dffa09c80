"""A call beside the caller gives its result, its error, and its place back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from adyton.flywheel.aside import Aside
from adyton.flywheel.errors import StepFailedError, StepKilledError
from adyton.flywheel.progress import StepProgress
from adyton.kernel.errors import BadInputError


@pytest.fixture(autouse=True)
def _child_finds_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spawned process imports the functions below by this module's name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[len(__name__.split(".")) - 1]))


class Seen:
    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []

    def update(self, fraction: float, what: str) -> None:
        self.told.append((fraction, what))


def double(number: int, *, progress: StepProgress) -> tuple[int, int]:
    progress.update(0.5, "half")
    return 2 * number, os.getpid()


def refuse(*, progress: StepProgress) -> None:
    raise BadInputError("no such thing", where="here", hint="try another")


def vanish(*, progress: StepProgress) -> None:
    os._exit(3)


def get_killed(*, progress: StepProgress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stay(*, progress: StepProgress) -> None:
    time.sleep(600)


def test_the_result_comes_from_another_process_with_its_progress() -> None:
    seen = Seen()
    with Aside(double, 21) as aside:
        number, pid = aside.result(seen)

    assert (number, seen.told) == (42, [(0.5, "half")])
    assert pid != os.getpid()


def test_an_error_keeps_its_class_and_words() -> None:
    with Aside(refuse) as aside, pytest.raises(BadInputError, match="here: no such thing") as caught:
        aside.result(Seen())

    assert caught.value.hint == "try another"


def test_a_process_that_dies_is_told_apart_from_a_result() -> None:
    with Aside(vanish) as aside, pytest.raises(StepFailedError, match="without a result"):
        aside.result(Seen())


def test_leaving_early_ends_the_process() -> None:
    with Aside(stay) as aside:
        process = aside._process
        assert process.is_alive()

    assert not process.is_alive()


def test_a_process_that_was_killed_is_this_machines_lack_and_not_our_defect() -> None:
    with Aside(get_killed) as aside, pytest.raises(StepKilledError, match="memory") as caught:
        aside.result(Seen())

    assert caught.value.exit_code == 13
