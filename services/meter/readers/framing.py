"""Framings: cutting a body into JSON payloads, wherever the chunks were cut. Pure; every `feed` takes any bytes.

Each framing yields `(event, payload)`: the SSE event name (b"" elsewhere) and the bytes of one JSON document.
A payload of more than `limit` bytes is dropped, so that a body without boundaries cannot take the meter's memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar, Final, Protocol

from services.meter.readers.brackets import Brackets
from services.meter.readers.pieces import LastBytes, pieces

MAX_PAYLOAD = 32 * 1024 * 1024
# An answer that is one document may be larger: a batch of embeddings is.
MAX_BODY = 64 * 1024 * 1024
_MAX_LINES: Final = 65_536  # of one event; providers send one, or a document that is printed in lines

Payload = tuple[bytes, bytes]


class Framing(Protocol):
    """One way of putting JSON documents into a body."""

    def feed(self, data: bytes) -> Iterator[Payload]: ...

    def skip(self) -> None:
        """Bytes are missing here: read on where the next document begins."""

    def close(self) -> Iterator[Payload]:
        """What is left when the body has ended, properly or not."""


class BlockFraming(Protocol):
    """A framing whose documents stand in blocks behind one separator, so that blocks can be skipped unread."""

    @property
    def separator(self) -> bytes: ...

    def feed(self, data: bytes) -> Iterator[Payload]: ...

    def close(self) -> Iterator[Payload]: ...

    def span(self, data: bytes) -> bytes:
        """Instead of `feed`: the blocks that are complete now, each with its separator."""

    def parse(self, block: bytes) -> Iterator[Payload]:
        """The documents of one block."""


class _Blocks:
    """Cuts bytes at a separator; joins what is pending only once a separator may be complete."""

    def __init__(self, separator: bytes, limit: int) -> None:
        self._separator = separator
        self._limit = limit
        self._pending: list[bytes] = []
        self._size = 0
        self._dropping = False

    def span(self, data: bytes) -> bytes:
        """The blocks that are complete now, each with its separator."""
        separator = self._separator
        if self._pending:
            edge = self._pending[-1][1 - len(separator) :] if len(separator) > 1 else b""
            if separator not in data and separator not in edge + data[: len(separator)]:
                self._keep(data)
                return b""
            data = b"".join((*self._pending, data))
            self._pending, self._size = [], 0
        end = data.rfind(separator) + len(separator)
        if end < len(separator):
            self._keep(data)
            return b""
        dropping, self._dropping = self._dropping, False
        self._keep(data[end:])
        return data[data.find(separator) + len(separator) if dropping else 0 : end]

    def skip(self) -> None:
        """Drop everything up to the next separator."""
        self._pending, self._size = [], 0
        self._dropping = True

    def rest(self) -> bytes:
        rest = b"" if self._dropping else b"".join(self._pending)
        self._pending, self._size = [], 0
        return rest

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._dropping = True
        if self._dropping:  # only what may be the beginning of a separator is still needed
            self._pending, self._size = [data[-len(self._separator) :]], len(self._separator)


_LINE_END = re.compile(rb"\r\n|\r|\n")


class Sse:
    """Server-Sent Events: lines end at CR, LF or CRLF and at nothing else, an event at an empty line.

    The first line end tells what separates blocks. Where it is CRLF, blocks are cut as they are and only those that
    are read get their line ends unified; a block may then hold several events, if a provider mixes line ends.
    """

    def __init__(self, limit: int = MAX_PAYLOAD) -> None:
        self.separator = b"\n\n"
        self._limit = limit
        self._blocks: _Blocks | None = None
        self._head: list[bytes] = []  # until the first line end
        self._head_size = 0
        self._held_cr = False

    def feed(self, data: bytes) -> Iterator[Payload]:
        for block in pieces(self.span(data), self.separator):
            yield from self.parse(block)

    def skip(self) -> None:
        self._head, self._held_cr = [], False
        self._blocks = self._blocks or _Blocks(self.separator, self._limit)
        self._blocks.skip()

    def close(self) -> Iterator[Payload]:
        # The standard drops an event without its empty line; here it may be the one that holds the usage.
        yield from self.parse(b"".join(self._head) if self._blocks is None else self._blocks.rest())

    def span(self, data: bytes) -> bytes:
        if self._blocks is None:
            end = self._first_line_end(data)
            self._head.append(data)
            self._head_size += len(data)
            if not end and self._head_size <= self._limit:
                return b""
            if end == b"\r\n":
                self.separator = b"\r\n\r\n"
            self._blocks = _Blocks(self.separator, self._limit)
            self._held_cr = False
            data, self._head = b"".join(self._head), []
        if self.separator == b"\n\n" and (self._held_cr or b"\r" in data):
            data = self._with_lf(data)
        return self._blocks.span(data)

    def parse(self, block: bytes) -> Iterator[Payload]:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for event in pieces(block, b"\n\n"):
            yield from _event(event)

    def _first_line_end(self, data: bytes) -> bytes:
        """The first line end, as far as it is known: an LF may follow a CR in the next chunk."""
        if self._held_cr and data:
            return b"\r\n" if data.startswith(b"\n") else b"\r"
        end = _LINE_END.search(data)
        if end is None:
            return b""
        self._held_cr = end[0] == b"\r" and end.end() == len(data)
        return b"" if self._held_cr else end[0]

    def _with_lf(self, data: bytes) -> bytes:
        if self._held_cr:
            data = b"\r" + data
        self._held_cr = data.endswith(b"\r")  # an LF may follow in the next chunk
        if self._held_cr:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(block: bytes) -> Iterator[Payload]:
    if block.startswith(b"data:") and b"\n" not in block:
        yield b"", block[5:].removeprefix(b" ")
        return
    name, data, other = b"", [], []
    for line in islice(pieces(block, b"\n"), _MAX_LINES):
        field, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            if data:  # the empty line before it was forgotten
                yield name, b"\n".join(data)
                data = []
            name = value
        elif field == b"error" and colon:  # gpustack ends a failed stream with this line instead of an event
            yield b"error", value
        elif (line and colon != b":") or field.lstrip()[:1] in (b"{", b'"', b"}"):
            other.append(line)
    if data:
        yield name, b"\n".join(data)
    elif other and other[0].lstrip().startswith(b"{"):
        yield b"error", b"\n".join(other)  # Gemini: a raw JSON error behind the events


class NdJson:
    """One JSON document a line."""

    separator: ClassVar[bytes] = b"\n"

    def __init__(self, limit: int = MAX_PAYLOAD) -> None:
        self._blocks = _Blocks(self.separator, limit)

    def feed(self, data: bytes) -> Iterator[Payload]:
        for line in pieces(self.span(data), self.separator):
            yield from self.parse(line)

    def skip(self) -> None:
        self._blocks.skip()

    def close(self) -> Iterator[Payload]:
        yield from self.parse(self._blocks.rest())

    def span(self, data: bytes) -> bytes:
        return self._blocks.span(data)

    def parse(self, block: bytes) -> Iterator[Payload]:
        if block.strip():
            yield b"", block


class JsonBody:
    """The whole body is one document."""

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.last: LastBytes | None = None  # instead of a document that is too large, or not all here

    def feed(self, data: bytes) -> Iterator[Payload]:
        self._size += len(data)
        if self.last is not None:
            self.last.add(data)
            return iter(())
        self._parts.append(data)
        if self._size > self._limit:
            self._cut_to(LastBytes(self._parts))
        return iter(())

    def skip(self) -> None:
        self._cut_to(LastBytes())

    def _cut_to(self, last: LastBytes) -> None:
        self._parts, self.last = [], last

    def close(self) -> Iterator[Payload]:
        body, self._parts = b"".join(self._parts), []
        if body and not body.isspace():
            yield b"", body


def _cut_element(rest: bytes) -> Iterator[Payload]:
    """What came of an element that was cut: not a document, but text may stand in it."""
    element = rest.lstrip(b"[, \t\r\n")
    if element.startswith(b"{"):
        yield b"", element


class LinedArray:
    """The rest of a JSON array whose elements, and nothing inside them, end with a brace at a line's beginning.

    So Google prints its arrays, with all that is inside indented; line ends inside strings are escaped.
    """

    separator: ClassVar[bytes] = b"\n}"

    def __init__(self, limit: int = MAX_PAYLOAD) -> None:
        self._blocks = _Blocks(self.separator, limit)

    def feed(self, data: bytes) -> Iterator[Payload]:
        span = self.span(data)
        if span:
            for block in pieces(span.removesuffix(self.separator), self.separator):
                yield from self.parse(block)

    def skip(self) -> None:
        self._blocks.skip()

    def close(self) -> Iterator[Payload]:
        yield from _cut_element(self._blocks.rest())

    def span(self, data: bytes) -> bytes:
        return self._blocks.span(data)

    def parse(self, block: bytes) -> Iterator[Payload]:
        yield b"", block.lstrip(b"[, \t\r\n") + self.separator


_ELEMENTS_TO_TELL = 2


class JsonArray:
    """Documents as the elements of one JSON array, as Gemini streams without `alt=sse`.

    With `quick`, it stops after the first elements where they are lined; `rest` is then for a LinedArray.
    """

    def __init__(self, limit: int = MAX_PAYLOAD, *, quick: bool = False) -> None:
        self.lined = False
        self._limit = limit
        self._quick = quick
        self._elements = 0
        self._brackets = Brackets()
        self._depth = 0
        self._parts: list[bytes] = []  # the element that has begun
        self._size = 0
        self._dropping = False
        self.last: LastBytes | None = None  # of an array that is not all here
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Payload]:
        if self.last is not None:
            self.last.add(data)
            return iter(())
        if self.lined:
            self._rest += data
            return iter(())
        return self._read(data)

    def skip(self) -> None:
        """Where the next element begins cannot be told without the brackets before it."""
        self.last = LastBytes()
        self._parts = []

    def _read(self, data: bytes) -> Iterator[Payload]:
        start = 0
        for at, opens in self._brackets.feed(data):
            self._depth += 1 if opens else -1
            if opens and self._depth == 2:
                start = at - 1
            elif not opens and self._depth == 1:
                yield from self._element(data[start:at])
                if self.lined:
                    self._rest = data[at:]
                    return
        if self._depth >= 2:
            self._keep(data[start:])

    def close(self) -> Iterator[Payload]:
        yield from _cut_element(b"".join(self._parts))

    def rest(self) -> bytes:
        """What is left behind the elements that were yielded."""
        return self._rest

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        self._dropping = self._dropping or self._size > self._limit
        if self._dropping:
            self._parts = []
        else:
            self._parts.append(data)

    def _element(self, end: bytes) -> Iterator[Payload]:
        element, dropped = b"".join((*self._parts, end)), self._dropping
        self._parts, self._size, self._dropping = [], 0, False
        if dropped:
            return
        lined = element.endswith(LinedArray.separator) and element.count(LinedArray.separator) == 1
        self._quick = self._quick and lined
        self._elements += 1
        self.lined = self._quick and self._elements == _ELEMENTS_TO_TELL
        yield b"", element
