"""The demo provider's server: plain asyncio, because a framework would not let it misbehave.

The log (`--log FILE`) has one JSON line for every request that was answered or broken off: what was emitted, byte for
byte and token for token, and how it ended. It is the auditor's truth.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from services.demo import door, outages, sockets
from services.demo.connection import Connection, Received, Shared
from services.demo.door import Door
from services.demo.outages import Outages
from services.demo.performance import Performance
from services.demo.routes import answer, understand
from services.demo.socket_performance import SocketPerformance, accept
from shared.runtime.tasks import Tasks


class EmitLog:
    """Append-only JSON lines; None writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = open(path, "a", buffering=1) if path else None  # noqa: SIM115  # kept open

    def write(self, exchange_id: str, performance: Performance | SocketPerformance) -> None:
        if self._file is None:
            return
        request, script = performance.request, performance.script
        line = {
            "began": performance.began,
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
            "provider": performance.name,
            "credential": request.credential,
        }
        self._file.write(json.dumps(line) + "\n")


class Options(NamedTuple):
    """How a demo provider is run."""

    host: str
    port: int  # 0: any free one
    emit_log: Path | None = None
    default: str = ""  # directives of requests that name none
    name: str = ""  # which its answers give
    control: int | None = None  # the port at which outages are ordered; 0: any free one
    certificate: Path | None = None  # PEM with the key: TLS is spoken
    expired: Path | None = None  # another one, which an outage shows


class Provider:
    """Answers requests, and is in such a state as it was ordered to be."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._emitted = EmitLog(options.emit_log)
        self._outages = Outages()
        self._shared = Shared(self._answer, Tasks(), set())
        tls = door.tls(options.certificate, options.expired, self._outages) if options.certificate else None
        self.door = Door(lambda: Connection(self._shared), options.host, options.port, tls)
        orders = self._shared._replace(handle=self._order, connections=set())
        self.control = Door(lambda: Connection(orders), options.host, options.control or 0, None)
        self._turning = asyncio.Lock()

    async def _answer(self, connection: Connection, received: Received) -> None:
        headers = {"x-demo": self._options.default, **received.headers}
        try:
            request = understand(received.method, received.target, headers, received.body, self._outages.directives)
        except ValueError as exc:
            await _complain(connection, f"x-demo: {exc}")
            return
        told = answer(request, received.target, headers)
        performance: Performance | SocketPerformance = Performance(request, told, self._options.name)
        talk = sockets.conversation(received.target, headers) if "websocket" in headers.get("upgrade", "") else None
        if talk is not None and request.scenario.status == 200:
            performance = connection.socket = SocketPerformance(request, talk, self._options.name)
            await _switch(connection, headers)
        try:
            await performance.play(connection)
        except (ConnectionError, asyncio.CancelledError):
            connection.abort()
        finally:
            self._emitted.write(headers.get("x-generation-id", ""), performance)

    async def _order(self, connection: Connection, received: Received) -> None:
        """`POST /fail` with directives begins an outage, `DELETE /fail` ends them all, each says which are on."""
        if received.target != "/fail" or received.method not in ("GET", "POST", "DELETE"):
            await _complain(connection, "GET, POST or DELETE /fail")
            return
        if received.method == "DELETE":
            self._outages.end()
        elif received.method == "POST":
            try:
                self._begin(received.body.decode("latin-1"))
            except ValueError as exc:
                await _complain(connection, str(exc))
                return
        await self._turn()
        with suppress(ConnectionError):
            await connection.document(200, {"outages": [outage.text for outage in self._outages.running()]})

    def _begin(self, text: str) -> None:
        outage = outages.parse(text)
        if outage.door in ("tls", "expired") and self._options.certificate is None:
            raise ValueError("it speaks no TLS: --certificate")
        if outage.door == "expired" and self._options.expired is None:
            raise ValueError("it has no other certificate: --expired")
        self._outages.begin(outage)
        if outage.seconds != math.inf:
            loop = asyncio.get_running_loop()
            loop.call_later(outage.seconds, lambda: self._shared.tasks.start(self._turn(), "turn"))

    async def _turn(self) -> None:
        """Do with the port what the outages say."""
        async with self._turning:
            if self._outages.door == "down":
                self.door.shut()
            else:
                await self.door.open()
        if self._outages.door:
            for connection in tuple(self._shared.connections):
                connection.close_if_idle()  # what comes next has to connect anew


async def _switch(connection: Connection, headers: dict[str, str]) -> None:
    offered = headers.get("sec-websocket-protocol", "")
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-accept: {accept(headers.get('sec-websocket-key', ''))}",
        *([f"sec-websocket-protocol: {offered.partition(',')[0].strip()}"] if offered else []),
    ]
    await connection.send("\r\n".join(lines).encode() + b"\r\n\r\n")


async def _complain(connection: Connection, problem: str) -> None:
    with suppress(ConnectionError):
        await connection.document(400, {"error": {"message": problem, "type": "invalid_request_error"}})


async def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Prints where, once it listens."""
    provider = Provider(options)
    doors = [provider.door] if options.control is None else [provider.door, provider.control]
    for one in doors:
        await one.open()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    scheme = "http" if options.certificate is None else "https"
    print(f"demo provider on {scheme}://{options.host}:{provider.door.port}", flush=True)
    if options.control is not None:
        print(f"outages at http://{options.host}:{provider.control.port}/fail", flush=True)
    await stopping.wait()
    for one in doors:
        one.close()
