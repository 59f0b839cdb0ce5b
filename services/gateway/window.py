"""How much totals have grown lately. Pure: clocks are handed in.

What counts adds to a plain total, and nothing else: the totals are noted now and then, by whoever has a clock.
"""

from __future__ import annotations

from collections import deque

Totals = tuple[int, ...]


class Window:
    """Notes of totals, for a look back over `seconds`, exact to `every` seconds."""

    __slots__ = ("_every", "_notes", "_seconds")

    def __init__(self, seconds: float, every: float) -> None:
        self._every = every
        self._notes: deque[tuple[float, Totals]] = deque()
        self._seconds = seconds

    def note(self, now: float, totals: Totals) -> None:
        """The totals are these at `now`, monotonic seconds."""
        if not self._notes or now - self._notes[-1][0] >= self._every:
            self._notes.append((now, totals))
        while len(self._notes) > 1 and self._notes[1][0] <= now - self._seconds:
            self._notes.popleft()

    def grown(self, totals: Totals) -> Totals:
        """By how much they have grown in the window, given what they are now."""
        if not self._notes:
            return totals
        return tuple(now - then for now, then in zip(totals, self._notes[0][1], strict=True))
