"""New connections: several addresses of one name, names that move, and options of the socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from services.gateway.upstream.dialer import Dialer
from shared.runtime.sockets import keep_alive_options
from tests.support.serving import serving

TLS = cast("ssl.SSLContext", None)  # nothing here is secure


class Names:
    """The running loop with names and a clock of its own."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: list[str] | OSError = list(addresses)
        self.lookups = 0
        self.now = 100.0
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self.now

    async def getaddrinfo(self, host: str, port: int, **options: int) -> list[Any]:
        assert (host, options["type"]) == ("provider.test", socket.SOCK_STREAM)
        self.lookups += 1
        if isinstance(self.addresses, OSError):
            raise self.addresses
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


class Watching(asyncio.Protocol):
    """A connection that keeps its transport."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


def dialer(names: Names) -> Dialer:
    return Dialer(cast("asyncio.AbstractEventLoop", names), TLS)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].removesuffix("/x"))


@contextmanager
def black_hole(address: str, port: int) -> Iterator[None]:
    """An address that swallows what is sent to it: the queue of its listener is full."""
    with socket.socket() as listener:
        listener.bind((address, port))
        listener.listen(0)
        held = []
        for _ in range(3):
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex((address, port))
        yield
        for one in held:
            one.close()


async def connected(names: Names, port: int) -> Watching:
    return await dialer(names).connect(Watching, ("provider.test", port), secure=False)


async def test_an_address_that_swallows_everything_keeps_nobody_waiting() -> None:
    async with serving(silent) as url:
        port = port_of(url)
        with black_hole("127.0.0.2", port):
            made = await connected(Names("127.0.0.2", "127.0.0.1"), port)
        assert made.transport.get_extra_info("peername")[0] == "127.0.0.1"
        made.transport.abort()


async def test_an_address_that_refuses_is_passed_over_and_the_last_one_tells_why() -> None:
    async with serving(silent) as url:
        made = await connected(Names("127.0.0.2", "127.0.0.1"), port_of(url))
        assert made.transport.get_extra_info("peername")[0] == "127.0.0.1"
        made.transport.abort()
    with pytest.raises(OSError, match=r"(?i)refused|connect call failed"):
        await connected(Names("127.0.0.2", "127.0.0.3"), 9)


async def test_a_connection_is_kept_alive_by_the_kernel_and_not_held_back() -> None:
    async with serving(silent) as url:
        made = await connected(Names("127.0.0.1"), port_of(url))
        options = made.transport.get_extra_info("socket")
        for level, name, value in (*keep_alive_options(), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)):
            assert options.getsockopt(level, name) == value
        made.transport.abort()


async def test_cancelling_leaves_no_socket() -> None:
    async with serving(silent) as url:
        port = port_of(url)
        with black_hole("127.0.0.2", port):
            task = asyncio.get_running_loop().create_task(connected(Names("127.0.0.2"), port))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):  # an open socket would be a warning, and fail the test
                await task


async def test_a_name_has_moved_once_it_no_longer_has_the_address() -> None:
    names = Names("192.0.2.1", "192.0.2.2")
    made, place = dialer(names), ("provider.test", 443)
    assert not await made.moved(place, "192.0.2.2")
    names.addresses = ["192.0.2.1"]
    assert not await made.moved(place, "192.0.2.2")  # just looked up
    assert names.lookups == 1
    names.now += 6
    assert await made.moved(place, "192.0.2.2")
    assert not await made.moved(place, "192.0.2.1")
    assert names.lookups == 2


async def test_a_name_that_cannot_be_looked_up_has_not_moved() -> None:
    names = Names("192.0.2.1")
    made, place = dialer(names), ("provider.test", 443)
    assert not await made.moved(place, "192.0.2.1")
    names.now += 6
    names.addresses = socket.gaierror(-3, "Temporary failure in name resolution")
    assert not await made.moved(place, "192.0.2.1")
