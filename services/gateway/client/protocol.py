"""The server side of HTTP/1.1: a client's connection, under uvicorn's server (decision 30).

uvicorn has the sockets, signals, lifespan and drain. It makes one object of the class that `protocol_class` returns for
each connection, and calls only its `shutdown`; we use only its `ServerState`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from services.gateway.client import response
from services.gateway.client.body_stream import BodyStream
from services.gateway.client.headers import Header
from services.gateway.client.parser import BadRequest, RequestParser
from services.gateway.client.request import ClientLeft, ClientRequest, Handler
from services.gateway.client.socket_writer import SocketWriter
from services.gateway.client.waiting import Awaits, Limits, Waiting
from shared.access.envelopes import error_body
from shared.contract.dialects import Family

log = logging.getLogger(__name__)


class ServerState(Protocol):
    """uvicorn's state. Its drain waits until both sets are empty; at the limit it cancels the tasks."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]


_MOST_WAITING = 16  # requests of one connection that are here and not begun


class Drain(Protocol):
    """Says whether the process is shutting down."""

    draining: bool


class ClientProtocol(asyncio.Protocol):
    """One connection: requests are answered one at a time, in order."""

    __slots__ = (
        "_drain",
        "_handler",
        "_held",
        "_loop",
        "_out",
        "_parser",
        "_queue",
        "_reading",
        "_server",
        "_unread",
        "_waiting",
    )

    _out: SocketWriter

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        drain: Drain,
        unread: Callable[[], None],
        server: ServerState,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`unread` is called when a connection is given up because its client does not read the rest of an answer."""
        self._handler = handler
        self._drain = drain
        self._server = server
        self._unread = unread
        self._loop = loop
        self._parser = RequestParser(self, limits.max_header_bytes, limits.max_header_lines)
        self._waiting = Waiting(loop, limits, self._timed_out)
        self._queue: deque[ClientRequest] = deque()  # not answered yet; the handler of the first one runs
        self._reading = True
        self._held = False  # the next request waits until the client has read

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out = SocketWriter(cast("asyncio.Transport", transport))  # uvloop's does not inherit from it
        self._server.connections.add(self)
        self._waiting.head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._waiting.close()
        self._parser.close()
        self._out.resume()
        requests, self._queue = self._queue, deque()
        for request in requests:
            request.leave()

    def data_received(self, data: bytes) -> None:
        if self._waiting.awaits is Awaits.END:
            if not self._waiting.end(len(data), draining=self._drain.draining):
                self._out.abort()
            return
        try:
            self._parser.feed(data)
        except BadRequest as bad:
            self._refuse(bad.status, bad.message)
            return
        if not self._queue and self._parser.in_head and self._waiting.awaits is not Awaits.HEAD:
            self._waiting.head()  # most heads come whole, and need no deadline

    def pause_writing(self) -> None:
        self._out.pause()
        if self._queue:
            self._queue[0].full()

    def resume_writing(self) -> None:
        self._out.resume()
        if self._held:
            self._held = False
            self._next()
        elif self._queue:
            self._queue[0].ready()

    # What uvicorn calls.

    def shutdown(self) -> None:
        """Take no more requests, and close once those that are here are answered (decision 23)."""
        self._parser.end_after_this()
        awaits = self._waiting.awaits
        if awaits is Awaits.END:
            self._linger()
        elif not self._queue:
            self.hang_up()
        else:
            self._queue[-1].close_after()
            if awaits is Awaits.READER:
                self._wait_for_reader()

    # What the parser calls.

    def begun(
        self, method: str, target: bytes, query: bytes, headers: list[Header], version: str, *, keep_alive: bool
    ) -> BodyStream:
        """A head is complete: queue its request."""
        if self._drain.draining:
            keep_alive = False  # the client's next request goes to another gateway (decision 23)
        if not keep_alive:
            self._parser.end_after_this()
        request = ClientRequest(self, self._out, method, target, query, headers, version, keep_alive=keep_alive)
        self._queue.append(request)
        if len(self._queue) == 1 and not self._held:
            self._begin(request)
        else:
            self.pause_reading()
        return request.body

    # What a request calls.

    def pause_reading(self) -> None:
        if self._reading and not self._out.closing:
            self._reading = False
            self._out.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless so many requests wait that more of them would only fill the memory."""
        if not self._reading and not self._out.closing and len(self._queue) < _MOST_WAITING:
            self._reading = True
            self._out.transport.resume_reading()

    def answered(self) -> None:
        """The response to the first request is complete: start the next one."""
        self._server.total_requests += 1
        request = self._queue.popleft()
        if request.closes:
            if request.body.unwanted or self._queue or not self._reading:
                self._linger()
            else:
                self.hang_up()
        elif self._out.full:  # who does not read answers gets no more of them
            self._held = True
            self.pause_reading()
            self._wait_for_reader()
        else:
            self._next()

    def hang_up(self) -> None:
        """Close, and give the client time to read what is written."""
        self._out.close()
        if self._out.unsent:
            self._wait_for_reader()

    def switch(self, received: Callable[[bytes], None]) -> None:
        """The protocol is another one from now on: `received` gets every byte that comes."""
        if len(self._queue) > 1:
            self._out.abort()  # a request behind the handshake, which would not have its answer
            return
        self._out.transport.set_protocol(Switched(self, received))

    def _linger(self) -> None:
        """End the connection, and discard what the client still sends for a while: a close with bytes unread is a
        reset, which takes the answer from a client that sends before it reads (RFC 9112, 9.6)."""
        self._queue.clear()  # of these no handler runs
        self._out.end()
        self.resume_reading()
        if not self._waiting.end(draining=self._drain.draining):
            self._out.abort()

    def _next(self) -> None:
        self.resume_reading()
        if self._queue:
            self._begin(self._queue[0])
        elif self._out.unsent:
            self._wait_for_reader()
        else:
            self._waiting.next()

    def _begin(self, request: ClientRequest) -> None:
        self._waiting.nothing()
        task = self._loop.create_task(self._answer(request))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _answer(self, request: ClientRequest) -> None:
        try:
            await self._handler(request)
        except ClientLeft:
            return
        except asyncio.CancelledError:
            request.fail(503, "the gateway is shutting down")
            raise
        except Exception:
            log.exception("%s %s failed unexpectedly", request.method, request.target.decode("latin-1"))
        if request.unfinished:
            request.fail(500, "the gateway failed")

    def _refuse(self, status: int, message: str) -> None:
        """Answer bad bytes with an error, unless the client could take it for a part of another response. Requests that
        are whole get their answers first, and then the connection ends (RFC 9112, 9.3.2)."""
        if not self._queue:
            body = error_body(Family.OPENAI, status, message)
            given = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            self._out.write(response.head(status, given, [response.CLOSE]) + body)
            if status == 408:
                self.hang_up()  # it sends hardly anything, and has had its time
            else:
                self._linger()
        elif len(self._queue) == 1 and self._queue[0].body.coming:
            request = self._queue[0]
            request.fail(status, message)
            request.leave()
        else:
            if self._queue[-1].body.coming:
                self._queue.pop().leave()
            if any(name == b"upgrade" for name, _ in self._queue[-1].headers):
                self._out.abort()  # it may be the begin of a tunnel, whose first bytes are lost now
            self._queue[-1].close_after()

    def _wait_for_reader(self) -> None:
        if not self._waiting.reader(self._out.untaken, draining=self._drain.draining):
            self._unread()
            self._out.abort()

    def _timed_out(self) -> None:
        awaits = self._waiting.awaits
        if awaits is Awaits.HEAD:
            self._refuse(408, "the request head did not arrive in time")
        elif awaits is Awaits.END:
            self._out.abort()
        elif self._out.unsent:
            self._wait_for_reader()
        elif awaits is Awaits.READER and not self._out.closing:
            self._waiting.next()
        else:
            self._out.close()


class Switched(asyncio.Protocol):
    """Stands between the transport and a connection that has switched protocols. No request looks for it."""

    __slots__ = ("_connection", "_received")

    def __init__(self, connection: ClientProtocol, received: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._received = received

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


def protocol_class(handler: Handler, limits: Limits, drain: Drain, unread: Callable[[], None]) -> type[ClientProtocol]:
    """The class for `uvicorn.Config(http=…)`. Every request goes to `handler`; `unread` as above."""

    class GatewayProtocol(ClientProtocol):
        __slots__ = ()

        def __init__(
            self,
            config: object,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            """The arguments that uvicorn passes by name."""
            super().__init__(handler, limits, drain, unread, server_state, _loop or asyncio.get_running_loop())

    return GatewayProtocol
