"""New connections to the providers: their addresses, and Happy Eyeballs (RFC 8305), which uvloop lacks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import aiohappyeyeballs

from shared.runtime.sockets import keep_alive

_DELAY = 0.25  # seconds before the next address is tried beside the last one (RFC 8305, 5)
_REMEMBERED = 5.0  # seconds for which a lookup holds for connections that exist

Place = tuple[str, int]  # host, port
AddressInfo = tuple[int, int, int, str, Any]  # as getaddrinfo gives it
ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


class Dialer:
    """Connects to providers by name. A name is looked up anew for every connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext) -> None:
        self._loop = loop
        self._tls = tls
        self._known: dict[Place, tuple[float, set[str]]] = {}

    async def connect(self, make: Callable[[], ProtocolT], place: Place, *, secure: bool) -> ProtocolT:
        """A protocol on a new connection. OSError, UnicodeError (a name that cannot be encoded), ssl.SSLError."""
        found = await self._lookup(place)
        connection = await aiohappyeyeballs.start_connection(
            found, happy_eyeballs_delay=_DELAY, loop=self._loop, socket_factory=_socket
        )
        options: dict[str, Any] = {"ssl": self._tls, "server_hostname": place[0]} if secure else {}
        return (await self._loop.create_connection(make, sock=connection, **options))[1]

    async def moved(self, place: Place, address: str) -> bool:
        """Whether a name no longer has an address that it once had. Where it cannot be looked up, it has not moved."""
        when, addresses = self._known.get(place, (0.0, set[str]()))
        if not addresses or self._loop.time() - when > _REMEMBERED:
            try:
                await self._lookup(place)
            except OSError:
                return False
            addresses = self._known[place][1]
        return address not in addresses

    async def _lookup(self, place: Place) -> list[AddressInfo]:
        host, port = place
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        self._known[place] = self._loop.time(), {str(info[4][0]) for info in found}
        return list(found)


def _socket(address: AddressInfo) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    keep_alive(made)
    return made
