"""A broker over HTTP, on loopback or a UNIX socket.

Keys travel only inside HPKE, so the channel needs no secrecy; put it behind TLS where it leaves the machine. `/log` has
no secrets either: contract, dataset, public key, measurement and outcome of every request.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adyton.cleanroom.attestation.errors import BrokerUnavailableError, KeyRequestError
from adyton.cleanroom.broker import KeyBroker
from adyton.cleanroom.broker_wire import (
    MAX_BODY_BYTES,
    error_to_json,
    report_from_bytes,
    request_from_bytes,
    status_of,
)
from adyton.kernel.audit import GENESIS_HASH
from adyton.kernel.errors import AdytonError

START_SECONDS = 10


def broker_app(broker: KeyBroker) -> Starlette:
    """The ASGI application of one broker."""

    async def nonce(request: Request) -> Response:
        await _body(request)
        issued = (await run_in_threadpool(broker.issue_nonce)).hex()
        head = await run_in_threadpool(broker.ledger_head)
        return JSONResponse({"nonce": issued, "ledger": head.as_json() if head is not None else None})

    async def release(request: Request) -> Response:
        key_request = request_from_bytes(await _body(request))
        return JSONResponse((await run_in_threadpool(broker.release, key_request)).as_json())

    async def settled(request: Request) -> Response:
        report = report_from_bytes(await _body(request))
        return JSONResponse({"log_hash": await run_in_threadpool(broker.settled, report)})

    async def log(request: Request) -> Response:  # noqa: ARG001
        entries = await run_in_threadpool(broker.log)
        newest = entries[-1].entry_hash if entries else GENESIS_HASH
        body = {"owner": broker.owner, "entries": [entry.as_json() for entry in entries], "newest_hash": newest}
        return JSONResponse(body)

    async def on_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
        assert isinstance(error, AdytonError), "only registered for AdytonError"
        return JSONResponse(error_to_json(error), status_code=status_of(error))

    return Starlette(
        routes=[
            Route("/nonce", nonce, methods=["POST"]),
            Route("/release", release, methods=["POST"]),
            Route("/settled", settled, methods=["POST"]),
            Route("/log", log, methods=["GET"]),
        ],
        exception_handlers={AdytonError: on_error},
    )


def listen(address: str) -> socket.socket:
    """A listening socket for `http://HOST:PORT` (port 0: any free one) or `unix:/path`.

    A UNIX socket that nobody listens on any more, which a killed broker leaves behind, is replaced.
    Raises BrokerUnavailableError if the address cannot be had.
    """
    if not address.startswith(("unix:", "http://")) or address == "unix:":
        raise BrokerUnavailableError("cannot listen there", where=address, hint="http://127.0.0.1:PORT or unix:/path")
    try:
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            _remove_if_deserted(Path(address.removeprefix("unix:")))
            sock.bind(address.removeprefix("unix:"))
        else:
            host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host.strip("[]"), int(port)))
        sock.listen(64)
    except (OSError, ValueError, OverflowError) as error:
        raise BrokerUnavailableError(
            f"cannot listen there: {error}", where=address, hint="use http://127.0.0.1:PORT or unix:/path"
        ) from error
    return sock


def _remove_if_deserted(path: Path) -> None:
    """Remove the socket at `path` if connecting to it is refused; whatever else lies there is left alone."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(START_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return


def address_of(sock: socket.socket) -> str:
    """What a client is told: `http://HOST:PORT` or `unix:/path`."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


def serve(broker: KeyBroker, sock: socket.socket) -> None:
    """Serve until interrupted."""
    _server(broker).run(sockets=[sock])


@contextmanager
def running_broker(broker: KeyBroker, address: str = "http://127.0.0.1:0") -> Iterator[str]:
    """Serve in a thread for the length of a `with` block; gives the address for `BrokerClient`."""
    sock = listen(address)
    server = _server(broker)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name=f"broker-{broker.owner}", daemon=True)
    thread.start()
    try:
        waited = threading.Event()
        for _ in range(START_SECONDS * 100):
            if server.started:
                break
            waited.wait(0.01)
        else:
            raise BrokerUnavailableError("the broker did not start", where=address)
        yield address_of(sock)
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        sock.close()
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _server(broker: KeyBroker) -> uvicorn.Server:
    config = uvicorn.Config(
        broker_app(broker), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
    )
    return uvicorn.Server(config)


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is longer than any honest request."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise KeyRequestError(f"a request has at most {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
