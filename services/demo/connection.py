"""The server side of HTTP, for a server that is to misbehave; also the stage the answers are played on."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

import httptools

from shared.runtime.tasks import Tasks

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close sends a RST


class Received(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]  # by lower-case name
    body: bytes


class Shared(NamedTuple):
    """What all connections of one port share."""

    handle: Callable[[Connection, Received], Coroutine[Any, Any, None]]  # answers a request
    tasks: Tasks
    connections: set[Connection]  # those that are open


class Socket(Protocol):
    """What speaks WebSocket on a connection."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the client."""


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, shared: Shared) -> None:
        self.socket: Socket | None = None  # gets what comes, once protocols are switched
        self._shared = shared
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._writable.set()
        self._playing: asyncio.Task[None] | None = None
        self._chunked = False
        self._closes = False
        self._head_only = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._writable.set()
        if self._playing is not None:
            self._playing.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self.socket is not None:
            self.socket.feed(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # a client sends nothing before the handshake is answered
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self._head_only = method == "HEAD"
        received = Received(method, self._url.decode("latin-1"), self._headers, b"".join(self._body))
        self._playing = self._shared.tasks.start(self._shared.handle(self, received), "answer")

    def close_if_idle(self) -> None:
        """Close where no request is being answered."""
        if self._playing is None or self._playing.done():
            self._transport.close()

    async def start(self, status: int, headers: list[tuple[str, str]], framing: str) -> None:
        self._chunked = framing == "chunked"
        framed = {"chunked": "transfer-encoding: chunked", "close": "connection: close"}
        lines = [f"HTTP/1.1 {status} Demo", *(f"{name}: {value}" for name, value in headers)]
        lines.append(framed.get(framing, f"content-length: {framing}"))
        self._closes = framing == "close"
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def write(self, data: bytes) -> None:
        if not self._head_only:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        await asyncio.sleep(0)  # so that what follows is a write of its own

    async def end(self) -> None:
        if self._chunked and not self._head_only:
            await self.send(b"0\r\n\r\n")
        if self._closes:
            self._transport.close()

    async def document(self, status: int, document: Any) -> None:
        """Answer with a line of JSON."""
        body = json.dumps(document).encode() + b"\n"
        await self.start(status, [("content-type", "application/json")], str(len(body)))
        await self.write(body)
        await self.end()

    def close(self, *, reset: bool) -> None:
        if reset:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection, with what is still to be sent."""
        self._transport.abort()

    async def send(self, data: bytes) -> None:
        await self._writable.wait()
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
