"""Gemini's interactions: typed events, the usage in the last one; thoughts and tool use stand beside the totals."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from services.meter.readers.reading import (
    CALL,
    REASONING,
    TEXT,
    Json,
    Marks,
    Reading,
    count,
    mapping,
    sequence,
    text,
    total,
)
from shared.contract.usage import Usage


class InteractionsReader:
    """Reads `interaction.*` and `step.*` events, and an interaction as one document."""

    marks: ClassVar[Marks] = Marks(every=(b'"interaction"', b'"usage"'))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        kind = text(document.get("event_type"))
        interaction = mapping(document.get("interaction")) or (document if "outputs" in document else {})
        reading.response_id = reading.response_id or text(interaction.get("id"))
        reading.model = text(interaction.get("model")) or reading.model
        reading.service_tier = text(interaction.get("service_tier")) or reading.service_tier
        usage = mapping(interaction.get("usage"))
        if usage:
            reading.raw_usage = dict(usage)
            reading.usage = normal_form(usage)
        if kind == "interaction.completed" or text(interaction.get("status")) == "completed":
            reading.complete = True
        if document.get("error") or event == b"error":
            reading.error = document.get("error") or dict(document)
        if observe:
            self._observe(document.get("index"), mapping(document.get("delta")))
            for index, part in enumerate(map(mapping, sequence(interaction.get("outputs")))):
                self._observe(index, part)

    def done(self) -> None:
        """`event: done`, `data: [DONE]`; interaction.completed was the end."""

    def _observe(self, index: Any, part: Json) -> None:
        thought = text(part.get("type")).startswith("thought")
        self.reading.say(
            REASONING if thought else TEXT, index, part.get("text"), mapping(part.get("content")).get("text")
        )
        self.reading.say(CALL, index, part.get("name"))
        if part.get("arguments"):
            self.reading.say(CALL, index, msgspec.json.encode(part["arguments"]).decode())


def normal_form(usage: Json) -> Usage:
    """A usage object, inclusive."""
    thoughts = count(usage, "total_thought_tokens")
    return Usage(
        input_tokens=total(count(usage, "total_input_tokens"), count(usage, "total_tool_use_tokens")),
        output_tokens=total(count(usage, "total_output_tokens"), thoughts),
        cache_read_tokens=count(usage, "total_cached_tokens"),
        reasoning_tokens=thoughts,
        total_tokens=count(usage, "total_tokens"),
    ).completed()
