"""A system with a provider whose side of each socket the test plays, and the client's side of them."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.support.raw_socket import RawSockets, Switched, head_of
from tests.support.requests import connected
from tests.support.system import System

HANDSHAKE = (
    "GET {} HTTP/1.1\r\nhost: g\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "sec-websocket-extensions: permessage-deflate\r\n{}\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


def listed(system: System, models: str) -> str:
    """A key that may call these models alone."""
    made = json.loads(system.command("keys", "create", "--name", models, "--json"))
    system.command("keys", "update", made["hash"], "--allow-models", models)
    return str(made["key"])


class Running:
    """A system, and a provider in it whose sockets the test plays."""

    def __init__(self, system: System, provider: RawSockets) -> None:
        self.system = system
        self.provider = provider
        self.opened: list[socket.socket] = []

    def open(
        self, *lines: str, url: str = "", first: bytes = b"", key: str = ""
    ) -> tuple[socket.socket, Switched, str]:
        """A socket to the provider `own`: the client's side, the provider's, and the exchange's id."""
        client = connected(url or self.system.url)
        given = [f"authorization: Bearer {key or self.system.key}", *lines]
        client.sendall(HANDSHAKE.format("/own/v1/realtime?model=m", "".join(f"{line}\r\n" for line in given)).encode())
        switched = self.provider.accept(first=first)
        self.opened += [client, switched.socket]
        head = head_of(client)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"sec-websocket-accept: " + ACCEPTED in head
        [id] = [
            line.partition(b": ")[2].decode() for line in head.split(b"\r\n") if line.startswith(b"x-generation-id")
        ]
        return client, switched, id

    def listed(self, models: str) -> str:
        """A key that may call these models alone."""
        return listed(self.system, models)

    def booked(self, id: str) -> dict[str, Any]:
        return self.system.settled([id])[id]
