"""The server side of HTTP/1.1: a client's connection, under uvicorn's server (decision 30).

uvicorn has the sockets, signals, lifespan and drain. It makes one object of the class that `protocol_class` returns for
each connection, and calls only its `shutdown`; we use only its `ServerState`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol, cast

from services.gateway.client import response
from services.gateway.client.body_stream import BodyStream
from services.gateway.client.deadline import Deadline
from services.gateway.client.headers import Header
from services.gateway.client.parser import BadRequest, RequestParser
from services.gateway.client.request import ClientLeft, ClientRequest, Handler
from services.gateway.client.socket_writer import SocketWriter
from shared.access.envelopes import error_body
from shared.contract.dialects import Family

log = logging.getLogger(__name__)


class ServerState(Protocol):
    """uvicorn's state. Its drain waits until both sets are empty; at the limit it cancels the tasks."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]


_MOST_WAITING = 16  # requests of one connection that are here and not begun


class Limits(NamedTuple):
    """Limits of a request head, in bytes, lines and seconds, and of a connection, in seconds."""

    max_header_bytes: int
    max_header_lines: int
    header_timeout: float
    keep_alive_timeout: float
    flush: float = 5.0  # for a client to read the last bytes before its connection closes


class Drain(Protocol):
    """Says whether the process is shutting down."""

    draining: bool


class _Awaits(Enum):
    HEAD = auto()  # the first one, or the rest of one that has begun
    NEXT = auto()  # the next request
    NOTHING = auto()  # the client waits for an answer


class ClientProtocol(asyncio.Protocol):
    """One connection: requests are answered one at a time, in order."""

    __slots__ = (
        "_awaits",
        "_deadline",
        "_drain",
        "_handler",
        "_held",
        "_limits",
        "_loop",
        "_out",
        "_parser",
        "_queue",
        "_reading",
        "_server",
    )

    _out: SocketWriter

    def __init__(
        self, handler: Handler, limits: Limits, drain: Drain, server: ServerState, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._drain = drain
        self._server = server
        self._loop = loop
        self._parser = RequestParser(self, limits.max_header_bytes, limits.max_header_lines)
        self._deadline = Deadline(loop, self._timed_out)
        self._awaits = _Awaits.NOTHING
        self._queue: deque[ClientRequest] = deque()  # not answered yet; the handler of the first one runs
        self._reading = True
        self._held = False  # the next request waits until the client has read

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        known = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._out = SocketWriter(known, self._loop, self._limits.flush)
        self._server.connections.add(self)
        self._wait_for(_Awaits.HEAD, self._limits.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._deadline.close()
        self._parser.close()
        self._out.resume()
        requests, self._queue = self._queue, deque()
        for request in requests:
            request.leave()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except BadRequest as bad:
            self._refuse(bad.status, bad.message)
            return
        if not self._queue and self._parser.in_head and self._awaits is not _Awaits.HEAD:
            self._wait_for(_Awaits.HEAD, self._limits.header_timeout)  # most heads come whole, and need no deadline

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
        if self._queue:
            self._queue[-1].close_after()
        else:
            self._out.close(flush=True)

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
        if self._queue.popleft().closes:
            self._out.close(flush=True)
        elif self._out.full:  # who does not read answers gets no more of them
            self._held = True
            self.pause_reading()
            self._wait_for(_Awaits.NEXT, self._limits.keep_alive_timeout)
        else:
            self._next()

    def _next(self) -> None:
        self.resume_reading()
        if self._queue:
            self._begin(self._queue[0])
        else:
            self._wait_for(_Awaits.NEXT, self._limits.keep_alive_timeout)

    def _begin(self, request: ClientRequest) -> None:
        self._awaits = _Awaits.NOTHING
        self._deadline.clear()
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
        """Answer bad bytes with an error, unless the client could take it for a part of another response."""
        if not self._queue:
            body = error_body(Family.OPENAI, status, message)
            given = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            self._out.write(response.head(status, given, [response.CLOSE]) + body)
            self._out.close(flush=True)
        elif len(self._queue) == 1 and self._queue[0].body.coming:
            request = self._queue[0]
            request.fail(status, message)
            request.leave()
        else:
            self._out.close(flush=True)

    def _wait_for(self, awaits: _Awaits, seconds: float) -> None:
        self._awaits = awaits
        self._deadline.set(seconds)

    def _timed_out(self) -> None:
        if self._awaits is _Awaits.HEAD:
            self._refuse(408, "the request head did not arrive in time")
        else:
            self._out.close(flush=True)


def protocol_class(handler: Handler, limits: Limits, drain: Drain) -> type[ClientProtocol]:
    """The class for `uvicorn.Config(http=…)`. Every request goes to `handler`."""

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
            super().__init__(handler, limits, drain, server_state, _loop or asyncio.get_running_loop())

    return GatewayProtocol
