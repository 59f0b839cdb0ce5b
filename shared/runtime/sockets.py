"""Options of TCP sockets."""

from __future__ import annotations

import socket
from typing import Protocol

_IDLE = 60  # seconds; NAT gateways of clouds forget a silent connection after 120 to 350
_INTERVAL = 15  # seconds
_PROBES = 4  # so that a peer that is gone is noticed after two minutes

_IDLE_OPTION: int = getattr(socket, "TCP_KEEPIDLE", 0x10)  # macOS has it as TCP_KEEPALIVE

# As setsockopt takes them. A model that thinks for minutes sends nothing: without them a NAT on the way forgets the
# connection, and neither end notices.
KEEP_ALIVE: tuple[tuple[int, int, int], ...] = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, _IDLE_OPTION, _IDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
)


class Socket(Protocol):
    """A socket, or what a transport shows of its own."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None: ...


def keep_alive(connection: Socket) -> None:
    """Let the kernel probe a TCP connection that is silent."""
    for level, name, value in KEEP_ALIVE:
        connection.setsockopt(level, name, value)
