"""What a client's connection waits for, and for how long at most. No I/O (decision 49)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from services.gateway.client.deadline import Clock, Deadline


class Limits(NamedTuple):
    """Limits of a request head, in bytes, lines and seconds, and of a connection, in seconds and bytes."""

    max_header_bytes: int
    max_header_lines: int
    header_timeout: float
    keep_alive_timeout: float
    slow_reader_timeout: float = 60.0  # for a client that takes nothing of the rest of its answer
    slow_reader_drain: float = 5.0  # the same, once the process is shutting down
    linger_timeout: float = 30.0  # for a client that was refused to end what it sends
    linger_silence: float = 5.0  # between two reads of that
    linger_bytes: int = 256 * 1024 * 1024


class Awaits(Enum):
    """What is waited for."""

    HEAD = auto()  # the first one, or the rest of one that has begun
    NEXT = auto()  # the next request
    NOTHING = auto()  # the client waits for an answer
    READER = auto()  # the client has not taken the rest of its answer
    END = auto()  # the answer is complete and the connection ends, but the client is still sending


class Waiting:
    """The wait of one connection; `reached` is called at its end."""

    __slots__ = ("_clock", "_deadline", "_discarded", "_limits", "_since", "_unsent", "awaits")

    def __init__(self, clock: Clock, limits: Limits, reached: Callable[[], None]) -> None:
        self.awaits = Awaits.NOTHING
        self._clock = clock
        self._deadline = Deadline(clock, reached)
        self._discarded = 0
        self._limits = limits
        self._since = 0.0  # when the client last took something, or began to be lingered for
        self._unsent = 0

    def nothing(self) -> None:
        self.awaits = Awaits.NOTHING
        self._deadline.clear()

    def head(self) -> None:
        self.awaits = Awaits.HEAD
        self._deadline.set(self._limits.header_timeout)

    def next(self) -> None:
        self.awaits = Awaits.NEXT
        self._deadline.set(self._limits.keep_alive_timeout)

    def reader(self, unsent: int, *, draining: bool) -> bool:
        """Wait until the client takes `unsent` bytes. False where it has taken nothing for too long."""
        now = self._clock.time()
        if self.awaits is not Awaits.READER or unsent < self._unsent:
            self._since = now
        self.awaits, self._unsent = Awaits.READER, unsent
        limit = self._limits.slow_reader_drain if draining else self._limits.slow_reader_timeout
        return self._until(self._since + limit)

    def end(self, discarded: int = 0, *, draining: bool) -> bool:
        """Wait until the client closes; `discarded` is the size of what it has sent since. False where it is too
        much, or has taken too long."""
        if self.awaits is not Awaits.END:
            self.awaits, self._since = Awaits.END, self._clock.time()
        self._discarded += discarded
        limits = self._limits
        latest = self._since + (limits.linger_silence if draining else limits.linger_timeout)
        return self._discarded <= limits.linger_bytes and self._until(
            min(latest, self._clock.time() + limits.linger_silence)
        )

    def close(self) -> None:
        """The connection is gone."""
        self._deadline.close()

    def _until(self, at: float) -> bool:
        left = at - self._clock.time()
        if left > 0:
            self._deadline.set(left)
        return left > 0
