"""uvicorn's HTTP protocol with the limits it lacks, and a way to cut a response off without a proper end."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.gateway.envelopes import error_body
from services.gateway.settings import GatewaySettings
from shared.dialects import Family

_FLUSH_SECONDS = 5.0
# An upgrade nobody serves must not cost the request its body: the JDK's client asks for h2c on every first request.
_UPGRADE = re.compile(rb"(?<=\r\n)upgrade[ \t]*:", re.IGNORECASE)


class _RefusedHead(Exception):
    """Raised out of the parser's callbacks; what to answer stands in the protocol."""


class Connection:
    """`scope["extensions"]["arouter.connection"]`: the client's connection while one request is answered."""

    __slots__ = ("_protocol", "cycle")

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol
        self.cycle: RequestResponseCycle | None = None

    def cut(self, *, flush: bool) -> None:
        """Close without the final chunk, so that no client can take what it has for the whole answer."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # else uvicorn logs the missing end as the application's error
        transport = self._protocol.transport
        if flush:
            transport.close()
            # A client that does not read would keep the connection, and a drain, waiting for what is written.
            self._protocol.loop.call_later(_FLUSH_SECONDS, transport.abort)
        else:
            transport.abort()


def limited_protocol(settings: GatewaySettings) -> type[HttpToolsProtocol]:
    """The protocol class for `uvicorn.Config(http=…)`, with this gateway's limits."""
    return type("GatewayProtocol", (LimitedProtocol,), {"settings": settings})


class LimitedProtocol(HttpToolsProtocol):
    """Bounds size, line count and time of a request head, and insists on one Host (httptools checks none of it)."""

    settings: GatewaySettings

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
        if self._head_timer is None:
            self._start_head_timer()
        self.scope["extensions"] = {"arouter.connection": Connection(self)}  # type: ignore[dict-item]

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is none of the request's headers, and could pass for one
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._idle_bytes = 0
        self._stop_head_timer()
        self._check_head()
        super().on_headers_complete()
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions["arouter.connection"].cycle = self.cycle
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
        return any(not cycle.response_complete for cycle in self._cycles)

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
