"""An httpx transport over asyncio protocols and the httptools parser: HTTP/1.1, pooled, safe to cancel anywhere.

httpx stays the vocabulary (timeouts, errors; any httpx client can use this transport). The relay takes the short way:
`open` gives it the connection, and `push` calls its sink for every read, within the read's own turn of the loop.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httptools
import httpx

from services.gateway.upstream.tls import ResumingContext

_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024
_NO_BODY = (204, 304)
_CHUNK = re.compile(rb"(0{0,7}[1-9a-fA-F][0-9a-fA-F]{0,7})\r\n")  # the start of a chunk that is not the last
# One ticker counts every connection's silence, so that no read needs a timer or a clock. Limits are kept to a tick.
_TICK_SECONDS = 0.25
# Below it one write of head and body together is cheaper than two; above it a copy of the body is dearer.
_JOIN_BYTES = 64 * 1024

Origin = tuple[str, str, int]  # scheme, host, port
Timeouts = dict[str, float]  # httpx's: connect, pool, write, read; seconds


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = (
        "_between_chunks",
        "_buffered",
        "_chunks",
        "_complete",
        "_error",
        "_framed",
        "_has_head",
        "_idle",
        "_limit",
        "_loop",
        "_method",
        "_parser",
        "_paused",
        "_pool",
        "_quiet",
        "_reusable",
        "_sink",
        "_surplus",
        "_transport",
        "_waiter",
        "_writable",
        "headers",
        "origin",
        "status",
    )

    def __init__(self, pool: PooledTransport, origin: Origin) -> None:
        self.origin = origin
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = True
        self._idle = True
        self._quiet = 0  # ticks since the last read, or since somebody began to wait
        self._limit = math.inf  # ticks
        self._parser = httptools.HttpResponseParser(self)
        # Both lengths in one answer: the transfer encoding wins (RFC 9112, 6.3).
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)
        self._reset(b"")

    def _reset(self, method: bytes) -> None:
        self._method = method
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._error: Exception | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._sink: Callable[[bytes], None] | None = None
        self._has_head = False
        self._framed = False
        self._complete = False
        self._reusable = False
        self._surplus = False
        self._between_chunks = False  # as far as the callbacks of the parser tell

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._reusable = False
        self._pool.forget(self)
        if self._has_head and not self._framed and exc is None and self._error is None:
            self._complete = True  # the end of the connection is the end of the body
        elif not self._complete and self._error is None:
            self._error = httpx.RemoteProtocolError("the provider closed the connection")
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._quiet = 0
        if self._between_chunks and self._sink is not None:
            size = _CHUNK.match(data)
            if size is not None and size.end() + int(size[1], 16) + 2 == len(data) and data.endswith(b"\r\n"):
                # Most reads are one whole chunk. The parser stands before a chunk, and still does when it is left out.
                self._push(data[size.end() : -2])
                return
        if self._idle:
            self.abort()  # an answer to nothing
            return
        self._between_chunks = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(httpx.RemoteProtocolError("the provider switched protocols"))
        except httptools.HttpParserError as exc:
            self._fail(httpx.RemoteProtocolError(str(exc)))
        # What is behind the last chunk and ends a line would have called `on_chunk_header`.
        self._between_chunks = self._between_chunks and data.endswith(b"\r\n")
        if self._sink is not None:
            self._deliver()
            if not self._complete:
                return
        elif self._buffered > _HIGH_WATER:
            self.pause()
        self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True  # a second answer to one question

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # a trailer is not passed on
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []  # an interim answer; the real one follows, but for 101, which the parser raises
            return
        self.status = status
        self._has_head = True
        names = {name.lower() for name, _ in self.headers}
        bodiless = self._method == b"HEAD" or status in _NO_BODY
        self._framed = bodiless or b"content-length" in names or b"transfer-encoding" in names
        if bodiless:
            # The parser does not know what was asked, and would wait for a body.
            self._reusable = self._method != b"HEAD" and self._parser.should_keep_alive()
            self._complete = True

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = not self._complete

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._has_head and not self._complete:
            self._reusable = self._parser.should_keep_alive()
            self._complete = True

    # What a request calls.

    async def send(self, method: bytes, head: bytes, body: bytes, timeouts: Timeouts) -> None:
        """Send a request and wait for the answer's head."""
        self._reset(method)
        self._idle = False
        if self._transport is None:
            raise httpx.RemoteProtocolError("the provider closed the connection")
        if len(body) < _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        while not self._writable and not self._has_head:
            await self._wait(timeouts.get("write"))
        while not self._has_head:
            await self._wait(timeouts.get("read"))

    @property
    def usable(self) -> bool:
        """Whether a request can still be sent: it may be closing already."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def complete(self) -> bool:
        """Whether the whole body has come."""
        return self._complete

    def take(self) -> bytes:
        """The body bytes that have come and were not taken yet."""
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        return body

    async def push(self, sink: Callable[[bytes], None], idle_timeout: float | None) -> None:
        """Call `sink` with the body bytes of every read until the body ends; it may `pause` and `resume` meanwhile.

        Raises httpx.ReadTimeout, what broke the body off, or what `sink` raised.
        """
        self._sink = sink
        self.resume()  # it may have been paused for want of a sink; the sink pauses it again if it must
        try:
            self._deliver()
            while not self._complete:
                await self._wait(idle_timeout)
            if self._error is not None:
                raise self._error
        finally:
            self._sink = None

    async def chunks(self, timeouts: Timeouts) -> AsyncIterator[bytes]:
        """The body as it comes; httpx.ReadTimeout, or what broke it off."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._buffered -= len(chunk)
                if self._buffered < _LOW_WATER:
                    self.resume()
                yield chunk
            if self._complete and self._error is None:
                return
            await self._wait(timeouts.get("read"))

    def pause(self) -> None:
        """Read no more: whoever takes the bytes has enough. Silence is not counted meanwhile."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._quiet = 0
            self._transport.resume_reading()

    def release(self) -> None:
        """The request is over: the connection goes back to the pool, or is closed where it cannot take another."""
        if self._transport is not None and self.origin[0] == "https":
            self._pool.remember(self.origin[1], self._transport)
        reusable = (
            self._complete
            and self._reusable
            and not (self._surplus or self._chunks or self._error)
            and self._transport is not None
            and not self._transport.is_closing()
        )
        if reusable:
            self._idle = True
            self._waiter = None
            self._error = None
            self.resume()
        else:
            self.abort()
        self._pool.give_back(self, reusable=reusable)

    def expire_after(self, seconds: float) -> None:
        """Close the connection if it is not used within this time."""
        self._quiet = 0
        self._limit = seconds / _TICK_SECONDS

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def tick(self) -> None:
        """A tick has passed."""
        if self._paused or not (self._idle or self._waiter):
            return
        self._quiet += 1
        if self._quiet <= self._limit:
            return
        if self._idle:
            self.abort()
        elif self._writable:
            self._fail(httpx.ReadTimeout("the provider sent nothing in time"))
        else:
            self._fail(httpx.WriteTimeout("the request could not be sent in time"))

    def _deliver(self) -> None:
        if self._chunks:
            self._push(self.take())

    def _push(self, body: bytes) -> None:
        if self._sink is not None:
            try:
                self._sink(body)
            except Exception as exc:  # noqa: BLE001  # the sink's own; it belongs to who pushes, not to the event loop
                self._sink = None
                self._complete = False
                self._fail(exc)

    async def _wait(self, timeout: float | None) -> None:
        """Until something has happened; raises what had gone wrong before."""
        if self._error is not None:
            raise self._error
        self._quiet = 0
        self._limit = math.inf if timeout is None else timeout / _TICK_SECONDS
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _fail(self, error: Exception) -> None:
        if self._error is None and not self._complete:
            self._error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Body(httpx.AsyncByteStream):
    """The body of an answer; closing it gives the connection back, or up."""

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self._connection: Connection | None = connection
        self._timeouts = timeouts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._connection is not None:
            async for chunk in self._connection.chunks(self._timeouts):
                yield chunk

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


class PooledTransport(httpx.AsyncBaseTransport):
    """Connections to any number of origins, at most `connections` in use at once."""

    def __init__(self, tls: ssl.SSLContext, connections: int, keep_alive: float) -> None:
        self._tls = tls
        self._keep_alive = keep_alive
        self._free = asyncio.Semaphore(connections)
        self._idle: dict[Origin, dict[Connection, None]] = {}
        self._all: set[Connection] = set()
        self._ticker: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    async def open(self, origin: Origin, method: bytes, head: bytes, body: bytes, timeouts: Timeouts) -> Connection:
        """Send a request, `head` with its empty line; returns with the answer's head, to be ended by `release`.

        Raises httpx.TransportError; may be cancelled.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(timeouts.get("pool")):
                    await self._free.acquire()
            except TimeoutError:
                raise httpx.PoolTimeout("all connections to the provider are in use") from None
        else:
            await self._free.acquire()
        connection: Connection | None = None
        try:
            idle = self._idle.get(origin)
            # The one used last: the others may expire.
            while idle and connection is None:
                candidate = idle.popitem()[0]
                connection = candidate if candidate.usable else None
            connection = connection or await self._connect(origin, timeouts)
            await connection.send(method, head, body, timeouts)
        except BaseException:  # cancelled, too: what is on the connection then is nobody's answer
            if connection is not None:
                connection.abort()
            self._free.release()
            raise
        return connection

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """httpx's own way in: the body comes by iterating the response."""
        timeouts: Timeouts = request.extensions.get("timeout", {})
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        target = request.extensions.get("target") or url.raw_path
        method = request.method.encode()
        connection = await self.open(
            origin, method, request_head(method, target, request.headers.raw), await request.aread(), timeouts
        )
        return httpx.Response(connection.status, headers=connection.headers, stream=_Body(connection, timeouts))

    async def aclose(self) -> None:
        for connection in list(self._all):
            connection.abort()

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """A request on this connection is over."""
        self._free.release()
        if reusable:
            connection.expire_after(self._keep_alive)
            self._idle.setdefault(connection.origin, {})[connection] = None

    def remember(self, host: str, transport: asyncio.Transport) -> None:
        """Keep the TLS session of a connection, for the next one to this host."""
        connection = transport.get_extra_info("ssl_object")
        if isinstance(self._tls, ResumingContext) and connection is not None:
            self._tls.remember(host, connection)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._all.discard(connection)
        self._idle.get(connection.origin, {}).pop(connection, None)

    async def _connect(self, origin: Origin, timeouts: Timeouts) -> Connection:
        scheme, host, port = origin
        options: dict[str, Any] = {"ssl": self._tls, "server_hostname": host} if scheme == "https" else {}
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeouts.get("connect")):
                _, connection = await loop.create_connection(lambda: Connection(self, origin), host, port, **options)
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection to the provider in time") from None
        except (OSError, UnicodeError) as exc:
            raise httpx.ConnectError(str(exc)) from exc
        self._all.add(connection)
        if self._ticker is None:
            self._ticker = loop.call_later(_TICK_SECONDS, self._tick)
        return connection

    def _tick(self) -> None:
        for connection in list(self._all):
            connection.tick()
        self._ticker = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick) if self._all else None


def request_head(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The request line and headers, with the empty line that ends them."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
