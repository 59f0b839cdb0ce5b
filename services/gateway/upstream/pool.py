"""The connections to one provider: reused, bounded, and closed when they expire. Cancelling is safe anywhere."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpx

from services.gateway.upstream.connection import Body, Connection, Origin, Timeouts
from services.gateway.upstream.parser import Header
from services.gateway.upstream.tls import ResumingContext

# One ticker counts every connection's silence, so that a read needs no timer and no clock. Limits hold to a tick.
TICK_SECONDS = 0.25


class Pool:
    """Connections to any number of origins, at most `connections` in use at once."""

    def __init__(self, tls: ssl.SSLContext, connections: int, keep_alive: float, *, tick: float = TICK_SECONDS) -> None:
        """To be made within the running loop. `keep_alive` and `tick` in seconds."""
        self.loop = asyncio.get_running_loop()
        self.tick = tick
        self._tls = tls
        self._keep_alive = keep_alive
        self._free = asyncio.Semaphore(connections)
        self._idle: dict[Origin, dict[Connection, None]] = {}
        self._all: set[Connection] = set()
        self._ticker: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    async def open(self, origin: Origin, method: bytes, head: bytes, body: Body, timeouts: Timeouts) -> Connection:
        """Send a request, and wait for the head of its answer. `head` has its empty line. `release` ends it.

        httpx.TransportError where it fails; may be cancelled.
        """
        await self._enter(timeouts)
        connection: Connection | None = None
        try:
            # What can be sent only once does not go where a provider may just be closing.
            idle = self._idle_one(origin) if isinstance(body, bytes) else None
            connection = idle or await self._connect(origin, timeouts)
            await connection.send(method, head, body, timeouts)
        except BaseException:  # a cancelled request, too, leaves an answer that nobody reads
            if connection is not None:
                connection.abort()
            self._free.release()
            raise
        return connection

    def close(self) -> None:
        """Abort every connection."""
        for connection in list(self._all):
            connection.abort()

    # What a connection calls.

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """The request on a connection is over."""
        self._free.release()
        if reusable:
            connection.expire_after(self._keep_alive)
            self._idle.setdefault(connection.origin, {})[connection] = None

    def remember(self, host: str, transport: asyncio.Transport) -> None:
        """Keep the TLS session of a connection for the next one to its host."""
        connection = transport.get_extra_info("ssl_object")
        if isinstance(self._tls, ResumingContext) and connection is not None:
            self._tls.remember(host, connection)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._all.discard(connection)
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

    async def _connect(self, origin: Origin, timeouts: Timeouts) -> Connection:
        scheme, host, port = origin
        options: dict[str, Any] = {"ssl": self._tls, "server_hostname": host} if scheme == "https" else {}
        try:
            async with asyncio.timeout(timeouts.get("connect")):
                made = await self.loop.create_connection(lambda: Connection(self, origin), host, port, **options)
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection to the provider in time") from None
        except (OSError, UnicodeError) as exc:
            raise httpx.ConnectError(str(exc)) from exc
        connection = made[1]
        self._all.add(connection)
        if self._ticker is None:
            self._ticker = self.loop.call_later(self.tick, self._tick)
        return connection

    def _tick(self) -> None:
        for connection in list(self._all):
            connection.tick()
        self._ticker = self.loop.call_later(self.tick, self._tick) if self._all else None


def request_head(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """The request line and headers, with the empty line that ends them."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
