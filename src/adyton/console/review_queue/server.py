"""The review queue on a socket, until interrupted or for the length of a `with` block."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from adyton.kernel.errors import BadInputError, UnavailableError

START_SECONDS = 20


class TlsError(BadInputError):
    """A certificate or key that cannot be used."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises BadInputError, UnavailableError."""
    if not host.strip():  # an unset variable of a script would open the queue to every network
        raise BadInputError("the address to listen on is empty", where="host", hint="127.0.0.1, or 0.0.0.0 for all")
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
    except OSError as error:
        raise UnavailableError(f"cannot listen there: {error.strerror}", where=f"{host}:{port}") from error
    return sock


@dataclass(frozen=True)
class Tls:
    """A certificate chain and its private key, PEM files."""

    certificate: Path
    key: Path


def address_of(sock: socket.socket, tls: Tls | None = None) -> str:
    """`http://HOST:PORT`, or `https://…`."""
    host, port = sock.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _server(app: FastAPI, tls: Tls | None = None) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise TlsError("the certificate and key cannot be used", hint="PEM files that belong together") from error
    return uvicorn.Server(config)


def serve(app: FastAPI, sock: socket.socket, tls: Tls | None = None) -> None:
    """Serve until interrupted; requests under way are finished. Raises TlsError."""
    _server(app, tls).run(sockets=[sock])


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve on a free port of loopback in a thread; gives the address."""
    sock = listen("127.0.0.1", 0)
    server = _server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="review queue", daemon=True)
    thread.start()
    try:
        pause = threading.Event()
        for _ in range(START_SECONDS * 100):
            if server.started:
                break
            pause.wait(0.01)
        else:
            raise UnavailableError("the server did not start", where=address_of(sock))
        yield address_of(sock)
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        sock.close()
