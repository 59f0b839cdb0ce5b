"""A reader for one answer: picks the framing by the first bytes and the shape by the first documents, and is fed
bytes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from services.meter.readers import documents, search
from services.meter.readers.eventstream import EventStream
from services.meter.readers.framing import BlockFraming, Framing, JsonArray, JsonBody, LinedArray, NdJson, Sse
from services.meter.readers.reading import BadUsage, Json, Reading
from services.meter.readers.settled import settle
from services.meter.readers.shapes import ShapeReader
from shared.contract.dialects import Dialect
from shared.contract.usage import Usage

_BOM = b"\xef\xbb\xbf"

# The first documents are always decoded, because they name the response and its model. Azure's first names nothing.
_NAMING_DOCUMENTS = range(2, 16)

# Searching costs more than it saves where fewer bytes than these are left.
_SHORT = 512

# Beside a dialect's own marks: errors, inside the documents and outside (`event: error`, a line `error: …`).
_ERROR = b"error"

# Content types of JSON lines; OpenAI calls the result of a batch a file like any other.
_OF_LINES: Final = ("ndjson", "stream+json", "jsonl", "octet-stream")

# Bytes that are kept until the first document was read, to look at them in every other way if there is none.
_MAX_KEPT = 4 * 1024 * 1024
_NO_GAP: Final = object()
# What an event stream may hold and still have said nothing: comments, fields without data, line ends.
_SILENCE: Final = re.compile(rb"(?m)^(?::.*|(?:event|id|retry)(?::.*)?|data:[ \t]*)\r?$")


class Reader:
    """Reads one answer. `feed` takes any bytes, cut anywhere, and never raises on them.

    With `observe` the visible output is collected too, which means decoding every document.
    """

    def __init__(self, dialect: Dialect, content_type: str = "", *, observe: bool = False) -> None:
        self._shape = ShapeReader(dialect)
        self._reading = self._shape.reading
        self._lines = any(kind in content_type for kind in _OF_LINES)
        self._lines = self._lines or (dialect == Dialect.OLLAMA_CHAT and "json" not in content_type)
        self._observe = observe
        self._framing: Framing | None = None
        self._head = b""
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._closing = False
        self._before_gap: Usage | object | None = _NO_GAP  # what was reported there

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._framing is None:
            # DeepSeek sends empty lines before an answer. No more than a part of a byte order mark is kept.
            data = (self._head + data).removeprefix(_BOM).lstrip()
            if not data or _BOM.startswith(data):
                self._head = data
                return
            self._framing = self._framing_for(data[:1])
        self._keep(data)
        self._read_from(self._framing, data)
        if isinstance(self._framing, JsonArray) and self._framing.lined:
            rest, self._framing = self._framing.rest(), LinedArray()
            self._read_from(self._framing, rest)

    def gap(self) -> None:
        """Bytes of the body are missing here. What stands behind them is read from the next document on."""
        self._head = b""
        if self._framing is None:
            self._framing = Sse()
        self._framing.skip()
        self._before_gap = self._shape.reading.usage

    def close(self) -> Reading:
        """The body has ended, properly or not: what was read."""
        self._closing = True
        if self._framing is not None:
            for event, payload in self._framing.close():
                self._take(event, payload)
            self._take_ending(self._framing)
            if not self._reading.documents and self._before_gap is _NO_GAP:
                self._look_again(b"".join(self._kept))
        self._shape.close()
        reading = self._reading
        # A sum lacks what is missing; any other report counts it, if it stands behind the gap.
        behind = reading.usage is not self._before_gap and not reading.sums
        reading.reported_last = self._before_gap is _NO_GAP or behind
        return settle(reading)

    def _keep(self, data: bytes) -> None:
        if self._reading.documents:
            self._kept = []
        elif self._kept_size < _MAX_KEPT:
            self._kept.append(data)
            self._kept_size += len(data)

    def _framing_for(self, first: bytes) -> Framing:
        """By the first byte that is no white space; the content type settles what a brace begins."""
        if first == b"\0":  # a frame's length
            return EventStream()
        if first == b"[":
            return JsonArray(quick=not self._observe)
        if first == b"{":
            if self._lines:
                return NdJson()
            self._observe = True  # one document is decoded as a whole anyway
            return JsonBody()
        return Sse()

    def _read_from(self, framing: Framing, data: bytes) -> None:
        if isinstance(framing, (Sse, NdJson, LinedArray)) and not self._observe:
            span = framing.span(data)
            read = self._read_beginning(framing, span)
            if read < len(span):
                self._scan(framing, span[read:])
            return
        for event, payload in framing.feed(data):
            self._take(event, payload)

    def _read_beginning(self, framing: BlockFraming, span: bytes) -> int:
        """Read block by block until the answer has told its name, and to the end where that is near; how many bytes
        that took."""
        at = 0
        while at < len(span) and (not self._named or len(span) - at < _SHORT):
            end = span.find(framing.separator, at)
            end = len(span) if end < 0 else end
            self._reading.passed_over += end - at  # a report sets it to 0
            for event, payload in framing.parse(span[at:end]):
                self._take(event, payload)
            at = end + len(framing.separator)
        return at

    @property
    def _named(self) -> bool:
        """Whether the beginning was read as far as it matters."""
        reading = self._reading
        if reading.sums:
            return False
        named = bool(reading.response_id) and reading.documents >= _NAMING_DOCUMENTS.start
        return named or reading.documents >= _NAMING_DOCUMENTS.stop

    def _scan(self, framing: BlockFraming, span: bytes) -> None:
        """Read only the blocks that matter: searching for marks is many times faster than cutting every block out."""
        marks = self._shape.marks
        places = itertools.chain(search.places(span, _ERROR), search.every(span, marks))
        wanted = dict(_blocks_around(span, framing.separator, places))
        # By where a block begins, whether it reported usage.
        taken = {start: self._take_block(framing, span[start : wanted[start]]) for start in sorted(wanted)}
        last = max((wanted[start] for start in taken if taken[start]), default=0)
        for start, end in _blocks_around(span, framing.separator, search.from_the_back(span, marks)):
            if taken[start] if start in taken else self._take_block(framing, span[start:end]):
                last = max(last, end)
                break
        self._reading.passed_over = len(span) - last if last else self._reading.passed_over + len(span)

    def _take_block(self, framing: BlockFraming, block: bytes) -> bool:
        """Read a block; whether it reported usage, true or not."""
        reading = self._reading
        before = reading.usage
        reading.bad_usage, bad = "", reading.bad_usage
        for event, payload in framing.parse(block):
            self._take(event, payload)
        reported = (reading.usage is not before and not reading.empty_report) or bool(reading.bad_usage)
        reading.bad_usage = reading.bad_usage if reported else bad
        return reported

    def _take(self, event: bytes, payload: bytes) -> None:
        if len(payload) < 16 and payload.strip() == documents.DONE:
            self._take_document(event, documents.DONE)
            return
        if not self._observe and self._named and not self._matters(event, payload):
            self._reading.passed_over += len(payload)
            return
        document = documents.decode(payload)
        if document is not None:
            self._reading.whole = isinstance(self._framing, JsonBody)
            self._take_document(event, document)
            return
        found = list(documents.several(payload))
        for document in found:
            self._take_document(event, document)
        if self._closing:
            cut = self._reading.sums and documents.decode(payload.rstrip().rpartition(b"\n")[2]) is None
            self._reading.broke_off = not found or cut
        if not found and not self._take_beginning(event, payload):
            self._reading.unread += len(payload)

    def _take_document(self, event: bytes, document: Any) -> None:
        self._reading.documents += 1
        if document is documents.DONE:
            self._shape.done()
        elif isinstance(document, dict):
            self._read(event, document, observe=self._observe)

    def _take_beginning(self, event: bytes, payload: bytes) -> bool:
        """Observe the last document where it broke off; what it reports is not read, for a number may have been cut."""
        # Half a line of a batch's result would be summed as a whole one.
        document = documents.beginning(payload) if self._closing and not self._reading.sums else None
        if not isinstance(document, dict):
            return False
        reading = self._reading
        before = replace(reading, finish=[*reading.finish])
        reading.documents += 1
        self._read(event, document, observe=True)
        reading.take_back(before)
        return True

    def _take_ending(self, framing: Framing) -> None:
        """Read what a document ends with whose beginning is missing, or was too large to hold."""
        last = framing.last if isinstance(framing, (JsonBody, JsonArray)) else None
        members = documents.ending(last.joined()) if last is not None else None
        if members is not None:
            self._shape.reading.whole = True
            self._shape.reading.documents += 1
            self._read(b"", members, observe=False)

    def _look_again(self, kept: bytes) -> None:
        """Nothing was read the usual way: look for documents in any."""
        for document in documents.several(kept):
            self._take_document(b"", document)
        if not self._reading.documents and _SILENCE.sub(b"", kept).strip():
            self._reading.unread = len(kept)

    def _read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self._reading
        before = reading.usage
        try:
            self._shape.read(event, document, observe=observe)
        except BadUsage as exc:
            reading.usage, reading.bad_usage = None, str(exc)
        else:
            if reading.usage is not before:
                reading.bad_usage = ""
                reading.output_beyond_report = False
                reading.passed_over = 0

    def _matters(self, event: bytes, payload: bytes) -> bool:
        return event == b"error" or _ERROR in payload or search.holds(payload, self._shape.marks)


def _blocks_around(span: bytes, separator: bytes, places: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Where the blocks begin and end that hold these bytes; one that holds many in a row is looked for once."""
    start, end = 0, -1
    for at in places:
        if not start <= at <= end:
            before, behind = span.rfind(separator, 0, at), span.find(separator, at)
            start, end = (0 if before < 0 else before + len(separator)), (len(span) if behind < 0 else behind)
            yield start, end


def read(dialect: Dialect, body: bytes, content_type: str = "", *, observe: bool = False) -> Reading:
    """Read a whole body at once."""
    reader = Reader(dialect, content_type, observe=observe)
    reader.feed(body)
    return reader.close()
