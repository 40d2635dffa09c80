"""Calls that belong together: one request may run several functions of one script in one context.

    with one_request():
        prepared = await pool.call(prepare, "prepareDataForAdRetrieval", …)
        bids = await pool.call(bid, "generateBid", …, ends_request=True)

A context is what costs most of a short call. Between two calls of one request nobody else can see what the first left
behind, so the second may find it; for everyone else a context stays new. It is not promised: where many requests
share few workers, another one takes the worker and the next call begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Keeper(Protocol):
    """What keeps a context for a request: a worker process."""

    def forget(self, request: ScriptRequest) -> None:
        """Drop the context, if it is still kept for `request`."""
        ...


class ScriptRequest:
    """One request, and who keeps a context for it. is_over: nobody may keep anything for it any more."""

    def __init__(self) -> None:
        self.is_over = False
        self._keepers: set[Keeper] = set()

    def kept_by(self, keeper: Keeper) -> None:
        self._keepers.add(keeper)

    def end(self) -> None:
        self.is_over = True
        for keeper in self._keepers:
            keeper.forget(self)
        self._keepers.clear()


_CURRENT: ContextVar[ScriptRequest | None] = ContextVar("the request that scripts run for", default=None)


@contextmanager
def one_request() -> Iterator[None]:
    """All calls that this task makes inside belong to one request, and so do those of tasks that it starts here, until
    this ends; one inside another is a request of its own."""
    request = ScriptRequest()
    before = _CURRENT.set(request)
    try:
        yield
    finally:
        request.end()
        _CURRENT.reset(before)


def current_request() -> ScriptRequest | None:
    """The request that this task works on; None outside of `one_request`, where each call is one."""
    request = _CURRENT.get()
    # A task inherits the request in which it was started, and may live on for others.
    return None if request is None or request.is_over else request
