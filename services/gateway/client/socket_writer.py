"""Writes to one client, in the same turn of the loop where the socket takes the bytes (decision 15)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct


class SocketWriter:
    """The writer of one connection."""

    # Every chunk comes by here, and with hundreds of streams each object is cold in the cache.
    __slots__ = ("_fd", "_flush", "_loop", "_room", "transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, flush: float) -> None:
        """`flush`: seconds for the client to read the last bytes before the connection closes."""
        self.transport = transport
        self._loop = loop
        self._flush = flush
        given = transport.get_extra_info("socket")
        self._fd: int = -1 if given is None else given.fileno()
        self._room: asyncio.Event | None = None  # while the client is full

    @property
    def full(self) -> bool:
        """Whether the client reads too slowly to write more."""
        return self._room is not None

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

    def close(self, *, flush: bool) -> None:
        """Close. `flush`: the client has some seconds to read the last bytes."""
        if not flush:
            self.transport.abort()
            return
        waits = self.transport.get_write_buffer_size() > 0
        self.transport.close()
        if waits:  # a client that does not read would keep the connection, and a drain, for ever
            self._loop.call_later(self._flush, self.transport.abort)

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
