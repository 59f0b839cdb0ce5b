"""Ollama's own API: one JSON document a line, the last with `done` and the counts; embeddings as one document."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from services.meter.readers.reading import (
    CALL,
    REASONING,
    TEXT,
    Json,
    Marks,
    Reading,
    Report,
    count,
    mapping,
    sequence,
    text,
)
from shared.contract.entry import Mark
from shared.contract.usage import Usage

_COUNTS = ("prompt_eval_count", "eval_count", "prompt_eval_cached_count")


class OllamaReader:
    """Reads `/api/chat`, `/api/generate` and `/api/embed` documents."""

    marks: ClassVar[Marks] = Marks(every_key=(b'done"',), every=(b'eval_count"',))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.model = text(document.get("model")) or reading.model
        counts = {name: document[name] for name in _COUNTS if name in document}
        if counts:
            reading.report(counts, report_of(counts, silent="embeddings" in document))
        if document.get("done") is True:
            reading.complete = True
            if document.get("done_reason"):
                reading.finish.append(document["done_reason"])
        if document.get("error"):
            reading.error = document["error"]
        if observe:
            self._observe(document)

    def done(self) -> None:
        """Ollama sends no [DONE]."""

    def close(self) -> None:
        """Nothing is left to tell."""

    def _observe(self, document: Json) -> None:
        message = mapping(document.get("message"))
        self.reading.say(REASONING, 0, message.get("thinking"), document.get("thinking"))
        self.reading.say(TEXT, 0, message.get("content"), document.get("response"))
        for index, call in enumerate(sequence(message.get("tool_calls"))):
            function = mapping(mapping(call).get("function"))
            given = msgspec.json.encode(function.get("arguments") or {}).decode()
            self.reading.say(CALL, index, function.get("name"), given)


def report_of(counts: Json, *, silent: bool = False) -> Report:
    """The counts. A prompt that was cached may be reported short, or not at all: then it is unknown."""
    asked, answered = count(counts, "prompt_eval_count"), count(counts, "eval_count")
    if silent and asked is not None:
        answered = answered or 0
    half = bool(answered) and not asked
    cached = count(counts, "prompt_eval_cached_count")
    marks = {Mark.HALF_REPORT} if half else {Mark.INCONSISTENT} if (cached or 0) > (asked or 0) else set()
    return Report(Usage(None if half else asked, answered, cached).completed(), marks=marks)
