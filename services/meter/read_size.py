"""How many records are read at once: as many as are asked for, and fewer where records are large. Pure.

Redis counts records and not bytes, and a record may have megabytes. So the number follows from the largest one of the
last reads, with room for one that is larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.contract.tail import StreamEntry

READ_BYTES: Final = 8 * 1024 * 1024
_AT_FIRST: Final = 128 * 1024  # a segment, and some of it


class ReadSize:
    """The number for the next read, `count`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._largest = _AT_FIRST

    @property
    def count(self) -> int:
        return max(1, min(self._most, READ_BYTES // self._largest))

    def saw(self, entries: Sequence[StreamEntry]) -> None:
        """Learn from what was read: at once of a large record, and with half a weight for each full read of others."""
        if not entries:
            return
        largest = max(len(entry.fields.get(b"r", b"")) for entry in entries)
        fading = self._largest // 2 if len(entries) >= self.count else self._largest
        self._largest = max(largest, fading, 1)
