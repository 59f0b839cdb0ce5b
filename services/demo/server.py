"""The demo provider's server: plain asyncio, because a framework would not let it misbehave.

The log (`--log FILE`) has one JSON line for every request that was answered or broken off: what was emitted, byte for
byte and token for token, and how it ended. It is the auditor's truth.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import struct
import time
from pathlib import Path
from typing import IO, NamedTuple

import httptools

from services.demo import sockets
from services.demo.performance import Performance
from services.demo.routes import answer, understand
from services.demo.socket_performance import SocketPerformance, accept
from shared.runtime.tasks import Tasks

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close sends a RST

log = logging.getLogger(__name__)


class EmitLog:
    """Append-only JSON lines; None writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = open(path, "a", buffering=1) if path else None  # noqa: SIM115  # kept open

    def write(self, exchange_id: str, performance: Performance | SocketPerformance) -> None:
        if self._file is None:
            return
        request, script = performance.request, performance.script
        line = {
            "at": time.time(),
            "exchange_id": exchange_id,
            "dialect": script.dialect,
            "method": request.method,
            "path": request.path,
            "model": request.model,
            "streamed": request.streamed,
            "status": script.status,
            "ended": performance.ended,
            "events": performance.events,
            "tokens": performance.tokens,
            "usage": performance.usage,
            "bytes": performance.bytes,
            "sha256": performance.sha256.hexdigest(),
        }
        self._file.write(json.dumps(line) + "\n")


class Shared(NamedTuple):
    """What all connections of one provider share."""

    emitted: EmitLog
    tasks: Tasks
    default: str  # directives of a request that names none


class Connection(asyncio.Protocol):
    """One client connection; also the stage the answers are played on."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._parser = httptools.HttpRequestParser(self)
        self._writable = asyncio.Event()
        self._writable.set()
        self._playing: asyncio.Task[None] | None = None
        self._chunked = False
        self._closes = False
        self._head_only = False
        self._socket: SocketPerformance | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._playing is not None:
            self._playing.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.feed(data)
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
        play = self._answer(method, self._url.decode("latin-1"), self._headers, b"".join(self._body))
        self._playing = self._shared.tasks.start(play, "answer")

    async def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        try:
            request = understand(method, target, {"x-demo": self._shared.default, **headers}, body)
        except ValueError as exc:
            await self._complain(str(exc))
            return
        performance: Performance | SocketPerformance = Performance(request, answer(request, target, headers))
        talk = sockets.conversation(target, headers) if "websocket" in headers.get("upgrade", "") else None
        if talk is not None and request.scenario.status == 200:
            performance = self._socket = SocketPerformance(request, talk)
            await self._switch(headers)
        try:
            await performance.play(self)
        except (ConnectionError, asyncio.CancelledError):
            self._transport.abort()
        finally:
            self._shared.emitted.write(headers.get("x-generation-id", ""), performance)

    async def _switch(self, headers: dict[str, str]) -> None:
        offered = headers.get("sec-websocket-protocol", "")
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "upgrade: websocket",
            "connection: Upgrade",
            f"sec-websocket-accept: {accept(headers.get('sec-websocket-key', ''))}",
            *([f"sec-websocket-protocol: {offered.partition(',')[0].strip()}"] if offered else []),
        ]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def _complain(self, problem: str) -> None:
        body = json.dumps({"error": {"message": f"x-demo: {problem}", "type": "invalid_request_error"}}).encode()
        await self.start(400, [("content-type", "application/json")], str(len(body)))
        await self.write(body)
        await self.end()

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

    def close(self, *, reset: bool) -> None:
        if reset:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    async def send(self, data: bytes) -> None:
        await self._writable.wait()
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)


async def run(host: str, port: int, emit_log: Path | None, default: str = "") -> None:
    """Serve until SIGTERM or SIGINT. Prints the port once it listens: with port 0 any free one is taken.

    `default`: the directives of requests that name none.
    """
    loop = asyncio.get_running_loop()
    shared = Shared(EmitLog(emit_log), Tasks(), default)
    server = await loop.create_server(lambda: Connection(shared), host, port, backlog=4096)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    bound = server.sockets[0].getsockname()[1]
    print(f"demo provider on http://{host}:{bound}", flush=True)
    await stopping.wait()
    server.close()
