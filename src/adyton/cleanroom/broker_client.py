"""What an enclave calls: one owner's broker over HTTP. Errors are those that the broker raised."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import httpx

from adyton.cleanroom.attestation.errors import BrokerProtocolError, BrokerUnavailableError
from adyton.cleanroom.broker import KeyGrant, KeyRequest, LedgerReport
from adyton.cleanroom.broker_wire import (
    challenge_from_bytes,
    error_from_bytes,
    grant_from_bytes,
    log_from_bytes,
    noted_from_bytes,
    report_to_json,
    request_to_json,
)
from adyton.cleanroom.ledger_store import CounterValue
from adyton.kernel.audit import AuditEntry
from adyton.kernel.canonical import canonical_bytes

TIMEOUT_S = 30.0
_T = TypeVar("_T")


class BrokerClient:
    """One connection to one broker. `address`: `http://HOST:PORT` or `unix:/path`. Use as a context manager."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        uds = address.removeprefix("unix:") if address.startswith("unix:") else None
        # trust_env=False: a proxy named in the environment must not see, or answer, what is meant for the broker.
        self._http = httpx.Client(
            base_url="http://broker" if uds else address,
            transport=httpx.HTTPTransport(uds=uds),
            timeout=timeout_s,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def nonce(self) -> bytes:
        """32 bytes, good for one request. Raises BrokerUnavailableError, BrokerProtocolError."""
        return self.challenge()[0]

    def challenge(self) -> tuple[bytes, CounterValue | None]:
        """A nonce, and the head that the enclave's ledger has to go on from. Raises as `nonce`."""
        return self._parsed(challenge_from_bytes, self._call("POST", "/nonce", b"{}"))

    def settled(self, report: LedgerReport) -> str:
        """Tell where the ledger stands; gives the log's newest hash. Raises what `KeyBroker.settled` raises."""
        return self._parsed(noted_from_bytes, self._call("POST", "/settled", canonical_bytes(report_to_json(report))))

    def release(self, request: KeyRequest) -> KeyGrant:
        """The grant for `request`. Raises what `KeyBroker.release` raises, and BrokerProtocolError."""
        body = self._call("POST", "/release", canonical_bytes(request_to_json(request)))
        grant = self._parsed(grant_from_bytes, body)
        asked = (request.dataset_id, request.contract_hash, request.nonce)
        if (grant.dataset_id, grant.contract_hash, grant.nonce) != asked:
            raise BrokerProtocolError("the broker granted something that was not asked for", where=self.address)
        return grant

    def log(self) -> tuple[AuditEntry, ...]:
        """The broker's log, oldest first."""
        return self._parsed(log_from_bytes, self._call("GET", "/log", None))

    def _parsed(self, parse: Callable[[bytes], _T], body: bytes) -> _T:
        """What the broker said; where that is malformed, the error names which of several brokers it was."""
        try:
            return parse(body)
        except BrokerProtocolError as error:
            raise error.inside(self.address) from None

    def _call(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(method, path, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokerUnavailableError(
                f"the broker does not answer: {error}", where=self.address, hint="is `adyton broker serve` running?"
            ) from error
        if response.status_code != 200:
            refusal = error_from_bytes(response.content, response.status_code)
            raise refusal.inside(self.address) if isinstance(refusal, BrokerProtocolError) else refusal
        return response.content
