"""The connections to one provider: reused, bounded, and closed when they expire. Cancelling is safe anywhere.

A connection that is old is used on only while the provider's name still has its address (decision 57).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

import httpx

from services.gateway.upstream.connection import Body, ClosedEarly, Connection, Origin, Timeouts, Unheard
from services.gateway.upstream.dialer import Dialer
from services.gateway.upstream.parser import Header
from services.gateway.upstream.tls import ResumingContext

# One ticker counts every connection's silence, so that a read needs no timer and no clock. Limits hold to a tick.
TICK_SECONDS = 0.25


class Ages(NamedTuple):
    """Seconds for which connections are kept."""

    idle: float  # then they are closed
    name: float  # then the provider's name is looked up again before they are used


class Pool:
    """Connections to any number of origins, at most `connections` in use at once."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        connections: int,
        ages: Ages,
        *,
        tick: float = TICK_SECONDS,
        dialer: Dialer | None = None,
    ) -> None:
        """To be made within the running loop. `tick` in seconds."""
        self.loop = asyncio.get_running_loop()
        self.tick = tick
        self._tls = tls
        self._ages = ages
        self._aging = ages.name / tick  # ticks
        self._dialer = dialer or Dialer(self.loop, tls)
        self._free = asyncio.Semaphore(connections)
        self._idle: dict[Origin, dict[Connection, None]] = {}
        self._all: dict[Connection, int] = {}  # with the tick at which its address was that of the name
        self._ticker: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._retired = False

    def __len__(self) -> int:
        return len(self._all)

    async def open(
        self, origin: Origin, method: bytes, head: bytes, body: Body, timeouts: Timeouts, *, fresh: bool = False
    ) -> Connection:
        """Send a request, and wait for the head of its answer. `head` has its empty line. `release` ends it.

        `fresh`: on a new connection. httpx.TransportError where it fails; Unheard where it may have failed for the age
        of the connection alone. May be cancelled.
        """
        await self._enter(timeouts)
        connection = None
        reused = False
        try:
            # What can be sent only once does not go where a provider may just be closing.
            if not fresh and isinstance(body, bytes):
                connection = self._idle_one(origin)
                if connection is not None and self._ticks - self._all[connection] >= self._aging:
                    connection = await self._checked(connection, timeouts)
                reused = connection is not None
            if connection is None:
                connection = await self._connect(origin, timeouts)
            await connection.send(method, head, body, timeouts)
        except BaseException as exc:  # a cancelled request, too, leaves an answer that nobody reads
            if connection is not None:
                connection.abort()
            self._free.release()
            closed = isinstance(exc, (ClosedEarly, httpx.NetworkError))
            if closed and reused and connection is not None and connection.unheard:
                raise Unheard("an idle connection was closed") from exc
            raise
        return connection

    def close(self) -> None:
        """Abort every connection."""
        for connection in list(self._all):
            connection.abort()

    def retire(self) -> None:
        """Keep no connection from now on: idle ones are closed at once, the others after their request."""
        self._retired = True
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.abort()

    # What a connection calls.

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """The request on a connection is over."""
        self._free.release()
        if reusable and self._retired:
            connection.abort()
        elif reusable:
            connection.expire_after(self._ages.idle)
            self._idle.setdefault(connection.origin, {})[connection] = None

    def remember(self, host: str, transport: asyncio.Transport) -> None:
        """Keep the TLS session of a connection for the next one to its host."""
        connection = transport.get_extra_info("ssl_object")
        if isinstance(self._tls, ResumingContext) and connection is not None:
            self._tls.remember(host, connection)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._all.pop(connection, None)
        self._idle.get(connection.origin, {}).pop(connection, None)

    async def _enter(self, timeouts: Timeouts) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(timeouts.get("pool")):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("all connections to the provider are in use") from None

    def _idle_one(self, origin: Origin) -> Connection | None:
        """The idle connection that was used last, so that the others may expire; None where there is none."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.popitem()[0]
            if connection.usable:
                return connection
        return None

    async def _checked(self, connection: Connection, timeouts: Timeouts) -> Connection | None:
        """An idle connection whose address is still that of the name: this one, else another; None where none is."""
        found: Connection | None = connection
        while found is not None and self._ticks - self._all[found] >= self._aging:
            if await self._stays(found, timeouts):
                return found
            found = self._idle_one(connection.origin)
        return found

    async def _stays(self, connection: Connection, timeouts: Timeouts) -> bool:
        """Whether the provider's name still has the address of an old connection, which is closed where it has not."""
        try:
            async with asyncio.timeout(timeouts.get("connect")):
                moved = await self._dialer.moved(connection.origin[1:], connection.address)
        except TimeoutError:
            moved = False
        except BaseException:
            connection.abort()
            raise
        if moved:
            connection.abort()
        elif connection.usable:
            self._all[connection] = self._ticks
        return not moved and connection.usable

    async def _connect(self, origin: Origin, timeouts: Timeouts) -> Connection:
        try:
            async with asyncio.timeout(timeouts.get("connect")):
                connection = await self._dialer.connect(
                    lambda: Connection(self, origin), origin[1:], secure=origin[0] == "https"
                )
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection to the provider in time") from None
        except (OSError, UnicodeError) as exc:
            raise httpx.ConnectError(str(exc)) from exc
        if connection.usable:  # it may be lost already
            self._all[connection] = self._ticks
        if self._ticker is None:
            self._ticker = self.loop.call_later(self.tick, self._tick)
        return connection

    def _tick(self) -> None:
        self._ticks += 1
        for connection in list(self._all):
            connection.tick()
        self._ticker = self.loop.call_later(self.tick, self._tick) if self._all else None


def request_head(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """The request line and headers, with the empty line that ends them."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
