"""Which reader a document is for. The path says what to expect; where a document has another shape, the shape decides,
so that what an answer states is read wherever it comes from. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, NamedTuple, Protocol

from services.meter.readers import bedrock, documents, media, vendors, work
from services.meter.readers.anthropic import AnthropicReader
from services.meter.readers.bedrock import ConverseReader
from services.meter.readers.cohere import CohereReader
from services.meter.readers.gemini import GeminiReader
from services.meter.readers.gemini_interactions import InteractionsReader
from services.meter.readers.media import MediaReader
from services.meter.readers.ollama import OllamaReader
from services.meter.readers.openai_chat import ChatReader
from services.meter.readers.openai_responses import ResponsesReader
from services.meter.readers.reading import Json, Marks, Reading, mapping, text
from services.meter.readers.settled import settle
from services.meter.readers.vendors import VendorReader
from services.meter.readers.work import BatchReader
from shared.contract.dialects import Dialect
from shared.contract.usage import Usage


class DialectReader(Protocol):
    """Understands the documents of one dialect."""

    marks: ClassVar[Marks]
    reading: Reading

    def read(self, event: bytes, document: Json, *, observe: bool) -> None: ...

    def done(self) -> None: ...

    def close(self) -> None:
        """The body has ended."""


class Shape(NamedTuple):
    """One kind of documents."""

    reader: Callable[[], DialectReader]
    fits: Callable[[Json], bool]


def _chat(document: Json) -> bool:
    kind = text(document.get("object"))
    return "choices" in document or kind.startswith(("chat.completion", "text_completion")) or kind == "list"


def _responses(document: Json) -> bool:
    kind, owner = text(document.get("type")), text(document.get("object"))
    return kind.startswith("response.") or owner.startswith("response")


def _anthropic(document: Json) -> bool:
    kind = text(document.get("type"))
    if kind in ("message", ""):
        return "usage" in document and (kind == "message" or ("role" in document and "stop_reason" in document))
    return kind in ("message_start", "message_delta", "message_stop") or kind.startswith("content_block_")


def _gemini(document: Json) -> bool:
    return any(name in document for name in ("candidates", "usageMetadata", "promptFeedback"))


def _interactions(document: Json) -> bool:
    kind = text(document.get("event_type"))
    return document.get("object") == "interaction" or kind.startswith(("interaction.", "step."))


_COHERE_EVENTS: Final = frozenset(
    {"stream-start", "text-generation", "stream-end", "message-start", "content-start", "content-delta", "message-end"}
)


def _cohere(document: Json) -> bool:
    kind = text(document.get("event_type")) or text(document.get("type"))
    usage = mapping(document.get("usage")) or mapping(document.get("meta"))
    return kind in _COHERE_EVENTS or "billed_units" in usage


def _ollama(document: Json) -> bool:
    running = isinstance(document.get("done"), bool) and ("message" in document or "response" in document)
    return running or "prompt_eval_count" in document


def _converse(document: Json) -> bool:
    usage = mapping(document.get("usage"))
    known = "stopReason" in document or "contentBlockIndex" in document
    return known or "inputTokens" in usage or bedrock.event_of(document) is not document


def _vendor(document: Json) -> bool:
    inner = vendors.inner_of(document)
    named = any(
        name in inner for name in ("outputText", "generation", "generated_text", "metrics", "model_instance_id")
    )
    named = named or ("outputs" in inner and "usage" not in inner)  # Mistral on Bedrock
    named = named or ("completion" in inner and "stop_reason" in inner) or inner is not document
    return named or bool(vendors.stated(inner))


def _counted(document: Json) -> bool:
    usage = mapping(document.get("usage"))
    return any(name in usage for name in ("prompt_tokens", "input_tokens", "total_tokens"))


CHAT: Final = Shape(ChatReader, _chat)
_RESPONSES: Final = Shape(ResponsesReader, _responses)
_ANTHROPIC: Final = Shape(AnthropicReader, _anthropic)
_GEMINI: Final = Shape(GeminiReader, _gemini)
_INTERACTIONS: Final = Shape(InteractionsReader, _interactions)
_COHERE: Final = Shape(CohereReader, _cohere)
_OLLAMA: Final = Shape(OllamaReader, _ollama)
_CONVERSE: Final = Shape(ConverseReader, _converse)


def _answer(document: Json) -> Reading:
    """One whole answer, which is part of another document."""
    reader = ShapeReader(Dialect.PASSTHROUGH)
    reader.reading.whole = True
    reader.read(b"", document, observe=False)
    reader.close()
    return settle(reader.reading)


_WORK: Final = Shape(lambda: BatchReader(_answer), work.fits)

_SHAPES: Final = (
    _WORK,
    CHAT,
    _RESPONSES,
    _ANTHROPIC,
    _GEMINI,
    _INTERACTIONS,
    _COHERE,
    _OLLAMA,
    _CONVERSE,
    Shape(VendorReader, _vendor),
    Shape(ChatReader, _counted),
    Shape(MediaReader, media.fits),
)

_EXPECTED: Final[Mapping[Dialect, Shape]] = {
    Dialect.OPENAI_RESPONSES: _RESPONSES,
    Dialect.ANTHROPIC_MESSAGES: _ANTHROPIC,
    Dialect.GEMINI: _GEMINI,
    Dialect.GEMINI_INTERACTIONS: _INTERACTIONS,
    Dialect.COHERE_V1_CHAT: _COHERE,
    Dialect.COHERE_V2_CHAT: _COHERE,
    Dialect.OLLAMA_CHAT: _OLLAMA,
    Dialect.BEDROCK_CONVERSE: _CONVERSE,
    Dialect.BEDROCK_CONVERSE_STREAM: _CONVERSE,
    Dialect.BEDROCK_INVOKE: _ANTHROPIC,
    Dialect.BEDROCK_INVOKE_STREAM: _ANTHROPIC,
}
_WRAPPED: Final = frozenset({Dialect.BEDROCK_INVOKE, Dialect.BEDROCK_INVOKE_STREAM})
_WRAPPERS: Final = frozenset({"bytes", "success", "response"})  # fields of documents that hold another
# Fields in which relays put the whole of an answer of another shape.
_HOLDERS: Final = ("data", "result", "response", "body")
_WRAP_MARKS: Final = Marks(every=(b'"bytes"', bedrock.METRICS.encode()))


class ShapeReader:
    """Reads the documents of an answer with the reader of their shape; `reading` is the same all along."""

    def __init__(self, dialect: Dialect) -> None:
        self._expected = _EXPECTED.get(dialect, CHAT)
        self._open = dialect not in _EXPECTED and dialect not in _SURE
        self._wrapped = dialect in _WRAPPED
        self._told = False
        self._holder = ""  # the field that holds the documents of this answer
        self._inner = self._expected.reader()

    @property
    def reading(self) -> Reading:
        return self._inner.reading

    @property
    def marks(self) -> Marks:
        """What to look for: on a path that says nothing, as long as no document has, whatever any shape reports by."""
        own = ANY_MARKS if self._open and not self._told else self._inner.marks
        return _both(own, _WRAP_MARKS) if self._wrapped else own

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        if self._holder:
            document = mapping(document.get(self._holder)) or document
        lined = self.reading.sums or (not self._told and work.is_line(document))
        inner = document if lined or _WRAPPERS.isdisjoint(document) else _unwrapped(document)
        if not self._told:
            self._wrapped = self._wrapped or "bytes" in document
            inner = self._tell(inner)
        self._inner.read(event, inner, observe=observe)
        # The invocation metrics can disagree with the model's own report (97 against 133 output tokens); the model's
        # is what Anthropic documents, and others state little else than the metrics.
        metrics = mapping(inner[bedrock.METRICS]) if bedrock.METRICS in inner else None
        if metrics and (_half(self.reading.usage) or isinstance(self._inner, VendorReader)):
            self.reading.report(metrics, bedrock.metrics_report(metrics))
        if metrics:
            self.reading.complete = True

    def done(self) -> None:
        """`data: [DONE]` was seen."""
        self._inner.done()

    def close(self) -> None:
        """The body has ended."""
        self._inner.close()

    def _tell(self, document: Json) -> Json:
        """Choose the reader; the document, or the one inside it that has a shape."""
        shape, self._holder = self._shape_of(document), ""
        if shape is None:
            for holder in filter(document.__contains__, _HOLDERS):
                held = mapping(document[holder])
                shape = self._shape_of(held) if held else None
                if shape is not None:
                    document, self._holder = held, holder
                    break
        if shape is not None:
            self._told = self.reading.shaped = True
        if shape is not None and shape is not self._expected:
            reading, self._inner = self.reading, shape.reader()
            self._inner.reading = reading
        return document

    def _shape_of(self, document: Json) -> Shape | None:
        if self._expected.fits(document):
            return self._expected
        return next((shape for shape in _SHAPES if shape.fits(document)), None)


def _half(usage: Usage | None) -> bool:
    return usage is None or None in (usage.input_tokens, usage.output_tokens)


def _unwrapped(document: Json) -> Json:
    """The document inside another: Bedrock's chunks, Cloudflare's result, Google's internal response."""
    if isinstance(document.get("bytes"), str):
        try:
            return mapping(documents.decode(base64.b64decode(document["bytes"], validate=True)))
        except binascii.Error:
            return {}
    if "success" in document and isinstance(document.get("result"), dict):
        return mapping(document["result"])
    response = mapping(document.get("response"))
    return response if _gemini(response) else document


def _both(one: Marks, other: Marks) -> Marks:
    return Marks(
        (*one.every, *other.every),
        (*one.every_key, *other.every_key),
        (*one.last, *other.last),
        (*one.last_key, *other.last_key),
        (*one.final, *other.final),
    )


# Paths of OpenAI's own calls: other shapes on them are read too, and rare enough to be found by the first documents.
_SURE: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS, Dialect.OPENAI_EMBEDDINGS})

ANY_MARKS: Final = Marks(
    every=(b'"response"', b'"finishReason"', b'"message-end"', b'"stream-end"', b'"message_stop"'),
    every_key=(b'finish_reason"', b'done"', b'stop_reason"'),
    last=(b'TokenCount"', b'"billed_units"', b'eval_count"', b'token_count"'),
    last_key=(b'usage"', b'stats"'),
    final=(b"[DONE]",),
)
