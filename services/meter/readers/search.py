"""Finding the documents that say something without decoding the others. Pure.

A name of a field is a mark only where it has a value: streams repeat `"usage":null` and `"finish_reason":null` in every
chunk. White space around the colon means nothing in JSON, so it means nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from services.meter.readers.reading import Marks


class Block(NamedTuple):
    """The bytes between two separators."""

    start: int
    end: int


# Behind a name: a value that says nothing, or something else than a value.
_SILENT: Final = re.compile(rb"\s*(?::\s*(?:null|false)|[^:\s])")


# Bytes that may follow the sign of a stream's end: a usage that comes late, a comment.
_NEAR: Final = 4096


def every(span: bytes, marks: Marks, separator: bytes) -> Iterator[Block]:
    """The blocks to look at whatever else there is, in no order, some of them more than once."""
    for mark in marks.every:
        yield from blocks(span, mark, separator)
    for mark in marks.final:
        yield from blocks(span, mark, separator, max(0, len(span) - _NEAR))
    for key in marks.every_key:
        at = 0
        while (at := _speaking(span, key, at)) >= 0:
            yield (block := block_around(span, at, separator))
            at = block.end


def blocks(span: bytes, mark: bytes, separator: bytes, start: int = 0) -> Iterator[Block]:
    """Each block that holds a mark, once."""
    at = start
    while (at := span.find(mark, at)) >= 0:
        yield (block := block_around(span, at, separator))
        at = max(block.end, at + len(mark))


class Latest:
    """Finds the last of those marks of which only the last has a say, and on request the ones before it. However often
    it is asked, each byte is searched once for each mark."""

    def __init__(self, span: bytes, marks: Marks) -> None:
        self._span = span
        self._keys = frozenset(marks.last_key)
        spoken = [key for key in marks.last_key if _speaking(span, key, 0) >= 0]  # one pass, and mostly the last one
        self._places = dict.fromkeys((*marks.last, *spoken), len(span))

    def before(self, end: int) -> int:
        """The last mark that ends before `end`; -1 for none. `end` must not grow from call to call."""
        for mark, at in self._places.items():
            if at >= end:
                self._places[mark] = self._previous(mark, end)
        return max(self._places.values(), default=-1)

    def _previous(self, mark: bytes, end: int) -> int:
        at = self._span.rfind(mark, 0, end)
        while at >= 0 and mark in self._keys and _SILENT.match(self._span, at + len(mark)):
            at = self._span.rfind(mark, 0, at)
        return at


def holds(payload: bytes, marks: Marks) -> bool:
    """Whether a payload has any of them."""
    if any(mark in payload for mark in (*marks.every, *marks.last, *marks.final)):
        return True
    return any(_speaking(payload, key, 0) >= 0 for key in (*marks.every_key, *marks.last_key))


def block_around(span: bytes, at: int, separator: bytes) -> Block:
    """The block that holds the byte `at`."""
    start, end = span.rfind(separator, 0, at), span.find(separator, at)
    return Block(0 if start < 0 else start + len(separator), len(span) if end < 0 else end)


def _speaking(span: bytes, key: bytes, start: int) -> int:
    """Where the next name of that kind ends that has a value; -1 for none."""
    for match in _pattern(key).finditer(span, start):
        if not _SILENT.match(span, match.end()):
            return match.end()
    return -1


@cache
def _pattern(key: bytes) -> re.Pattern[bytes]:
    """The name without the values that say nothing, in the usual spellings: one pass, at a gigabyte a second."""
    return re.compile(re.escape(key) + rb"(?!: ?null)(?!: ?false)")
