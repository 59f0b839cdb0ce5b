"""A provider whose side of a WebSocket the test plays byte by byte."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import time
from types import TracebackType
from typing import NamedTuple, Self

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Switched(NamedTuple):
    """A connection that has switched protocols, and the head that it began with."""

    head: bytes
    socket: socket.socket


class RawSockets:
    """Listens on loopback while the block runs."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def answer(self, raw: bytes) -> Switched:
        """The next request, which is answered with these bytes."""
        connection, _ = self._listener.accept()
        connection.settimeout(60)
        head = head_of(connection)
        connection.sendall(raw)
        return Switched(head, connection)

    def accept(self, *lines: str, first: bytes = b"") -> Switched:
        """The next handshake, which is answered with a 101. `first`: bytes behind its head, in the same write."""
        head, connection = self.answer(b"")
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        assert key is not None
        proof = base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest()).decode()
        answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        answer += [f"Sec-WebSocket-Accept: {proof}", *lines]
        connection.sendall("\r\n".join(answer).encode() + b"\r\n\r\n" + first)
        return Switched(head, connection)


def head_of(connection: socket.socket) -> bytes:
    """The bytes of a head, with its empty line."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"closed within a head: {head!r}"
        head += byte
    return head


def exactly(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes."""
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        assert part, "closed too early"
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def to_the_end(connection: socket.socket) -> bytes:
    """Everything until the other side closes, or resets."""
    parts = []
    try:
        while part := connection.recv(1 << 20):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def filled(connection: socket.socket, data: bytes, quiet: float = 1.0) -> int:
    """Send again and again until nothing more is taken for `quiet` seconds. Returns how many bytes were."""
    connection.setblocking(False)
    sent, since = 0, time.monotonic()
    try:
        while time.monotonic() - since < quiet:
            try:
                at = sent % len(data)
                sent += connection.send(data[at : at + 65536])
                since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
    finally:
        connection.settimeout(60)
    return sent
