"""HTTP as a device does it: no redirects, no cookies, bounded bodies, bounded time.

`Web` is shared by many devices. Tests and demos give it another TLS context (a test authority) or `routes`, which send
the https requests for a host to a server on this machine instead.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from adyton.device.errors import AdTechServerError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0
_TOTAL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class WebReply:
    """A successful answer."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str]


class Web:
    """A client for ad techs' servers. An async context manager; `close` ends its connections.

    routes: host -> base URL (for instance `http://127.0.0.1:8080`) that serves it instead; never for production.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, routes: Mapping[str, str] | None = None) -> None:
        self._tls = tls
        self._routes = {host: httpx.URL(base) for host, base in (routes or {}).items()}
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        total_timeout_s: float = _TOTAL_TIMEOUT_S,
    ) -> WebReply:
        """The answer to a GET with a status of 2xx.

        Raises AdTechServerError: unreachable, too slow, another status, a body over `max_bytes`.
        """
        return await self._request("GET", url, b"", headers or {}, max_bytes, total_timeout_s)

    async def post(
        self,
        url: str,
        content: bytes,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        total_timeout_s: float = _TOTAL_TIMEOUT_S,
    ) -> WebReply:
        """The answer to a POST with a status of 2xx. Raises as `get` does."""
        return await self._request("POST", url, content, headers or {}, max_bytes, total_timeout_s)

    async def _request(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str], max_bytes: int, total_timeout_s: float
    ) -> WebReply:
        target, host = self._route(url)
        sent = {"Accept-Encoding": "identity", "Host": host, **headers}
        try:
            async with (
                asyncio.timeout(total_timeout_s),
                self._open().stream(method, target, headers=sent, content=content or None) as response,
            ):
                if not response.is_success:
                    raise AdTechServerError(f"the server answered with status {response.status_code}", where=host)
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > max_bytes:
                        raise AdTechServerError(f"the answer is larger than {max_bytes} bytes", where=host)
                return WebReply(bytes(body), response.headers)
        except TimeoutError as error:
            raise AdTechServerError("the server took too long", where=host) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's own text may hold the URL with its query.
            raise AdTechServerError(f"the request failed ({type(error).__name__})", where=host) from None

    def _route(self, url: str) -> tuple[httpx.URL, str]:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise AdTechServerError("this is not a URL that can be fetched") from error
        host = target.netloc.decode("ascii")
        base = self._routes.get(target.host)
        if base is not None:
            target = target.copy_with(scheme=base.scheme, host=base.host, port=base.port)
        return target, host

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            # These libraries log whole URLs and headers, and a reporting URL carries an egress payload.
            for name in ("httpx", "httpcore"):
                logging.getLogger(name).setLevel(logging.WARNING)
            timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
            self._client = httpx.AsyncClient(
                verify=self._tls or ssl.create_default_context(),
                timeout=timeout,
                follow_redirects=False,
                trust_env=False,
            )
        return self._client
