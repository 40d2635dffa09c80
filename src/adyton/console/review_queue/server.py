"""The review queue on a socket, until interrupted or for the length of a `with` block."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from adyton.kernel.errors import UnavailableError

START_SECONDS = 20


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises UnavailableError if the address cannot be had."""
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
    except OSError as error:
        raise UnavailableError(f"cannot listen there: {error.strerror}", where=f"{host}:{port}") from error
    return sock


def address_of(sock: socket.socket) -> str:
    """`http://HOST:PORT`."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(app: FastAPI) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5)
    )


def serve(app: FastAPI, sock: socket.socket) -> None:
    """Serve until interrupted; requests under way are finished."""
    _server(app).run(sockets=[sock])


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
