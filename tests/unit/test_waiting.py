"""How long a connection waits for its client, on a clock of its own."""

from __future__ import annotations

import pytest

from services.gateway.client.waiting import Awaits, Limits, Waiting
from tests.support.clock import Clock

LIMITS = Limits(
    max_header_bytes=1,
    max_header_lines=1,
    header_timeout=10,
    keep_alive_timeout=75,
    slow_reader_timeout=60,
    slow_reader_drain=5,
    linger_timeout=30,
    linger_silence=6,
    linger_bytes=1000,
)


class Waited:
    """A connection that waits, and what came of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reached: list[float] = []
        self.waiting = Waiting(self.clock, LIMITS, lambda: self.reached.append(self.clock.now))


def test_a_head_and_the_next_request() -> None:
    one = Waited()
    one.waiting.head()
    one.clock.move_to(9)
    one.waiting.next()
    one.clock.move_to(80)
    assert one.reached == []
    one.waiting.nothing()
    one.clock.move_to(500)
    assert one.reached == []
    one.waiting.head()
    one.clock.move_to(600)
    assert one.reached == [510]


# What the client has not taken and when we look; since when the process shuts down; when it is given up.
READERS: dict[str, tuple[list[tuple[float, int]], float, float]] = {
    "takes nothing": ([(0, 9), (60, 9)], 1000, 60),
    "takes it slowly": ([(0, 9), (60, 8), (120, 7), (180, 7)], 1000, 180),
    "takes nothing more": ([(0, 9), (30, 3), (90, 3)], 1000, 90),
    "takes nothing, long before the drain": ([(0, 9), (20, 9)], 20, 20),
    "takes nothing, shortly before the drain": ([(0, 9), (2, 9), (5, 9)], 2, 5),
    "begins in the drain": ([(50, 9), (55, 9)], 20, 55),
}


@pytest.mark.parametrize("name", READERS)
def test_readers(name: str) -> None:
    looks, drains, given_up = READERS[name]
    one = Waited()
    for at, unsent in looks:
        one.clock.move_to(at)
        assert one.waiting.reader(unsent, draining=at >= drains) is (at < given_up)
    assert one.waiting.awaits is Awaits.READER


# What still comes and when; since when the process shuts down; when it is given up.
ENDS: dict[str, tuple[list[tuple[float, int]], float, float]] = {
    "much": ([(0, 0), (1, 600), (2, 400), (3, 1)], 1000, 3),
    "for long": ([(at, 1) for at in range(0, 35, 5)], 1000, 30),
    "into the drain": ([(0, 0), (5, 1), (6, 1)], 6, 6),
    "in the drain": ([(0, 0), (5, 1), (6, 1)], 0, 6),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends(name: str) -> None:
    comes, drains, given_up = ENDS[name]
    one = Waited()
    for at, size in comes:
        one.clock.move_to(at)
        assert one.waiting.end(size, draining=at >= drains) is (at < given_up)
    assert set(one.reached) <= {given_up}


def test_an_end_in_silence() -> None:
    one = Waited()
    one.waiting.end(draining=False)
    one.clock.move_to(5)
    one.waiting.end(1, draining=False)
    one.clock.move_to(50)
    assert one.reached == [11]
