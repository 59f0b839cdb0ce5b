"""Ollama's own API: one JSON document a line, the last with `done` and the counts."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from services.meter.readers.reading import CALL, REASONING, TEXT, Json, Marks, Reading, count, mapping, sequence, text
from shared.contract.usage import Usage

_COUNTS = ("prompt_eval_count", "eval_count")


class OllamaReader:
    """Reads `/api/chat` and `/api/generate` documents."""

    marks: ClassVar[Marks] = Marks(every=(b'"done":true', b'"done": true'))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.model = text(document.get("model")) or reading.model
        counts = {name: document[name] for name in _COUNTS if name in document}
        if counts:
            reading.raw_usage = counts
            reading.usage = normal_form(counts)
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

    def _observe(self, document: Json) -> None:
        message = mapping(document.get("message"))
        self.reading.say(REASONING, 0, message.get("thinking"), document.get("thinking"))
        self.reading.say(TEXT, 0, message.get("content"), document.get("response"))
        for index, call in enumerate(sequence(message.get("tool_calls"))):
            function = mapping(mapping(call).get("function"))
            given = msgspec.json.encode(function.get("arguments") or {}).decode()
            self.reading.say(CALL, index, function.get("name"), given)


def normal_form(counts: Json) -> Usage:
    """The two counts. A prompt that was cached may be reported short, or not at all."""
    return Usage(input_tokens=count(counts, "prompt_eval_count"), output_tokens=count(counts, "eval_count")).completed()
