"""An event loop's clock that a test moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Timer:
    """One call, later."""

    at: float
    call: Callable[[], Any]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def when(self) -> float:
        return self.at


class Clock:
    """A clock that the test moves; it makes the calls that are due."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> Timer:
        self.made += 1
        self.timers.append(Timer(self.now + delay, callback))
        return self.timers[-1]

    def move_to(self, at: float) -> None:
        while due := [timer for timer in self.timers if timer.at <= at and not timer.cancelled]:
            first = min(due, key=Timer.when)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = at
