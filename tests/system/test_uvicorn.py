"""What we rely on of uvicorn's server, one test each: an upgrade that breaks one fails with its name."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from services.gateway.client.protocol import protocol_class
from services.gateway.client.request import ClientRequest, Handler
from services.gateway.client.waiting import Limits
from tests.support.memory_client import GET, Draining

LIMITS = Limits(1024, 10, header_timeout=10, keep_alive_timeout=10)


class Running:
    """A server in a thread, as the gateway runs it."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        self.lifespan: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.made: list[dict[str, Any]] = []
        config = uvicorn.Config(
            self._application, http=self._noting(handler), loop="uvloop", ws="none", lifespan="on", interface="asgi3",
            log_config=None, access_log=False, server_header=False, date_header=False, **options
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    def _noting(self, handler: Handler) -> type[asyncio.Protocol]:
        made, base = self.made, protocol_class(handler, LIMITS, Draining(), lambda: None)

        class Noting(base):  # type: ignore[misc, valid-type]  # made at run time, as the gateway's own
            def __init__(self, *args: Any, **named: Any) -> None:
                assert not args
                made.append(named)
                super().__init__(**named)

        return Noting

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for step in ("startup", "shutdown"):
            message = await receive()
            self.lifespan.append(message["type"])
            await send({"type": f"lifespan.{step}.complete"})

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), 10)


@contextmanager
def running(handler: Handler, **options: Any) -> Iterator[Running]:
    server = Running(handler, **options)
    server.thread.start()
    try:
        yield server
    finally:
        server.server.should_exit = True
        server.thread.join(20)
        assert not server.thread.is_alive()


async def fine(request: ClientRequest) -> None:
    request.respond(200, [], b"fine")


def ask(connection: socket.socket, request: bytes = GET) -> bytes:
    connection.sendall(request)
    return connection.recv(65536)


def rest(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_it_makes_our_protocol_with_these_arguments() -> None:
    with running(fine) as one, one.connect() as connection:
        assert ask(connection).endswith(b"\r\n\r\nfine")
        [given] = one.made
    assert set(given) == {"config", "server_state", "app_state", "_loop"}
    assert given["server_state"] is one.server.server_state


def test_its_state_has_what_we_keep_there() -> None:
    with running(fine) as one, one.connect() as connection:
        state = one.server.server_state
        ask(connection)
        ask(connection)
        end = time.monotonic() + 10
        while (state.total_requests, len(state.connections), state.tasks) != (2, 1, set()):
            assert time.monotonic() < end  # the answer is here before the server has counted it


def test_it_begins_and_ends_by_lifespan_messages() -> None:
    with running(fine) as one, one.connect() as connection:
        ask(connection)
        assert one.lifespan == ["lifespan.startup"]
    assert one.lifespan == ["lifespan.startup", "lifespan.shutdown"]


def test_it_shuts_idle_connections() -> None:
    with running(fine) as one:
        with one.connect() as connection:
            ask(connection)
            one.server.should_exit = True
            assert connection.recv(1) == b""


def test_it_waits_for_our_tasks() -> None:
    async def slow(request: ClientRequest) -> None:
        request.start(200, [])
        await asyncio.sleep(0.5)
        request.write(b"late")
        request.finish()

    with running(slow) as one, one.connect() as connection:
        assert ask(connection).startswith(b"HTTP/1.1 200")
        one.server.should_exit = True
        assert rest(connection) == b"4\r\nlate\r\n0\r\n\r\n"


def test_it_cancels_our_tasks_after_its_time() -> None:
    cancelled = threading.Event()

    async def endless(request: ClientRequest) -> None:
        request.start(200, [])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with running(endless, timeout_graceful_shutdown=1) as one, one.connect() as connection:
        assert ask(connection).startswith(b"HTTP/1.1 200")
        one.server.should_exit = True
        assert rest(connection) == b""
        assert cancelled.wait(10)


def test_old_clients_get_a_body_without_chunk_sizes() -> None:
    async def stream(request: ClientRequest) -> None:
        request.start(200, [])
        for part in (b"one ", b"two"):
            request.write(part)
            await asyncio.sleep(0.01)
        request.finish()

    with running(stream) as one, one.connect() as connection:
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nconnection: close"
    assert body == b"one two"


def test_and_notice_where_it_breaks_off() -> None:
    async def broken(request: ClientRequest) -> None:
        request.start(200, [])
        request.write(b"one ")
        await asyncio.sleep(0.2)
        request.abort(flush=True)

    with running(broken) as one, one.connect() as connection:
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            rest(connection)


def test_a_client_that_does_not_read_is_noticed() -> None:
    told = threading.Event()

    class Listener:
        def client_gone(self) -> None: ...

        def client_full(self) -> None:
            told.set()

        def client_ready(self) -> None: ...

    async def flood(request: ClientRequest) -> None:
        request.attach(Listener())
        request.start(200, [])
        while not told.is_set():
            request.write(b"x" * 100_000)
        await request.writable()
        request.write(b"the end")
        request.finish()

    with running(flood) as one, one.connect() as connection:
        connection.sendall(GET)
        assert told.wait(10)
        got = b""
        while not got.endswith(b"7\r\nthe end\r\n0\r\n\r\n"):
            got = got[-100:] + connection.recv(1 << 20)
