"""A transport in memory that keeps the calls of the connection on it."""

from __future__ import annotations

import asyncio


class Wire(asyncio.Transport):
    """The connection's calls on its socket."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        super().__init__({"peername": (address, 80)})
        self.sent = b""
        self.aborted = False
        self.paused = False
        self.lost = False
        self.connection: asyncio.Protocol | None = None  # whose calls these are

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
