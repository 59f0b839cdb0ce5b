"""A reader for one answer: picks the framing by the first bytes and the dialect from a table, and is fed bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from services.meter.readers.anthropic import AnthropicReader
from services.meter.readers.bedrock import ConverseReader, InvokeReader
from services.meter.readers.cohere import CohereReader
from services.meter.readers.eventstream import EventStream
from services.meter.readers.framing import BlockFraming, Framing, JsonArray, JsonBody, LinedArray, NdJson, Sse
from services.meter.readers.gemini import GeminiReader
from services.meter.readers.gemini_interactions import InteractionsReader
from services.meter.readers.ollama import OllamaReader
from services.meter.readers.openai_chat import ChatReader
from services.meter.readers.openai_responses import ResponsesReader
from services.meter.readers.reading import BadUsage, Json, Marks, Reading
from shared.contract.dialects import Dialect

_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class DialectReader(Protocol):
    """Understands the documents of one dialect."""

    marks: ClassVar[Marks]
    reading: Reading

    def read(self, event: bytes, document: Json, *, observe: bool) -> None: ...

    def done(self) -> None: ...


_DIALECTS: Mapping[Dialect, Callable[[], DialectReader]] = {
    Dialect.OPENAI_CHAT: ChatReader,
    Dialect.OPENAI_COMPLETIONS: ChatReader,
    Dialect.OPENAI_EMBEDDINGS: ChatReader,
    Dialect.OPENAI_RESPONSES: ResponsesReader,
    Dialect.ANTHROPIC_MESSAGES: AnthropicReader,
    Dialect.GEMINI: GeminiReader,
    Dialect.GEMINI_INTERACTIONS: InteractionsReader,
    Dialect.COHERE_V1_CHAT: CohereReader,
    Dialect.COHERE_V2_CHAT: CohereReader,
    Dialect.OLLAMA_CHAT: OllamaReader,
    Dialect.BEDROCK_CONVERSE: ConverseReader,
    Dialect.BEDROCK_CONVERSE_STREAM: ConverseReader,
    Dialect.BEDROCK_INVOKE: InvokeReader,
    Dialect.BEDROCK_INVOKE_STREAM: InvokeReader,
    Dialect.PASSTHROUGH: ChatReader,
}

# The first documents are always decoded, because they name the response and its model. Azure's first names nothing.
_NAMING_DOCUMENTS = range(2, 16)

# Beside a dialect's own marks: errors, inside the documents and outside (`event: error`, a line `error: …`).
_ERROR = b"error"


class Reader:
    """Reads one answer. `feed` takes any bytes, cut anywhere, and never raises on them.

    With `observe` the visible output is collected too, which means decoding every document.
    """

    def __init__(self, dialect: Dialect, content_type: str = "", *, observe: bool = False) -> None:
        self._dialect = _DIALECTS.get(dialect, ChatReader)()
        self._content_type = content_type
        untyped_ollama = dialect == Dialect.OLLAMA_CHAT and "json" not in content_type
        self._lines = "ndjson" in content_type or untyped_ollama
        self._observe = observe
        self._framing: Framing | None = None
        self._head = b""
        self._decoded = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._framing is None:
            self._head += data
            data = self._head.removeprefix(_BOM)
            first = data.lstrip()[:1]  # DeepSeek sends empty lines before an answer
            if not first or _BOM.startswith(data):
                return
            self._framing = self._framing_for(first)
        self._read_from(self._framing, data)
        if isinstance(self._framing, JsonArray) and self._framing.lined:
            rest, self._framing = self._framing.rest(), LinedArray()
            self._read_from(self._framing, rest)

    def close(self) -> Reading:
        """The body has ended, properly or not: what was read."""
        if self._framing is not None:
            for event, payload in self._framing.close():
                self._take(event, payload)
        return self._dialect.reading

    def _framing_for(self, first: bytes) -> Framing:
        """By the first byte that is no white space; the content type settles what a brace begins."""
        if first == b"\0" or "amazon.eventstream" in self._content_type:  # a frame's length
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
        named = bool(self._dialect.reading.response_id) and self._decoded >= _NAMING_DOCUMENTS.start
        return named or self._decoded >= _NAMING_DOCUMENTS.stop

    def _scan(self, framing: BlockFraming, span: bytes) -> None:
        """Read only the blocks that matter: searching for marks is many times faster than cutting every block out."""
        taken: dict[int, bool] = {}  # by where the block begins, whether it reported usage
        wanted: dict[int, int] = {}
        for mark in (_ERROR, *self._dialect.marks.every):
            at = span.find(mark)
            while at >= 0:
                start, end = _block_around(span, at, framing.separator)
                wanted[start] = end
                at = span.find(mark, end)
        for start in sorted(wanted):
            taken[start] = self._take_block(framing, span[start : wanted[start]])
        at = _last_mark(span, self._dialect.marks.last, len(span))
        while at >= 0:
            start, end = _block_around(span, at, framing.separator)
            reported = taken[start] if start in taken else self._take_block(framing, span[start:end])
            at = -1 if reported else _last_mark(span, self._dialect.marks.last, start)

    def _take_block(self, framing: BlockFraming, block: bytes) -> bool:
        """Read a block; whether it reported usage, true or not."""
        reading = self._dialect.reading
        before = reading.usage
        reading.bad_usage, bad = "", reading.bad_usage
        for event, payload in framing.parse(block):
            self._take(event, payload)
        reported = reading.usage is not before or bool(reading.bad_usage)
        reading.bad_usage = reading.bad_usage if reported else bad
        return reported

    def _take(self, event: bytes, payload: bytes) -> None:
        if len(payload) < 16 and payload.strip() == _DONE:
            self._dialect.done()
            return
        if not self._observe and self._named and not self._matters(event, payload):
            return
        document = _decode(payload)
        if isinstance(document, dict):
            self._decoded += 1
            self._read(event, document)

    def _read(self, event: bytes, document: Json) -> None:
        reading = self._dialect.reading
        before = reading.usage
        try:
            self._dialect.read(event, document, observe=self._observe)
        except BadUsage as exc:
            reading.usage, reading.bad_usage = None, str(exc)
        else:
            if reading.usage is not before:
                reading.bad_usage = ""
                reading.output_beyond_report = False

    def _matters(self, event: bytes, payload: bytes) -> bool:
        marks = self._dialect.marks
        return event == b"error" or any(mark in payload for mark in (_ERROR, *marks.every, *marks.last))


def _block_around(span: bytes, at: int, separator: bytes) -> tuple[int, int]:
    """Where the block begins and ends that holds the byte `at`."""
    start, end = span.rfind(separator, 0, at), span.find(separator, at)
    return (0 if start < 0 else start + len(separator)), (len(span) if end < 0 else end)


def _last_mark(span: bytes, marks: tuple[bytes, ...], before: int) -> int:
    return max((span.rfind(mark, 0, before) for mark in marks), default=-1)


def _decode(payload: bytes) -> Any:
    """A JSON document, None where it is none. Answers hold what strict JSON forbids: lone surrogates, Infinity."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _clean(json.loads(payload))
    except (ValueError, RecursionError):
        return None


def _clean(value: Any) -> Any:
    """The same without what cannot be written as JSON again."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return value


def read(dialect: Dialect, body: bytes, content_type: str = "", *, observe: bool = False) -> Reading:
    """Read a whole body at once."""
    reader = Reader(dialect, content_type, observe=observe)
    reader.feed(body)
    return reader.close()
