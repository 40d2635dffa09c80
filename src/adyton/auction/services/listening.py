"""Where a process listens: "host:port", checked before anything is bound, and never shared with another process."""

from __future__ import annotations

import socket

import grpc

from adyton.auction.errors import ConfigError

EXCLUSIVE_PORT = ("grpc.so_reuseport", 0)
"""For a server's options. By default a second gRPC server binds a taken port too, and the kernel deals the calls of
one service to both, whichever keys and code each of them has."""
_MAX_PORT = 65_535


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of "host:port", an IPv6 host without its brackets.

    Raises ConfigError unless the port is a number from 0 to 65535: gRPC takes larger ones for others without a word.
    """
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise ConfigError("this is no address", where=address, hint="host:port, such as 127.0.0.1:50051; port 0 is any")
    return host.removeprefix("[").removesuffix("]"), int(port)


def bind(address: str) -> socket.socket:
    """A listening TCP socket for "host:port"; port 0 lets the system choose.

    Raises ConfigError if it is none, or cannot be bound.
    """
    host, port = host_and_port(address)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise _unbound(address, error.strerror) from error
    listener.setblocking(False)
    return listener


def add_port(server: grpc.aio.Server, address: str) -> str:
    """Let a server with EXCLUSIVE_PORT listen at "host:port" or "unix:path"; gives back the address that it has.

    Raises ConfigError if it is none, or cannot be bound.
    """
    is_path = address.startswith("unix:")
    if not is_path:
        host_and_port(address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise _unbound(address, None) from error
    return address if is_path else f"{address.rpartition(':')[0]}:{port}"


def _unbound(address: str, reason: str | None) -> ConfigError:
    told = f" ({reason})" if reason else ""
    return ConfigError(f"the address cannot be bound{told}", where=address, hint="is it in use, and of this machine?")
