"""A request's body: a bounded buffer between the parser and the reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Protocol

_HIGH_WATER = 64 * 1024


class Reading(Protocol):
    """The client's socket, as far as reading from it can be paused."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _State(Enum):
    COMING = auto()
    WHOLE = auto()  # its last byte is here
    LEFT = auto()  # the client has left; no more will come
    UNWANTED = auto()  # the answer is complete: further bytes are dropped


class BodyStream:
    """Fed by the parser. Above 64 KiB it pauses the socket until it is read."""

    __slots__ = ("_data", "_reading", "_state", "_told")

    def __init__(self, reading: Reading) -> None:
        self._data = bytearray()
        self._reading = reading
        self._state = _State.COMING
        self._told: Callable[[], None] | None = None

    @property
    def coming(self) -> bool:
        """Whether more bytes are expected."""
        return self._state is _State.COMING

    @property
    def unwanted(self) -> bool:
        """Whether the answer was complete before the body's last byte was here."""
        return self._state is _State.UNWANTED

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        if self._state is not _State.COMING:
            return
        self._data += data
        if len(self._data) > _HIGH_WATER:
            self._reading.pause_reading()
        self._wake()

    def end(self) -> None:
        """The last byte was fed."""
        if self._state is _State.COMING or self._state is _State.UNWANTED:
            self._state = _State.WHOLE
            self._wake()

    def leave(self) -> None:
        """The client has left."""
        self._state = _State.LEFT
        self._wake()

    def drop(self) -> None:
        """Nobody will read it any more."""
        if self._state is _State.COMING:
            self._state = _State.UNWANTED
        self._data = bytearray()

    def whole(self) -> bytes | None:
        """The whole body, if it is here; `read` then returns b""."""
        return self._take() if self._state is _State.WHOLE else None

    @property
    def left(self) -> bool:
        """Whether the client has left before the end."""
        return self._state is _State.LEFT

    def take(self) -> bytes | None:
        """The bytes that are here; b"" at the end, None where more must come first."""
        taken = self._take() if self._data or self._state is not _State.COMING else None
        self._reading.resume_reading()
        return taken

    def tell(self, changed: Callable[[], None]) -> None:
        """Call `changed` once, when more is here or no more will come."""
        self._told = changed

    async def read(self) -> bytes | None:
        """The next bytes; b"" at the end, None where the client left before it."""
        while self._state is _State.COMING and not self._data:
            self._reading.resume_reading()
            await self._wait()
        return None if self._state is _State.LEFT else self._take()

    def _take(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told = partial(_set, waiter)
        try:
            await waiter
        finally:
            self._told = None

    def _wake(self) -> None:
        told, self._told = self._told, None
        if told is not None:
            told()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
