"""Addresses to listen at: what is none is refused before anything is bound, and no port is shared."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc
import pytest

from adyton.auction.collector import serve_collector
from adyton.auction.errors import ConfigError
from adyton.auction.services.listening import EXCLUSIVE_PORT, add_port, bind, host_and_port


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert host_and_port(address) == parts


@pytest.mark.parametrize("address", ["", "nonsense", ":80", "127.0.0.1:", "127.0.0.1:65536", "h:-1", "h:1.5", "h:٣"])
def test_what_is_no_address_is_refused_before_anything_is_bound(address: str) -> None:
    async def served() -> None:
        add_port(grpc.aio.server(), address)

    for listen in (lambda: host_and_port(address), lambda: bind(address), lambda: asyncio.run(served())):
        with pytest.raises(ConfigError, match="this is no address") as caught:
            listen()
        assert caught.value.where == address


def test_a_port_that_another_server_has_is_not_shared() -> None:
    async def second_server() -> None:
        first, second = (grpc.aio.server(options=(EXCLUSIVE_PORT,)) for _ in range(2))
        address = add_port(first, "127.0.0.1:0")
        await first.start()
        try:
            with pytest.raises(ConfigError, match="cannot be bound"):
                add_port(second, address)
        finally:
            await first.stop(None)

    asyncio.run(second_server())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="Address already in use"):
            bind(address)


def test_a_server_on_a_path_says_the_path(tmp_path: Path) -> None:
    async def listen() -> str:
        return add_port(grpc.aio.server(), f"unix:{tmp_path}/models.sock")

    assert asyncio.run(listen()) == f"unix:{tmp_path}/models.sock"


def test_a_collector_says_which_of_folder_and_address_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="the folder cannot be made") as caught:
        asyncio.run(serve_collector(tmp_path / "file" / "reports", "127.0.0.1:0", announce=print))
    assert caught.value.where == str(tmp_path / "file" / "reports")
    with pytest.raises(ConfigError, match="this is no address"):
        asyncio.run(serve_collector(tmp_path / "reports", "nonsense", announce=print))
