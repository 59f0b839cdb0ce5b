"""One connection to a provider: an asyncio protocol around `ResponseParser` (decision 14).

`push` calls its sink for every read, in the read's own turn of the loop (decision 19). Timeouts and errors are httpx's,
so that one table translates those of this path and of the pulled one (`errors.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, cast

import httpx

from services.gateway.upstream.parser import ResponseParser, State
from services.gateway.upstream.switching import Switchboard, Switched

_HIGH_WATER = 256 * 1024
# Below this, one write of head and body is cheaper than two; above it, copying the body costs more.
_JOIN_BYTES = 64 * 1024
# A server that closes an idle connection does so within a round trip of the request. Later it may have worked for it.
_RACE_SECONDS = 1.0
_FLUSH_SECONDS = 10.0
# Looking up a member of an enum is slow in Python 3.11, and every read does it.
_IDLE: Final = State.IDLE
_BETWEEN_CHUNKS: Final = State.BETWEEN_CHUNKS
_DONE: Final = State.DONE
_BROKEN: Final = State.BROKEN

Origin = tuple[str, str, int]  # scheme, host, port
Timeouts = dict[str, float]  # httpx's: connect, pool, write, read; seconds
Sink = Callable[[bytes], None]


class Source(Protocol):
    """A request's body that comes bit by bit, and limits its own silence."""

    @property
    def length(self) -> int | None:
        """Of the whole body; None where it goes in chunks."""

    @property
    def ended(self) -> bool:
        """Whether all of it was taken."""

    def take(self) -> bytes | None:
        """The next bytes; b"" at the end, None where more must come first."""

    def tell(self, changed: Callable[[], None]) -> None:
        """Call `changed` when `take` has something."""

    async def read(self) -> bytes:
        """The next bytes, once they are here; b"" at the end."""


Body = bytes | Source


class ClosedEarly(httpx.RemoteProtocolError):
    """The provider closed the connection before the answer's end."""


class Unheard(httpx.TransportError):
    """A connection that had been idle was closed before a byte of the answer came: the provider closed it as the
    request went out. Its cause is the error."""


class BadAnswer(httpx.RemoteProtocolError):
    """Bytes that are no answer. `str()` says why, in words of ours or of httptools."""


