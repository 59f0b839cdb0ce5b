"""Cohere chat. `tokens` is what the model read and wrote; `billed_units` leaves the vendor's own prompt out."""

from __future__ import annotations

from typing import Any, ClassVar

from services.meter.readers.reading import (
    CALL,
    REASONING,
    TEXT,
    Json,
    Marks,
    Reading,
    count,
    first_count,
    mapping,
    text,
)
from shared.contract.usage import Usage


class CohereReader:
    """Reads v2 events (`message-start` … `message-end`), and an answer as one document (v1 and v2)."""

    marks: ClassVar[Marks] = Marks(every=(b'"message-end"', b'"finish_reason"', b'"usage"'))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(document.get("id")) or text(document.get("response_id"))
        reading.model = text(document.get("model")) or reading.model
        kind = text(document.get("type"))
        delta = mapping(document.get("delta"))
        holder = delta if kind == "message-end" else document
        usage = mapping(holder.get("usage")) or mapping(document.get("meta"))
        if mapping(usage.get("tokens")) or mapping(usage.get("billed_units")):
            reading.raw_usage = dict(usage)
            reading.usage = normal_form(usage)
        if holder.get("finish_reason"):
            reading.finish.append(holder["finish_reason"])
            reading.complete = True
        if document.get("error") or event == b"error":
            reading.error = document.get("error") or dict(document)
        if observe:
            self._observe(document.get("index"), mapping(delta.get("message")) or mapping(document.get("message")))

    def done(self) -> None:
        """`data: [DONE]`; `message-end` was the end."""

    def _observe(self, index: Any, message: Json) -> None:
        content = message.get("content")
        for part in map(mapping, content if isinstance(content, list) else [content]):
            self.reading.say(TEXT, index, part.get("text"))
            self.reading.say(REASONING, index, part.get("thinking"))
        self.reading.say(REASONING, "plan", message.get("tool_plan"))
        calls = message.get("tool_calls")
        for at, call in enumerate(map(mapping, calls if isinstance(calls, list) else [calls])):
            function = mapping(call.get("function"))
            self.reading.say(CALL, f"{index} {at}", function.get("name"), function.get("arguments"))


def normal_form(usage: Json) -> Usage:
    """A usage object; inclusive as it comes."""
    tokens, billed = mapping(usage.get("tokens")), mapping(usage.get("billed_units"))
    return Usage(
        input_tokens=first_count(count(tokens, "input_tokens"), count(billed, "input_tokens")),
        output_tokens=first_count(count(tokens, "output_tokens"), count(billed, "output_tokens")),
        cache_read_tokens=count(usage, "cached_tokens"),
        reasoning_tokens=count(tokens, "reasoning_tokens"),
    ).completed()
