"""A client of the gateway's HTTP protocol in memory: bytes in, bytes out, no socket."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast

from services.gateway.client.protocol import protocol_class
from services.gateway.client.request import ClientLeft, ClientRequest, Handler
from services.gateway.client.waiting import Limits

LIMITS = Limits(max_header_bytes=300, max_header_lines=10, header_timeout=10, keep_alive_timeout=75)


CHUNKED = b"transfer-encoding: chunked"
GET = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"


@dataclass
class Server:
    """The state of uvicorn's server, as a protocol sees it."""

    total_requests: int = 0
    connections: set[Any] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


@dataclass
class Draining:
    """Whether the process is shutting down."""

    draining: bool = False


class MemoryTransport(asyncio.Transport):
    """A transport that keeps written bytes, and holds received ones back while reading is paused."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.7", 1234), "sockname": ("192.0.2.1", 80)})
        self._protocol = protocol
        self._inbox: deque[bytes] = deque()
        self._closing = False
        self._lost = False
        self.written = b""
        self._reading = True
        self.aborted = False
        self.ended = False  # nothing more will be written
        self.unsent = 0  # bytes that the client has not taken

    def send(self, data: bytes) -> None:
        """What the client sends."""
        self._inbox.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._reading and not self._closing and self._inbox:
            self._protocol.data_received(self._inbox.popleft())

    def write(self, data: Any) -> None:
        assert not self._closing, "written after the end"
        assert not self.ended, "written after the end"
        self.written += data

    def write_eof(self) -> None:
        assert not self._closing
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert self._reading
        self._reading = False

    def is_reading(self) -> bool:
        return self._reading

    def resume_reading(self) -> None:
        assert not self._reading
        self._reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self.unsent:
            self._closing = True  # until the client has taken it
        else:
            self.lose()

    def abort(self) -> None:
        self.aborted = True
        self.lose()

    def lose(self) -> None:
        """The connection is gone."""
        self._closing = True
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


class MemoryClient:
    """One connection to a handler."""

    def __init__(self, handler: Handler, limits: Limits = LIMITS, drain: Draining | None = None) -> None:
        self.server = Server()
        self.unread = 0  # connections given up because their client does not read
        made = cast("Any", protocol_class(handler, limits, drain or Draining(), self._note_unread))
        self.protocol = made(config=None, server_state=self.server, app_state={}, _loop=asyncio.get_running_loop())
        self.transport = MemoryTransport(self.protocol)
        self.protocol.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a read of its own, and then whatever follows from it."""
        for piece in pieces:
            self.transport.send(piece)
            await settled()

    def leave(self) -> None:
        """Close the client's end."""
        self.transport.lose()

    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self.transport.ended or self.transport.is_closing()

    def _note_unread(self) -> None:
        self.unread += 1

    @property
    def answers(self) -> bytes:
        return self.transport.written


async def settled() -> None:
    """Run the loop until everything waits for time or bytes."""
    for _ in range(12):
        await asyncio.sleep(0)


class Script:
    """A handler that makes the given calls in order, or waits for ever."""

    def __init__(self, *calls: Any, wait: bool = False) -> None:
        self._calls = calls
        self._wait = wait
        self.requests: list[ClientRequest] = []
        self.told: list[str] = []
        self.left = False

    async def handle(self, request: ClientRequest) -> None:
        self.requests.append(request)
        request.attach(self)
        for call in self._calls:
            call(request)
        if self._wait:
            await asyncio.Event().wait()

    async def read(self, request: ClientRequest) -> None:
        try:
            while await request.read():
                pass
        except ClientLeft:
            self.left = True
            raise

    def client_gone(self) -> None:
        self.told.append("gone")

    def client_full(self) -> None:
        self.told.append("full")

    def client_ready(self) -> None:
        self.told.append("ready")


def post(body: bytes, *lines: bytes, target: bytes = b"/x", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"POST %b HTTP/%b" % (target, version), b"host: h", *lines, b"", body])


def sized(body: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    return post(body, b"content-length: %d" % len(body), *lines, version=version)


def statuses(answers: bytes) -> tuple[int, ...]:
    """The responses in the bytes that a client got."""
    return tuple(int(part[1:4]) for part in answers.split(b"HTTP/1.1")[1:])


@dataclass(frozen=True)
class Seen:
    """A request, as a handler sees it."""

    method: str
    target: bytes
    query: bytes = b""
    body: bytes = b""


class Recorder:
    """Reads each request to its end, remembers it, and answers."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.headers: list[dict[bytes, bytes]] = []

    async def handle(self, request: ClientRequest) -> None:
        body = request.whole_body()
        if body is None:
            parts = []
            while part := await request.read():
                parts.append(part)
            body = b"".join(parts)
        self.headers.append(dict(request.headers))
        self.seen.append(Seen(request.method, request.target, request.query, body))
        request.respond(200, [], b"fine")