class Owner(Protocol):
    """The pool, as a connection sees it. `tick`: seconds between two ticks."""

    loop: asyncio.AbstractEventLoop
    tick: float

    def give_back(self, connection: Connection, *, reusable: bool) -> None: ...

    def remember(self, host: str, transport: asyncio.Transport) -> None: ...

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = (
        "_early",
        "_error",
        "_limit",
        "_owner",
        "_paused",
        "_quiet",
        "_sink",
        "_transport",
        "_waiter",
        "_writable",
        "origin",
        "parser",
    )

    def __init__(self, owner: Owner, origin: Origin, parser: ResponseParser | None = None) -> None:
        """`parser`: in place of the usual one."""
        self.origin = origin
        self.parser = parser or ResponseParser()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._early = b""  # body bytes from before there was a sink
        self._error: Exception | None = None
        self._writable = True
        self._paused = False
        self._quiet = 0  # ticks since the last read, or since `_wait` began
        self._limit = math.inf  # ticks

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.forget(self)
        if exc is None:
            self.parser.close()
        if not self.parser.complete and self._error is None:
            self._error = ClosedEarly(self.parser.fault) if exc is None else httpx.ReadError(str(exc))
            self._error.__cause__ = exc
        self._wake()

    def data_received(self, data: bytes) -> None:
        body = self.parser.feed(data)
        if self._sink is None:
            self._early += body
            if len(self._early) > _HIGH_WATER:
                self.pause()
        else:
            self._quiet = 0  # not while a head comes: its limit is for the whole of it
            try:
                if body:
                    self._sink(body)
            except Exception as exc:  # noqa: BLE001  # `push` raises it to its caller
                self._abandon(exc)
            if self.parser.state is _BETWEEN_CHUNKS:
                return  # the usual case within a stream
        if self.parser.state is _BROKEN:
            self._fail(BadAnswer(self.parser.fault))
        elif self.parser.complete or (self._sink is None and self.parser.status):
            self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    # What a request calls.

    async def send(self, method: bytes, head: bytes, body: Body, timeouts: Timeouts) -> None:
        """Send a request and wait for the answer's head."""
        self.parser.begin(method)
        if self._transport is None:
            raise ClosedEarly("the provider closed the connection")
        if not isinstance(body, bytes):
            self._transport.write(head)
            await self._send_as_it_comes(body, timeouts)
        elif len(body) < _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        while not self._writable and not self.parser.status:
            await self._wait(timeouts.get("write"))
        while not self.parser.status:
            await self._wait(timeouts.get("read"))

    async def _send_as_it_comes(self, source: Source, timeouts: Timeouts) -> None:
        """Send a body to its end, or until the provider answers."""
        while not self.parser.status:
            part = source.take() if self._writable and self._error is None else None
            if part is not None and self._transport is not None:
                self._transport.write(part if source.length is not None else b"%x\r\n%b\r\n" % (len(part), part))
                if not part:
                    return
            elif self._writable:
                source.tell(self._wake)
                await self._wait(None)
            else:
                await self._wait(timeouts.get("write"))

    @property
    def usable(self) -> bool:
        """Whether a request can be sent: the connection is not closing."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unheard(self) -> bool:
        """Whether no byte of an answer has come, and the request went out less than a second ago."""
        return not self.parser.heard and self._quiet < _RACE_SECONDS / self._owner.tick

    @property
    def address(self) -> str:
        """The address of the other end; "" once it is closed."""
        return str(self._transport.get_extra_info("peername")[0]) if self._transport is not None else ""

    def take(self) -> bytes:
        """Body bytes that came before there was a sink."""
        body, self._early = self._early, b""
        return body

    async def beginning(self, most: int, seconds: float) -> bytes:
        """As `Answer.beginning`, before there is a sink."""
        with suppress(TimeoutError, httpx.TransportError):  # `push` raises what has broken the body off
            async with asyncio.timeout(seconds):
                while not self.parser.complete and len(self._early) < most:
                    await self._wait(None)
        return self._early[:most]

    async def push(self, sink: Sink, idle_timeout: float | None) -> None:
        """Call `sink` with the body bytes of every read until the body ends; the sink may `pause` and `resume`.

        Raises httpx.ReadTimeout, the httpx error that broke the body off, or the exception of `sink`.
        """
        self._sink = sink
        self.resume()  # it may be paused because it had no sink; the sink may pause it again
        try:
            if self._early:
                sink(self.take())
            while not self.parser.complete:
                await self._wait(idle_timeout)
            if self._error is not None:
                raise self._error
        finally:
            self._sink = None

    def switch(self, board: Switchboard) -> Switched:
        """The provider has switched protocols: `board` gets every byte from now on, and at once those that are here."""
        switched = Switched(self._transport, self.connection_lost, board)
        if self._early:
            board.came(self.take())
        if self._transport is None:  # it has said what it had to say
            self._owner.loop.call_soon(board.provider_gone, self._error)
        else:
            self._transport.set_protocol(switched)
            self.resume()
        return switched

    def pause(self) -> None:
        """Stop reading. Meanwhile silence does not count."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._quiet = 0
            self._transport.resume_reading()

    def release(self) -> None:
        """The request is over: give the connection back to the pool, or close it where it cannot take another."""
        transport = self._transport
        if transport is not None and self.origin[0] == "https":
            self._owner.remember(self.origin[1], transport)
        reusable = self.parser.state is _DONE and transport is not None and not transport.is_closing()
        if reusable:
            self.parser.rest()
            self._early = b""
            self.resume()
        else:
            self.abort()
        self._owner.give_back(self, reusable=reusable)

    def leave(self) -> None:
        """Give the connection up. A provider that it was switched with may read what it was sent, for a while."""
        if self._transport is not None:
            self._transport.close()
            self._owner.loop.call_later(_FLUSH_SECONDS, self._transport.abort)
        self._owner.give_back(self, reusable=False)

    def expire_after(self, seconds: float) -> None:
        """Abort the connection if it is not used within `seconds`."""
        self._quiet = 0
        self._limit = seconds / self._owner.tick

    def abort(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self._transport is not None:
            self._transport.abort()

    def tick(self) -> None:
        """A tick has passed: end a silence that is too long."""
        idle = self.parser.state is _IDLE
        if self._paused or not (idle or self._waiter):
            return
        self._quiet += 1
        if self._quiet <= self._limit:
            return
        if idle:
            self.abort()
        elif self._writable:
            self._fail(httpx.ReadTimeout("the provider sent nothing in time"))
        else:
            self._fail(httpx.WriteTimeout("the request could not be sent in time"))

    async def _wait(self, timeout: float | None) -> None:
        """Wait for the next event. Raises the error of the connection, if it has one."""
        if self._error is not None:
            raise self._error
        self._quiet = 0
        self._limit = math.inf if timeout is None else timeout / self._owner.tick
        waiter = self._waiter = self._owner.loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _abandon(self, error: Exception) -> None:
        """End with the exception of the sink, even where the answer is complete."""
        self._sink = None
        self._error = error
        self.abort()
        self._wake()

    def _fail(self, error: Exception) -> None:
        if self._error is None and not self.parser.complete:
            self._error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
