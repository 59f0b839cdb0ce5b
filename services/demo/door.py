"""The demo provider's listening port: open, refusing connections, or with TLS that fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from services.demo.connection import Connection
from services.demo.outages import Outages


def tls(certificate: Path, expired: Path | None, outages: Outages) -> ssl.SSLContext:
    """A server's context whose handshakes go as the outage says. The files hold a key and its certificate (PEM).

    OSError where one cannot be read."""
    context, old = _context(certificate), _context(expired) if expired is not None else None

    def greet(hello: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        if outages.door == "tls":
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        if outages.door == "expired" and old is not None:
            hello.context = old
        return None

    context.sni_callback = greet
    return context


def _context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a session that is resumed shows no certificate
    context.load_cert_chain(certificate)
    return context


class Door:
    """A port that can refuse. While it does, it stays ours: it is bound, and does not listen."""

    def __init__(self, connect: Callable[[], Connection], host: str, port: int, context: ssl.SSLContext | None) -> None:
        self.port = port
        self._connect = connect
        self._context = context
        self._held: list[socket.socket] = []
        self._host = host
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. OSError where the port is taken."""
        if self._server is not None:
            return
        self._release()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connect, self._host, self.port, ssl=self._context, backlog=4096, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Refuse connections. Those that there are stay."""
        if self._server is None:
            return
        places = [(listener.family, listener.getsockname()) for listener in self._server.sockets]
        self._server.close()
        self._server = None
        for family, place in places:
            held = socket.socket(family)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held.append(held)
            held.bind(place)

    def _release(self) -> None:
        while self._held:
            self._held.pop().close()

    def close(self) -> None:
        """For good."""
        self._release()
        if self._server is not None:
            self._server.close()
