"""Connections that switch protocols: a handshake goes out, and where the answer is a 101, what follows is not HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from services.gateway.upstream.parser import ResponseParser, State

SWITCHING = 101


class Switchboard(Protocol):
    """Is told what a provider does after the switch."""

    def came(self, data: bytes) -> None:
        """The provider has sent bytes."""

    def provider_gone(self, exc: Exception | None) -> None:
        """Its connection is closed: properly, or for an error."""

    def provider_full(self) -> None:
        """It reads too slowly: write no more."""

    def provider_ready(self) -> None:
        """It reads again."""


class HandshakeParser(ResponseParser):
    """Parses the answer to a handshake. After a 101 every byte is returned as it came."""

    __slots__ = ("switched",)

    def __init__(self) -> None:
        super().__init__()
        self.switched = False

    def feed(self, data: bytes) -> bytes:
        return data if self.switched else super().feed(data)

    def on_headers_complete(self) -> None:
        switches = self._http.get_status_code() == SWITCHING and self._http.should_upgrade()
        if not switches or self.state is not State.HEAD:  # other interim answers are followed by the real one
            super().on_headers_complete()

    def _switched(self, rest: bytes) -> None:
        if self.state is not State.HEAD:
            super()._switched(rest)
            return
        self.switched = True
        self.status = SWITCHING
        self.state = State.UNTIL_CLOSE
        if rest:
            self._parts.append(rest)


class Switched(asyncio.Protocol):
    """Stands between the transport and a connection of the pool that has switched protocols."""

    __slots__ = ("_board", "_lost", "_transport")

    def __init__(
        self, transport: asyncio.Transport | None, lost: Callable[[Exception | None], None], board: Switchboard
    ) -> None:
        """`transport`: None where it is closed already. `lost`: what the pool's connection does when it is."""
        self._transport = transport
        self._board = board
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        self._board.came(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)
        self._board.provider_gone(exc)

    def pause_writing(self) -> None:
        self._board.provider_full()

    def resume_writing(self) -> None:
        self._board.provider_ready()

    def write(self, data: bytes) -> None:
        """Send bytes to the provider; nothing once it is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
