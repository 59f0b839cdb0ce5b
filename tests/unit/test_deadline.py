"""A deadline that moves, on a clock of its own."""

from __future__ import annotations

import pytest

from services.gateway.client.deadline import Deadline
from tests.support.clock import Clock

SET, CLEAR, CLOSE = "set", "clear", "close"
# What is done and when; when it is reached, if ever; how many timers that takes at most.
CASES: dict[str, tuple[list[tuple[float, str, float]], list[float], int]] = {
    "reached": ([(0, SET, 5)], [5], 1),
    "put off": ([(0, SET, 5), (3, SET, 5)], [8], 2),
    "put off again and again": ([(at / 10, SET, 5) for at in range(200)], [24.9], 6),
    "drawn nearer": ([(0, SET, 50), (1, SET, 5)], [6], 2),
    "cleared": ([(0, SET, 5), (3, CLEAR, 0)], [], 1),
    "cleared and set": ([(0, SET, 5), (3, CLEAR, 0), (9, SET, 5)], [14], 2),
    "closed": ([(0, SET, 5), (3, CLOSE, 0)], [], 1),
    "twice": ([(0, SET, 5), (9, SET, 5)], [5, 14], 2),
}


@pytest.mark.parametrize("name", CASES)
def test_deadlines(name: str) -> None:
    steps, reached, timers = CASES[name]
    clock = Clock()
    seen: list[float] = []
    deadline = Deadline(clock, lambda: seen.append(clock.now))
    for at, what, seconds in steps:
        clock.move_to(at)
        if what == SET:
            deadline.set(seconds)
        else:
            getattr(deadline, what)()
    clock.move_to(100)
    assert seen == reached
    assert clock.made <= timers
    assert not [timer for timer in clock.timers if not timer.cancelled]
