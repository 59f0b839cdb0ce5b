"""Finding the documents that say something without decoding the others. Pure.

A name of a field is a mark only where it has a value: streams repeat `"usage":null` and `"finish_reason":null` in every
chunk. White space around the colon means nothing in JSON, so it means nothing here.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from services.meter.readers.reading import Marks

# Behind a name: a value that says nothing, or something else than a value.
_SILENT: Final = re.compile(rb"\s*(?::\s*(?:null|false)|[^:\s])")


# Bytes that may follow the sign of a stream's end: a usage that comes late, a comment.
_NEAR: Final = 4096


def every(span: bytes, marks: Marks) -> Iterator[int]:
    """Where to look whatever else there is: mark by mark, the places of each in order from one end."""
    for mark in marks.every:
        yield from places(span, mark)
    for mark in marks.final:
        yield from places(span, mark, max(0, len(span) - _NEAR))
    for key in marks.every_key:
        yield from _speaking(span, key, len(span))


def from_the_back(span: bytes, marks: Marks) -> Iterator[int]:
    """Where the marks are of which only the last has a say: the last first, and no further than is asked."""
    found = [places(span, mark) for mark in marks.last]
    found += [_speaking_from_the_back(span, key) for key in marks.last_key]
    return found[0] if len(found) == 1 else heapq.merge(*found, reverse=True)


def holds(payload: bytes, marks: Marks) -> bool:
    """Whether a payload has any of them."""
    if any(mark in payload for mark in (*marks.every, *marks.last, *marks.final)):
        return True
    return any(any(_speaking(payload, key, len(payload))) for key in (*marks.every_key, *marks.last_key))


def places(span: bytes, mark: bytes, start: int = 0) -> Iterator[int]:
    """Everywhere a mark is, from the back: CPython searches three to five times faster from there."""
    at = span.rfind(mark, start)
    while at >= 0:
        yield at
        at = span.rfind(mark, start, at)


def _speaking(span: bytes, key: bytes, before: int) -> Iterator[int]:
    """Where the end of that name is, in order, if a value follows it."""
    for match in _pattern(key).finditer(span, 0, before):
        if not _SILENT.match(span, match.end()):
            yield match.end()


def _speaking_from_the_back(span: bytes, key: bytes) -> Iterator[int]:
    """The same from the back. The last is tried alone, since most often that is the one."""
    at = span.rfind(key)
    if at >= 0 and not _SILENT.match(span, at + len(key)):
        yield at + len(key)
    if at >= 0:
        yield from reversed([*_speaking(span, key, at)])


@cache
def _pattern(key: bytes) -> re.Pattern[bytes]:
    """The name without the values that say nothing, in the usual spellings: one pass, at a gigabyte a second."""
    return re.compile(re.escape(key) + rb"(?!: ?null)(?!: ?false)")
