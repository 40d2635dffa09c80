"""Where a buyer's `encodeSignals(signals, maxSize)` runs: in the sandbox (protected-auction §3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adyton.device.encoding import SCRIPT_TIMEOUT_MS, marshal_signals
from adyton.device.errors import EncodingError
from adyton.device.signals import Signal
from adyton.kernel.errors import BadInputError, PeerError
from adyton.kernel.ids import BuyerId
from adyton.sandbox.errors import UdfThrewError, UdfTimeoutError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import SignalMap, UdfKind


class EncoderRuntime(Protocol):
    """Runs encoding scripts. One runtime serves many devices."""

    async def encode(self, buyer: BuyerId, code: str, signals: Sequence[Signal], max_size: int) -> bytes:
        """The payload, at most `max_size` bytes.

        Raises EncodingError for whatever the script does wrong.
        """
        ...


class SandboxEncoder:
    """Encodes in a worker process of `adyton.sandbox`; the scripts share nothing with each other or with us."""

    def __init__(self, pool: SandboxPool, *, deadline_ms: int = SCRIPT_TIMEOUT_MS) -> None:
        self._pool = pool
        self._deadline_ms = deadline_ms

    async def encode(self, buyer: BuyerId, code: str, signals: Sequence[Signal], max_size: int) -> bytes:
        try:
            handle = await self._pool.load(buyer, code, UdfKind.ENCODE_SIGNALS)
            result = await self._pool.call(
                handle,
                "encodeSignals",
                [SignalMap(marshal_signals(signals)), str(max_size).encode()],
                deadline_ms=self._deadline_ms,
            )
        except UdfThrewError as error:
            raise EncodingError(
                "The encoding script either doesn't contain the required function or the function returned null",
                where=buyer,
            ) from error
        except UdfTimeoutError as error:
            raise EncodingError(f"the encoding script took longer than {self._deadline_ms} ms", where=buyer) from error
        except (PeerError, BadInputError) as error:
            raise EncodingError("Exception processing result from encoding", where=buyer) from error
        return checked_payload(result.value, result.data, buyer, max_size)


def checked_payload(value: object, data: bytes | None, buyer: BuyerId, max_size: int) -> bytes:
    """The bytes of a script's answer `{status, results}`, whose `results` arrive as `data`.

    Raises EncodingError with the texts of §3.2.
    """
    if value is None:
        raise EncodingError(
            "The encoding script either doesn't contain the required function or the function returned null",
            where=buyer,
        )
    status = value.get("status") if isinstance(value, dict) else None
    if isinstance(status, bool) or status != 0:
        raise EncodingError("Exception processing result from encoding", where=buyer)
    if not data:
        raise EncodingError("Malformed encoded payload.", where=buyer)
    if len(data) > max_size:
        raise EncodingError("Payload size exceeds limits.", where=buyer)
    return data
