"""An httpx transport over asyncio protocols and the httptools parser: HTTP/1.1, pooled, safe to cancel anywhere.

httpx stays the vocabulary (requests, responses, timeouts, errors). httpcore, which it uses by itself, costs hundreds of
microseconds per event, scans its whole pool per request, and loses a place in it with every early cancel.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, cast

import httptools
import httpx

_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024
_NO_BODY = (204, 304)

Origin = tuple[str, str, int]  # scheme, host, port


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: PooledTransport, origin: Origin) -> None:
        self.origin = origin
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._error: httpx.TransportError | None = None
        self._idle = True
        self._reset(b"")

    def _reset(self, method: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # Both lengths in one answer: the transfer encoding wins (RFC 9112, 6.3).
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)
        self._method = method
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._has_head = False
        self._framed = False
        self._complete = False
        self._reusable = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._reusable = False
        self._pool.forget(self)
        self._writable.set()
        if self._has_head and not self._framed and exc is None:
            self._complete = True  # the end of the connection is the end of the body
        elif not self._complete and self._error is None:
            self._error = httpx.RemoteProtocolError("the provider closed the connection")
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._idle:
            self.abort()  # an answer to nothing
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(httpx.RemoteProtocolError("the provider switched protocols"))
        except httptools.HttpParserError as exc:
            self._fail(httpx.RemoteProtocolError(str(exc)))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # a trailer is not passed on
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
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
        self._wake()

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self._has_head and not self._complete:
            self._reusable = self._parser.should_keep_alive()
            self._complete = True
            self._wake()

    # What a request calls.

    async def send(self, method: bytes, data: bytes, timeouts: dict[str, float]) -> None:
        """Send a request and wait for the answer's head."""
        self._reset(method)
        self._idle = False
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is None:
            raise httpx.RemoteProtocolError("the provider closed the connection")
        self._transport.write(data)
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(timeouts.get("write")):
                    await self._writable.wait()
            except TimeoutError:
                raise httpx.WriteTimeout("the request could not be sent in time") from None
        while not self._has_head:
            await self._wait(timeouts.get("read"))

    async def chunks(self, timeouts: dict[str, float]) -> AsyncIterator[bytes]:
        """The body as it comes; httpx.ReadTimeout, or what broke it off."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._buffered -= len(chunk)
                if self._paused and self._buffered < _LOW_WATER and self._transport is not None:
                    self._paused = False
                    self._transport.resume_reading()
                yield chunk
            if self._complete:
                return
            await self._wait(timeouts.get("read"))

    def release(self, keep_alive: float) -> bool:
        """The request is over. Whether the connection can take another; else it is closed."""
        if self._complete and self._reusable and not self._chunks and self._transport is not None:
            self._idle = True
            self._expiry = self._loop.call_later(keep_alive, self.abort)
            return True
        self.abort()
        return False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, timeout: float | None) -> None:
        """Until something has happened; raises what had gone wrong before."""
        if self._error is not None:
            raise self._error
        waiter = self._waiter = self._loop.create_future()
        timer = None if timeout is None else self._loop.call_later(timeout, self._time_out)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _time_out(self) -> None:
        self._fail(httpx.ReadTimeout("the provider sent nothing in time"))

    def _fail(self, error: httpx.TransportError) -> None:
        if self._error is None and not self._complete:
            self._error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Body(httpx.AsyncByteStream):
    """The body of an answer; closing it gives the connection back, or up."""

    def __init__(self, pool: PooledTransport, connection: Connection, timeouts: dict[str, float]) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._timeouts = timeouts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._connection is not None:
            async for chunk in self._connection.chunks(self._timeouts):
                yield chunk

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)


class PooledTransport(httpx.AsyncBaseTransport):
    """Connections to any number of origins, at most `connections` in use at once."""

    def __init__(self, tls: ssl.SSLContext, connections: int, keep_alive: float) -> None:
        self._tls = tls
        self._keep_alive = keep_alive
        self._free = asyncio.Semaphore(connections)
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._all)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; returns with the answer's head. Raises httpx.TransportError; may be cancelled."""
        timeouts: dict[str, float] = request.extensions.get("timeout", {})
        body = await request.aread()
        try:
            async with asyncio.timeout(timeouts.get("pool")):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("all connections to the provider are in use") from None
        connection: Connection | None = None
        try:
            connection = await self._connection(request.url, timeouts)
            await connection.send(request.method.encode(), _head(request) + body, timeouts)
        except BaseException:  # cancelled, too: what is on the connection then is nobody's answer
            if connection is not None:
                connection.abort()
            self._free.release()
            raise
        stream = _Body(self, connection, timeouts)
        return httpx.Response(connection.status, headers=connection.headers, stream=stream)

    async def aclose(self) -> None:
        for connection in list(self._all):
            connection.abort()

    def give_back(self, connection: Connection) -> None:
        """A request on this connection is over."""
        self._free.release()
        if connection.release(self._keep_alive):
            self._idle.setdefault(connection.origin, []).append(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._all.discard(connection)
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)

    async def _connection(self, url: httpx.URL, timeouts: dict[str, float]) -> Connection:
        tls = url.scheme == "https"
        origin = (url.scheme, url.host, url.port or (443 if tls else 80))
        idle = self._idle.get(origin)
        if idle:
            return idle.pop()  # the one used last: the others may expire
        options: dict[str, Any] = {"ssl": self._tls, "server_hostname": url.host} if tls else {}
        try:
            async with asyncio.timeout(timeouts.get("connect")):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self, origin), url.host, origin[2], **options
                )
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection to the provider in time") from None
        except (OSError, UnicodeError) as exc:
            raise httpx.ConnectError(str(exc)) from exc
        self._all.add(connection)
        return connection


def _head(request: httpx.Request) -> bytes:
    target = request.extensions.get("target") or request.url.raw_path
    lines = [request.method.encode() + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n"
