"""How much of one answer is copied for the meter: its beginning, and of what follows the last bytes (decision 69).

Usage stands at the end of a stream, and at the beginning or the end of a document. What lies between is relayed, and
would fill journal, Redis and meters: a file that is downloaded buys no tokens.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from shared.contract.dialects import TOKENLESS, Dialect

LAST_BYTES: Final = 256 * 1024


class CopyLimits(NamedTuple):
    """The most bytes that are copied from the beginning of one answer."""

    counted: int = 16 * 1024 * 1024  # of dialects whose text may have to be counted
    uncounted: int = 2 * 1024 * 1024  # of files, audio, images, lists: at most a report is read in them

    def of(self, dialect: Dialect) -> int:
        return self.uncounted if dialect in TOKENLESS else self.counted


class CopyBudget:
    """The budget of one answer."""

    __slots__ = ("_last", "_last_size", "_room", "gap", "lost", "no_room")

    def __init__(self, room: int) -> None:
        self.lost = 0  # bytes that were not copied
        self.no_room = 0  # of these, the ones that were to be
        self.gap = 0  # of these, the ones since the last record
        self._room = room
        self._last: deque[bytes] | None = None  # the bytes behind the room, as far as they are held
        self._last_size = 0

    @property
    def spent(self) -> bool:
        """Whether further bytes are only held: they are copied if the answer ends with them."""
        return self._room <= 0

    def spend(self, size: int) -> None:
        self._room -= size

    def lose(self, size: int) -> None:
        """Neither memory nor the journal has room for bytes that were to be copied."""
        self.no_room += size
        self._skip(size)

    def hold(self, body: bytes) -> None:
        """Hold the next bytes in place of those that came long before them."""
        last = self._last = self._last if self._last is not None else deque()
        last.append(body)
        self._last_size += len(body)
        while self._last_size - len(last[0]) >= LAST_BYTES:
            size = len(last.popleft())
            self._last_size -= size
            self._skip(size)

    def last(self) -> bytes:
        """The bytes that are held."""
        return b"".join(self._last or ())

    def take_gap(self) -> int:
        """The bytes missing before the record that is made now."""
        gap, self.gap = self.gap, 0
        return gap

    def _skip(self, size: int) -> None:
        self.lost += size
        self.gap += size
