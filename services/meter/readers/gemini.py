"""Gemini generateContent, streamed either way or not at all. Every document carries a snapshot of the usage; it is
not monotone (fields vanish, the prompt grows), so the last one counts, whole."""

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

_COUNTS = ("promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount")


class GeminiReader:
    """Reads GenerateContentResponse documents and embedding answers."""

    marks: ClassVar[Marks] = Marks(every=(b'"finishReason"',), last=(b'TokenCount"',))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(document.get("responseId"))
        reading.model = text(document.get("modelVersion")) or reading.model
        usage = mapping(document.get("usageMetadata"))
        # Vertex's earlier chunks carry only a trafficType: that is no usage.
        if any(name in usage for name in _COUNTS):
            reading.raw_usage = dict(usage)
            reading.usage = normal_form(usage)
            reading.service_tier = text(usage.get("serviceTier")) or reading.service_tier
        if document.get("error"):
            reading.error = document["error"]
        blocked = mapping(document.get("promptFeedback")).get("blockReason")
        if blocked:
            reading.finish.append(f"BLOCK:{blocked}")
            reading.complete = True
        for candidate in map(mapping, sequence(document.get("candidates"))):
            if candidate.get("finishReason"):
                reading.finish.append(candidate["finishReason"])
                reading.complete = True
            if observe:
                for part in map(mapping, sequence(mapping(candidate.get("content")).get("parts"))):
                    self._observe_part(candidate.get("index"), part)

    def done(self) -> None:
        """Gemini sends no [DONE]."""

    def _observe_part(self, index: Any, part: Json) -> None:
        self.reading.say(REASONING if part.get("thought") else TEXT, index, part.get("text"))
        call = mapping(part.get("functionCall"))
        if call:
            self.reading.say(CALL, index, call.get("name"), msgspec.json.encode(call.get("args") or {}).decode())
        self.reading.say(CALL, index, mapping(part.get("executableCode")).get("code"))


def normal_form(usage: Json) -> Usage:
    """A usageMetadata object, inclusive: thoughts are beside the candidates, tool-use prompts beside the prompt."""
    return Usage(
        input_tokens=total(count(usage, "promptTokenCount"), count(usage, "toolUsePromptTokenCount")),
        output_tokens=total(count(usage, "candidatesTokenCount"), count(usage, "thoughtsTokenCount")),
        cache_read_tokens=count(usage, "cachedContentTokenCount"),
        reasoning_tokens=count(usage, "thoughtsTokenCount"),
        total_tokens=count(usage, "totalTokenCount"),
    ).completed()
