"""A time limit that is moved far more often than it is reached: moving it costs no timer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class _Timer(Protocol):
    def cancel(self) -> None: ...

    def when(self) -> float: ...


class Clock(Protocol):
    """An event loop, as far as it is used here."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> _Timer: ...


class Deadline:
    """Calls `reached` when the time of the last `set` is over."""

    __slots__ = ("_at", "_clock", "_reached", "_timer")

    def __init__(self, clock: Clock, reached: Callable[[], None]) -> None:
        self._clock = clock
        self._reached: Callable[[], None] | None = reached
        self._at: float | None = None
        self._timer: _Timer | None = None

    def set(self, seconds: float) -> None:
        """Set the limit, in seconds from now, in place of the one before."""
        at = self._at = self._clock.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= at:
                return  # `_ring` sets the timer anew
            self._timer.cancel()
        self._timer = self._clock.call_later(seconds, self._ring)

    def clear(self) -> None:
        self._at = None

    def close(self) -> None:
        """Never call `reached` again."""
        self._at = self._reached = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._at is None or self._reached is None:
            return
        left = self._at - self._clock.time()
        if left > 0:
            self._timer = self._clock.call_later(left, self._ring)
        else:
            self._at = None
            self._reached()
