"""Writes to one client, in the same turn of the loop where the socket takes the bytes (decision 15)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios


class SocketWriter:
    """The writer of one connection."""

    # Every chunk comes by here, and with hundreds of streams each object is cold in the cache.
    __slots__ = ("_fd", "_room", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        given = transport.get_extra_info("socket")
        self._fd: int = -1 if given is None else given.fileno()
        self._room: asyncio.Event | None = None  # while the client is full

    @property
    def full(self) -> bool:
        """Whether the client reads too slowly to write more."""
        return self._room is not None

    @property
    def unsent(self) -> int:
        """Bytes that the client's socket has not taken."""
        return self.transport.get_write_buffer_size()

    @property
    def untaken(self) -> int:
        """Bytes that have not arrived at the client's end: unsent ones, and those in the socket's own buffer, which has
        room for more only once a third of its megabytes is free."""
        queued = bytearray(4)
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # closed, or a system that does not tell
                fcntl.ioctl(self._fd, termios.TIOCOUTQ, queued)
        return self.unsent + int.from_bytes(queued, sys.byteorder)

    @property
    def closing(self) -> bool:
        return self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write at once; uvloop would read from all other sockets first."""
        transport = self.transport
        if transport.is_closing():
            return
        if not transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except OSError:  # full or broken: the transport finds out which
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def end(self) -> None:
        """Write no more. The client can read what there is, and send."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        """Close as soon as the socket has taken everything."""
        self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def reset(self) -> None:
        """Close with a reset, which no client takes for the end of a body that ends with its connection."""
        with contextlib.suppress(OSError):
            linger = socket.socket(fileno=os.dup(self._fd))
            linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            linger.close()
        self.transport.abort()

    def pause(self) -> None:
        self._room = self._room or asyncio.Event()

    def resume(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def room(self) -> None:
        """Wait until the client has room, or has left."""
        while self._room is not None:
            await self._room.wait()
