"""Pieces of bytes in bounded memory. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

_MAX_LAST: Final = 256 * 1024
_AT_ONCE: Final = 256 * 1024


class LastBytes:
    """The last bytes of those that were added, some hundred kilobytes."""

    def __init__(self, parts: Iterable[bytes] = ()) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        for part in parts:
            self.add(part)

    def add(self, data: bytes) -> None:
        self._parts.append(data[-_MAX_LAST:])
        self._size += len(self._parts[-1])
        while self._size - len(self._parts[0]) >= _MAX_LAST:
            self._size -= len(self._parts.popleft())

    def joined(self) -> bytes:
        return b"".join(self._parts)


def pieces(data: bytes, separator: bytes) -> Iterable[bytes]:
    """`data.split(separator)`; where it may be millions of pieces, one after the other."""
    return data.split(separator) if len(data) <= _AT_ONCE else _one_by_one(data, separator)


def _one_by_one(data: bytes, separator: bytes) -> Iterator[bytes]:
    at = 0
    while (end := data.find(separator, at)) >= 0:
        yield data[at:end]
        at = end + len(separator)
    yield data[at:]
