"""uvicorn's HTTP protocol with the limits it lacks, and a way to cut a response off without a proper end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.gateway.envelopes import error_body
from services.gateway.settings import GatewaySettings
from shared.dialects import Family


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
        if flush:
            self._protocol.transport.close()
        else:
            self._protocol.transport.abort()


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
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal = (400, "invalid HTTP request")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head and not self.transport.is_closing():
            # The parser shows a header only when it is whole, so that an endless one must be counted here.
            self._head_bytes += len(data)
            if self._head_bytes > self.settings.max_header_bytes:
                self._refusal = (431, "the request head is too large")
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._start_head_timer()
        self.scope["extensions"] = {"arouter.connection": Connection(self)}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        self._check_head()
        super().on_headers_complete()
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions["arouter.connection"].cycle = self.cycle

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for whatever the parser refuses; the status is ours where a limit was the reason."""
        status, message = self._refusal
        body = error_body(Family.OPENAI, status, message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

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
        if not self.transport.is_closing():
            self._refusal = (408, "the request head did not arrive in time")
            self.send_400_response("")
