"""A call in a process of its own, beside the caller, which is ended if the caller leaves early."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from adyton.flywheel.errors import StepFailedError, StepKilledError
from adyton.flywheel.progress import StepProgress
from adyton.kernel.errors import AdytonError

T = TypeVar("T")
_END_S = 5.0


class Aside(Generic[T]):
    """`function(*arguments, progress=...)` in a fresh process; arguments and result travel pickled.

        with Aside(review_day, creative_ids) as review:
            ...                                  # other work
            result = review.result(progress)     # shows the newest progress until it is done

    function: a module-level function that takes a StepProgress called `progress`.
    """

    def __init__(self, function: Callable[..., T], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(sender, function, arguments), daemon=True)
        self._sender = sender

    def __enter__(self) -> Self:
        self._process.start()
        self._sender.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._receiver.close()

    def result(self, progress: StepProgress) -> T:
        """Wait for the result.

        Raises the error that the function raised if it is one of ours, StepKilledError or StepFailedError if
        the process died.
        """
        while True:
            try:
                kind, content = self._receiver.recv()
            except EOFError as error:
                self._process.join(_END_S)
                if self._process.exitcode == -signal.SIGKILL:
                    raise StepKilledError(
                        "a process of the demo was killed, most often because memory ran out",
                        hint="close other programs, or take a smaller --volume and fewer --devices",
                    ) from error
                raise StepFailedError("the process of a step ended without a result") from error
            if kind == "progress":
                progress.update(*content)
            elif kind == "error":
                raise content
            else:
                result: T = content
                return result


class _Told:
    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    def update(self, fraction: float, what: str) -> None:
        self._sender.send(("progress", (fraction, what)))


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # The caller decides what an interrupt means; both get it from the terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sender.send(("result", function(*arguments, progress=_Told(sender))))
    except AdytonError as error:
        sender.send(("error", error))
