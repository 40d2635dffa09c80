"""The host's end of a worker's socket: frames out, frames in, one deadline. No task of its own and no copies to spare,
because every call of every script passes here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from adyton.sandbox.frames import Frame, FrameReader, MalformedFrameError

_MAX_WAITING_FRAMES = 4
Fault = MalformedFrameError | EOFError | TimeoutError


class Channel(asyncio.Protocol):
    """Frames over one socket. A worker that floods the host, breaks the format or is late is cut off for good."""

    def __init__(self, max_payload_bytes: int) -> None:
        self._reader = FrameReader(max_payload_bytes)
        self._frames: deque[Frame] = deque()
        self._fault: Fault | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._listener: Callable[[Frame | None], None] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def closed(self) -> bool:
        return self._fault is not None

    @property
    def has_frames(self) -> bool:
        """True if frames wait to be received."""
        return bool(self._frames)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Other event loops' transports have the methods without being subclasses.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return
        try:
            self._frames.extend(self._reader.feed(data))
            if len(self._frames) > _MAX_WAITING_FRAMES:
                raise MalformedFrameError("more frames than the protocol allows")  # noqa: TRY301
        except MalformedFrameError as fault:
            self._end(fault)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end(EOFError())
        self._wake()

    def send(self, frame: bytes) -> None:
        """Send one frame; nothing happens once the channel is closed."""
        if self._transport is not None and self._fault is None:
            self._transport.write(frame)

    async def receive(self) -> Frame:
        """The next frame. Raises EOFError, MalformedFrameError, or TimeoutError after `expire`."""
        while not self._frames:
            if self._fault is not None:
                raise self._fault
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()

    def listen(self, listener: Callable[[Frame | None], None]) -> None:
        """Call `listener` once: with the next frame, or with None when the channel ends before one comes."""
        self._listener = listener
        self._wake()

    def expire(self) -> None:
        """The worker is late: whoever waits is told by a TimeoutError."""
        self._end(TimeoutError())
        self._wake()

    def close(self) -> None:
        """Close for good; whoever waits is told by an EOFError."""
        self._end(EOFError())
        self._wake()

    def _end(self, fault: Fault) -> None:
        if self._fault is None:
            self._fault = fault
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._listener is not None and (self._frames or self._fault is not None):
            listener, self._listener = self._listener, None
            listener(self._frames.popleft() if self._frames else None)
