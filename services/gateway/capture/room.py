"""The room that a journal has: its limit, or less where its disk has less."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

_RESERVE = 1024 * 1024  # of the disk: running exchanges go on, and write more
_AGAIN = 0.8  # a full journal takes new exchanges again below this, so that answers do not alternate (decision 67)
_FILE_BYTES = 8 * 1024 * 1024
_LEAST_FILE_BYTES = 64 * 1024
_FILES = 8  # at least, so that some can be deleted while another is written

log = logging.getLogger(__name__)


def free_bytes(folder: Path) -> int:
    """Bytes that this process may still write to the folder's disk. OSError where there is no such folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Room:
    """`full`: no new exchange may begin. It is full at its limit, and until a fifth is free again."""

    def __init__(self, limit: int, free: Callable[[Path], int] = free_bytes) -> None:
        self.full = False
        self._limit = limit
        self._free = free
        self._reserve = _RESERVE
        self._resize(limit)

    def fill(self, size: int) -> float:
        """How much of the room is used, 0 to 1."""
        return 1.0 if size >= self._capacity else size / self._capacity

    def exhausted(self, size: int) -> bool:
        """Whether running exchanges may not write either. What is kept of the disk for them is theirs."""
        return size >= self._limit

    def look(self, folder: Path, size: int) -> None:
        """Ask the disk; `size`: bytes that the journal has there. OSError where the folder is gone."""
        self._resize(min(self._limit, size + self._free(folder) - self._reserve))
        self.judge(size)

    def judge(self, size: int) -> None:
        """Note that the journal has this size now."""
        if size < self._capacity and not self.full:
            return
        full = self.fill(size) >= (_AGAIN if self.full else 1.0)
        if full != self.full:
            log.error("the journal is full") if full else log.warning("the journal has room again")
        self.full = full

    def refused(self, size: int, wanted: int) -> None:
        """The disk had no room for `wanted` more bytes."""
        self._resize(min(self._capacity, size))
        self._reserve = max(self._reserve, wanted)
        self.full = True

    def _resize(self, capacity: int) -> None:
        self._capacity = capacity
        self.file_bytes = max(_LEAST_FILE_BYTES, min(_FILE_BYTES, capacity // _FILES))  # at which a file ends
