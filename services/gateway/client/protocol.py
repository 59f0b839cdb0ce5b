"""uvicorn's HTTP protocol with the limits it lacks, and a way to cut a response off without a proper end."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.gateway.client.headers import Header
from services.gateway.health import Health
from services.gateway.settings import GatewaySettings
from shared.access.envelopes import error_body
from shared.contract.dialects import Family

_FLUSH_SECONDS = 5.0
_NO_BODY = (204, 304)
# An upgrade nobody serves must not cost the request its body: the JDK's client asks for h2c on every first request.
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade[ \t]*:", re.IGNORECASE)


class ClientListener(Protocol):
    """Who is told what the client at the other end does."""

    def client_gone(self) -> None:
        """It has closed its connection."""

    def client_full(self) -> None:
        """It reads more slowly than it is written to: write no more."""

    def client_ready(self) -> None:
        """It has read on."""


class _RefusedHead(Exception):
    """Raised out of the parser's callbacks; what to answer stands in the protocol."""


class Connection:
    """`scope["extensions"]["arouter.connection"]`: the client's connection while one request is answered.

    Start and end of a response go through ASGI's `send`; the body may be written here in between, which spares a
    coroutine and a dict per chunk.
    """

    # Slots, here and wherever else every chunk comes by: with hundreds of streams each object is cold in the cache.
    __slots__ = ("_chunked", "_cycle", "_fd", "_protocol", "_transport")

    def __init__(self, protocol: LimitedProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._transport = protocol.transport
        self._fd: int = protocol.transport.get_extra_info("socket").fileno()
        self._chunked: bool | None = None

    def attach(self, listener: ClientListener) -> None:
        """Tell `listener` from now on what the client does; until `detach`."""
        self._protocol.attached = listener
        if self._cycle.disconnected:
            listener.client_gone()
            return
        self._protocol.flow.resume_reading()  # a closed connection is noticed only by reading from it
        if self._protocol.flow.write_paused:
            listener.client_full()

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this response."""
        return not self._cycle.keep_alive

    def detach(self) -> None:
        self._protocol.attached = None

    def whole_body(self) -> bytes | None:
        """The request's body, if all of it is here; it will not come through `receive` then."""
        cycle = self._cycle
        if cycle.more_body:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def write(self, body: bytes) -> None:
        """Write body bytes of a response that `send` has started."""
        chunked = self._chunked
        if chunked is None:
            chunked = self._chunked = bool(self._cycle.chunked_encoding)
        if chunked:
            self._write(b"%x\r\n%b\r\n" % (len(body), body))
        elif self._cycle.scope["method"] != "HEAD":
            if len(body) > self._cycle.expected_content_length:
                raise RuntimeError("the body is longer than its content-length")
            self._cycle.expected_content_length -= len(body)
            self._write(body)

    def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        """Write a whole response, in one system call; nothing may have been sent before."""
        cycle = self._cycle
        if cycle.disconnected:
            return
        protocol = self._protocol
        lines = [STATUS_LINE[status]]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        bodiless = status in _NO_BODY or cycle.scope["method"] == "HEAD"
        if not bodiless and not any(name == b"content-length" for name, _ in headers):
            lines.append(b"content-length: %d\r\n" % len(body))
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if not bodiless:
            lines.append(body)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        self._write(b"".join(lines))
        if not cycle.keep_alive:
            protocol.transport.close()
        cycle.on_response()

    def _write(self, data: bytes) -> None:
        """Write in this turn of the loop; uvloop would read from all other sockets first."""
        transport = self._transport
        if transport.is_closing():
            return
        if not transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except OSError:  # full, or broken: the transport finds out and says so
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def cut(self, *, flush: bool) -> None:
        """Close without the final chunk, so that no client can take what it has for the whole answer."""
        self._cycle.disconnected = True  # else uvicorn logs the missing end as the application's error
        transport = self._protocol.transport
        if flush:
            transport.close()
            # A client that does not read would keep the connection, and a drain, waiting for what is written.
            self._protocol.loop.call_later(_FLUSH_SECONDS, transport.abort)
        else:
            transport.abort()


def limited_protocol(settings: GatewaySettings, health: Health) -> type[HttpToolsProtocol]:
    """The protocol class for `uvicorn.Config(http=…)`, with this gateway's limits."""
    return type("GatewayProtocol", (LimitedProtocol,), {"settings": settings, "health": health})


class LimitedProtocol(HttpToolsProtocol):
    """Bounds size, line count and time of a request head, and insists on one Host (httptools checks none of it)."""

    settings: GatewaySettings
    health: Health

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._idle_bytes = 0  # received without a head being complete or a body growing
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal = (400, "invalid HTTP request")
        self._cycles: list[RequestResponseCycle] = []
        self.attached: ClientListener | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)
        for cycle in self._cycles:  # uvicorn tells the newest of pipelined requests alone
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        if self.attached is not None:
            self.attached.client_gone()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.attached is not None:
            self.attached.client_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.attached is not None:
            self.attached.client_ready()

    def shutdown(self) -> None:
        super().shutdown()
        if not self._answering:
            self.loop.call_later(_FLUSH_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"x-refused-upgrade:", head) + end + rest
        # The parser shows a header, or a trailer, only when it is whole, so that an endless one is counted here.
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._idle_bytes and self._head_timer is None:
            self._start_head_timer()  # most heads come whole, and need none
        if self._idle_bytes > self.settings.max_header_bytes and not self.transport.is_closing():
            self._refusal = (431, "the request head is too large")
            self.send_400_response("")
        idle = bool(self._cycles) and not self._answering
        if idle and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            # uvicorn stops the timer for any byte, and starts it again only with a response's end.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is none of the request's headers, and could pass for one
            super().on_header(name, value)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True  # of the next request on this connection
        self._idle_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._idle_bytes = 0
        self._stop_head_timer()
        self._check_head()
        super().on_headers_complete()
        if self.health.draining:
            self.cycle.keep_alive = False  # the client's next request goes to another gateway
        extension: dict[Any, Any] = {"arouter.connection": Connection(self, self.cycle)}
        self.scope["extensions"] = extension
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete] + [self.cycle]

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for whatever the parser refuses; the status is ours where a limit was the reason."""
        if self._answering:
            self.transport.close()  # bytes of ours would become part of the response that is on its way
            return
        status, message = self._refusal
        body = error_body(Family.OPENAI, status, message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    @property
    def _answering(self) -> bool:
        """Whether a response is on its way, or a request waits for its turn."""
        for cycle in self._cycles:  # noqa: SIM110  # mostly one, and a generator costs more than the loop
            if not cycle.response_complete:
                return True
        return False

    def _check_head(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.settings.max_header_bytes or len(self.headers) > self.settings.max_header_lines:
            self._refusal = (431, "the request head is too large")
            raise _RefusedHead
        if sum(name == b"host" for name, _ in self.headers) != 1 and self.parser.get_http_version() != "1.0":
            self._refusal = (400, "exactly one Host header is needed")
            raise _RefusedHead

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.settings.header_timeout, self._head_timed_out)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if not self._answering and not self.transport.is_closing():
            self._refusal = (408, "the request head did not arrive in time")
            self.send_400_response("")
