"""A reader for one answer: picks the framing by the first bytes and the shape by the first documents, and is fed
bytes."""

from __future__ import annotations

import re
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

# Beside a dialect's own marks: errors, inside the documents and outside (`event: error`, a line `error: …`).
_ERROR = b"error"

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
        self._lines = "ndjson" in content_type or "stream+json" in content_type or "jsonl" in content_type
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
            if not self._shape.reading.documents and self._before_gap is _NO_GAP:
                self._look_again(b"".join(self._kept))
        self._shape.close()
        reading = self._shape.reading
        reading.reported_last = self._before_gap is _NO_GAP or reading.usage is not self._before_gap
        return settle(reading)

    def _keep(self, data: bytes) -> None:
        if self._shape.reading.documents:
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
            return NdJson() if self._lines else JsonBody()
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
        """Read block by block until the answer has told its name; how many bytes that took."""
        at = 0
        while at < len(span) and not self._named:
            end = span.find(framing.separator, at)
            end = len(span) if end < 0 else end
            for event, payload in framing.parse(span[at:end]):
                self._take(event, payload)
            at = end + len(framing.separator)
        return at

    @property
    def _named(self) -> bool:
        """Whether the beginning was read as far as it matters."""
        reading = self._shape.reading
        named = bool(reading.response_id) and reading.documents >= _NAMING_DOCUMENTS.start
        return named or reading.documents >= _NAMING_DOCUMENTS.stop

    def _scan(self, framing: BlockFraming, span: bytes) -> None:
        """Read only the blocks that matter: searching for marks is many times faster than cutting every block out."""
        marks, separator = self._shape.marks, framing.separator
        taken: dict[int, bool] = {}  # by where the block begins, whether it reported usage
        wanted = {*search.blocks(span, _ERROR, separator), *search.every(span, marks, separator)}
        for start, end in sorted(wanted):
            taken[start] = self._take_block(framing, span[start:end])
        latest = search.Latest(span, marks)
        at = latest.before(len(span))
        while at >= 0:
            start, end = search.block_around(span, at, separator)
            reported = taken[start] if start in taken else self._take_block(framing, span[start:end])
            at = -1 if reported else latest.before(start)

    def _take_block(self, framing: BlockFraming, block: bytes) -> bool:
        """Read a block; whether it reported usage, true or not."""
        reading = self._shape.reading
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
            return
        document = documents.decode(payload)
        if document is not None:
            self._shape.reading.whole = isinstance(self._framing, JsonBody)
            self._take_document(event, document)
            return
        found = list(documents.several(payload))
        for document in found:
            self._take_document(event, document)
        if not found and not self._take_beginning(event, payload):
            self._shape.reading.unread += len(payload)

    def _take_document(self, event: bytes, document: Any) -> None:
        self._shape.reading.documents += 1
        if document is documents.DONE:
            self._shape.done()
        elif isinstance(document, dict):
            # One document is decoded as a whole anyway, and then it costs nothing to know what it says.
            self._read(event, document, observe=self._observe or isinstance(self._framing, JsonBody))

    def _take_beginning(self, event: bytes, payload: bytes) -> bool:
        """Observe the last document where it broke off; what it reports is not read, for a number may have been cut."""
        document = documents.beginning(payload) if self._closing else None
        if not isinstance(document, dict):
            return False
        reading = self._shape.reading
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
        if not self._shape.reading.documents and _SILENCE.sub(b"", kept).strip():
            self._shape.reading.unread = len(kept)

    def _read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self._shape.reading
        before = reading.usage
        try:
            self._shape.read(event, document, observe=observe)
        except BadUsage as exc:
            reading.usage, reading.bad_usage = None, str(exc)
        else:
            if reading.usage is not before:
                reading.bad_usage = ""
                reading.output_beyond_report = False

    def _matters(self, event: bytes, payload: bytes) -> bool:
        return event == b"error" or _ERROR in payload or search.holds(payload, self._shape.marks)


def read(dialect: Dialect, body: bytes, content_type: str = "", *, observe: bool = False) -> Reading:
    """Read a whole body at once."""
    reader = Reader(dialect, content_type, observe=observe)
    reader.feed(body)
    return reader.close()
