"""One coordinator over HTTP: the public list for everybody, private keys for attested services (protected-auction §14).

    GET  /.well-known/protected-auction/v1/public-keys            Date, Cache-Control: max-age
    POST /v1/challenge                                            a nonce for one request, and the policy's name
    GET  /v1alpha/encryptionKeys/<id>                             with evidence in `Authorization`
    GET  /v1alpha/encryptionKeys:recent?maxAgeSeconds=N           with evidence in `Authorization`
    POST /v1/shares                                               from the primary coordinator, sealed

A primary makes keys. With a second coordinator it splits each one and publishes it only when the other holds its share.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adyton.auction.errors import ConfigError
from adyton.auction.keys.attestation import AttestationGate, challenge_to_json, proof_from_header
from adyton.auction.keys.errors import KeyServiceRequestError, NotAttestedError
from adyton.auction.keys.exchange import EXCHANGE_KEY_BYTES, SHARES_PATH, deliver_share, open_share, seal_share
from adyton.auction.keys.json_members import to_base64
from adyton.auction.keys.rotation import KeyShare, KeyType, RotationPolicy, keys_missing, list_max_age_s, make_shares
from adyton.auction.keys.store import KeyStore
from adyton.auction.keys.wire import CHALLENGE_PATH, GRANT_HEADER, PRIVATE_PATH, PUBLIC_PATH, keys_to_json
from adyton.auction.services.http_app import http_server
from adyton.auction.services.listening import bind
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.errors import AdytonError, BadInputError, RefusedError, UnavailableError

_log = logging.getLogger(__name__)
ROTATE_EVERY_S = 600.0
MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True)
class SecondCoordinator:
    """The other half of a split. `address`: http(s) URL.   exchange_key: 32 bytes that both were given."""

    address: str
    exchange_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_exchange_key(self.exchange_key)


class Coordinator:
    """The keys of one coordinator, whoever asks for them.

    second: the other coordinator, for a primary that splits.   takes_shares_with: the exchange key of a secondary,
    which makes no keys itself.
    """

    def __init__(
        self,
        store: KeyStore,
        gate: AttestationGate,
        *,
        policy: RotationPolicy | None = None,
        second: SecondCoordinator | None = None,
        takes_shares_with: bytes | None = None,
        clock: Clock | None = None,
        source: RandomSource | None = None,
    ) -> None:
        if second is not None and takes_shares_with is not None:
            raise ConfigError("a coordinator either makes keys or takes shares")
        if takes_shares_with is not None:
            _check_exchange_key(takes_shares_with)
        self.gate = gate
        self._store = store
        self._policy = policy or RotationPolicy()
        self._second = second
        self._exchange_key = takes_shares_with
        self._clock: Clock = clock or SystemClock()
        self._source: RandomSource = source or OsRandom()

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def source(self) -> RandomSource:
        return self._source

    async def rotate(self) -> int:
        """Make the keys that are missing, and give back how many. A secondary makes none.

        Raises KeyServiceDownError; keys made before that stay.
        """
        if self._exchange_key is not None:
            return 0
        now_ms = self._clock.now_ms()
        key_type = KeyType.SINGLE if self._second is None else KeyType.SPLIT
        n_missing = keys_missing(self._store.shares(), self._policy, now_ms)
        for _ in range(n_missing):
            own, *others = make_shares(
                self._store.shares(), self._policy, now_ms, key_type=key_type, source=self._source
            )
            for share in others:
                assert self._second is not None, "only split keys have a second share"
                sealed = seal_share(share, self._second.exchange_key, self._source)
                await deliver_share(sealed, self._second.address)
            self._store.add(own, now_ms=now_ms)
        return n_missing

    def take_share(self, body: bytes) -> None:
        """Keep a share that the primary sent. Raises NotAttestedError, KeyServiceRequestError, KeyServiceDownError."""
        if self._exchange_key is None:
            raise NotAttestedError("this coordinator takes no shares")
        share = open_share(body, self._exchange_key)
        if share.key_type is not KeyType.SPLIT or share.index != 1:
            raise KeyServiceRequestError("this is not the second share of a split key")
        self._store.add(share, now_ms=self._clock.now_ms())

    def published(self) -> tuple[tuple[KeyShare, ...], int]:
        """The keys on the public list, and for how many seconds a client may keep it."""
        now_ms = self._clock.now_ms()
        shares = self._store.shares()
        return tuple(s for s in shares if s.is_published(now_ms)), list_max_age_s(shares, self._policy, now_ms)

    def recent(self, max_age_s: int) -> tuple[KeyShare, ...]:
        """Live shares made within the last `max_age_s` seconds."""
        now_ms = self._clock.now_ms()
        return tuple(
            share
            for share in self._store.shares()
            if share.is_live(now_ms) and now_ms - share.created_at_ms <= 1000 * max_age_s
        )

    def share(self, kms_id: str) -> KeyShare | None:
        """The live share of one key."""
        now_ms = self._clock.now_ms()
        return next((s for s in self._store.shares() if s.kms_id == kms_id and s.is_live(now_ms)), None)


def build_key_app(coordinator: Coordinator, *, encryption_uri: str) -> Starlette:
    """The application of one coordinator. `encryption_uri`: what `keyEncryptionKeyUri` says of who encrypted."""

    async def public_keys(_: Request) -> Response:
        shares, max_age_s = coordinator.published()
        entries = [{"id": share.kms_id, "key": to_base64(share.public_key)} for share in shares]
        now_s = coordinator.clock.now_ms() / 1000
        headers = {"Date": formatdate(now_s, usegmt=True), "Cache-Control": f"max-age={max_age_s}"}
        return JSONResponse({"keys": entries}, headers=headers)

    async def challenge(_: Request) -> Response:
        return JSONResponse(challenge_to_json(await run_in_threadpool(coordinator.gate.challenge)))

    async def one(request: Request) -> Response:
        share = coordinator.share(request.path_params["kms_id"])
        # Asked before it is known who asks: a stranger must not learn which keys exist.
        return await release(request, () if share is None else (share,), is_one=True)

    async def recent(request: Request) -> Response:
        text = request.query_params.get("maxAgeSeconds", "")
        if not text.isascii() or not text.isdigit() or len(text) > 12:
            raise KeyServiceRequestError("give maxAgeSeconds as a whole number", where="maxAgeSeconds")
        return await release(request, coordinator.recent(int(text)))

    async def release(request: Request, shares: Sequence[KeyShare], *, is_one: bool = False) -> Response:
        proof = proof_from_header(request.headers.get("authorization"))
        admission = await run_in_threadpool(coordinator.gate.admit, proof)
        if is_one and not shares:
            return JSONResponse({"error": "no such key"}, status_code=404)
        body = keys_to_json(shares, admission, encryption_uri=encryption_uri, source=coordinator.source)
        return JSONResponse(body, headers={GRANT_HEADER: to_base64(admission.grant), "Cache-Control": "no-store"})

    async def shares(request: Request) -> Response:
        chunks, n_bytes = [], 0
        async for chunk in request.stream():
            n_bytes += len(chunk)
            if n_bytes > MAX_BODY_BYTES:
                raise KeyServiceRequestError(f"a share has at most {MAX_BODY_BYTES} bytes")
            chunks.append(chunk)
        await run_in_threadpool(coordinator.take_share, b"".join(chunks))
        return Response(status_code=204)

    async def on_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, AdytonError), "only registered for AdytonError"
        if not isinstance(error, NotAttestedError | KeyServiceRequestError):
            _log.warning("refused: %s", type(error).__name__)
        return JSONResponse({"error": type(error).__name__, "what": error.what}, status_code=_status_of(error))

    return Starlette(
        routes=[
            Route(PUBLIC_PATH, public_keys),
            Route(CHALLENGE_PATH, challenge, methods=["POST"]),
            Route(f"{PRIVATE_PATH}:recent", recent),
            Route(PRIVATE_PATH + "/{kms_id}", one),
            Route(SHARES_PATH, shares, methods=["POST"]),
        ],
        exception_handlers={AdytonError: on_error},
    )


@asynccontextmanager
async def running_key_service(
    coordinator: Coordinator, listen: str = "127.0.0.1:0", *, encryption_uri: str = "adyton-broker://self"
) -> AsyncIterator[str]:
    """Serve inside a `with` block, rotating keys; gives the service's http URL.

    Raises ConfigError if the address cannot be bound, KeyServiceDownError if the first keys cannot be made.
    """
    listener = bind(listen)
    server = http_server(build_key_app(coordinator, encryption_uri=encryption_uri), max_header_bytes=256 * 1024)
    await coordinator.rotate()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    rotating = asyncio.create_task(_rotate_forever(coordinator))
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        rotating.cancel()
        server.should_exit = True
        await asyncio.gather(serving, rotating, return_exceptions=True)


async def serve_keys(
    coordinator: Coordinator, listen: str, stop: asyncio.Event, announce: Callable[[str], None]
) -> None:
    """Serve until `stop` is set; `announce` gets one JSON line with the service's URL."""
    async with running_key_service(coordinator, listen) as url:
        announce(json.dumps({"ready": True, "http": url, "public_keys": url + PUBLIC_PATH}))
        await stop.wait()


async def _rotate_forever(coordinator: Coordinator) -> None:
    while True:
        await asyncio.sleep(ROTATE_EVERY_S)
        try:
            await coordinator.rotate()
        except AdytonError as error:
            _log.warning("keys were not rotated: %s", error)


def _status_of(error: AdytonError) -> int:
    if isinstance(error, NotAttestedError):
        return 401
    for kind, status in ((BadInputError, 400), (RefusedError, 403), (UnavailableError, 503)):
        if isinstance(error, kind):
            return status
    return 500


def _check_exchange_key(key: bytes) -> None:
    if len(key) != EXCHANGE_KEY_BYTES:
        raise ConfigError(f"an exchange key has {EXCHANGE_KEY_BYTES} bytes", where="exchange key")
