"""Amazon Bedrock's converse, and Nova's invoke, which speaks the same; and the metrics at the end of any invoke."""

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
    Report,
    count,
    mapping,
    most,
    sequence,
    total,
)
from shared.contract.entry import Mark
from shared.contract.usage import Usage

METRICS = "amazon-bedrock-invocationMetrics"
# Nova's chunks hold each event under its name; ConverseStream has the name in the frame's header.
_EVENTS = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop")


class ConverseReader:
    """Reads ConverseStream events, and a Converse answer as one document."""

    marks: ClassVar[Marks] = Marks(every=(b'"usage"', b'"stopReason"'))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        inner = event_of(document)
        usage = mapping(inner.get("usage"))
        if usage:
            reading.report(usage, converse_report(usage))
        if inner.get("stopReason"):
            reading.finish.append(inner["stopReason"])
            reading.complete = True
        if event == b"error" or (set(document) == {"message"} and isinstance(document["message"], str)):
            reading.error = document.get("message")
        if observe:
            message = mapping(mapping(inner.get("output")).get("message"))
            start = mapping(inner.get("start"))
            for part in (mapping(inner.get("delta")), start, *map(mapping, sequence(message.get("content")))):
                self._observe(inner.get("contentBlockIndex"), part)

    def done(self) -> None:
        """Bedrock sends no [DONE]."""

    def close(self) -> None:
        """Nothing is left to tell."""

    def _observe(self, index: Any, part: Json) -> None:
        reasoning = mapping(part.get("reasoningContent"))
        self.reading.say(TEXT, index, part.get("text"))
        self.reading.say(REASONING, index, reasoning.get("text"), mapping(reasoning.get("reasoningText")).get("text"))
        call = mapping(part.get("toolUse"))
        self.reading.say(CALL, index, call.get("name"), call.get("input"))
        if isinstance(call.get("input"), dict):
            self.reading.say(CALL, index, msgspec.json.encode(call["input"]).decode())


def event_of(document: Json) -> Json:
    """The event inside, where it stands under its name."""
    metadata = mapping(document.get("metadata"))
    if "usage" in metadata:
        return metadata
    return next((mapping(document[name]) for name in _EVENTS if name in document), document)


def converse_report(usage: Json) -> Report:
    """A converse usage object, inclusive. The cache fields come under two names with the same value."""
    read = most(count(usage, "cacheReadInputTokens"), count(usage, "cacheReadInputTokenCount"))
    written = most(count(usage, "cacheWriteInputTokens"), count(usage, "cacheWriteInputTokenCount"))
    plain, answered = count(usage, "inputTokens"), count(usage, "outputTokens")
    report = _report(plain, answered, read, written, count(usage, "totalTokens"))
    ages = map(mapping, sequence(usage.get("cacheDetails"))) if "cacheDetails" in usage else ()
    hour = total(*(count(age, "inputTokens") for age in ages if age.get("ttl") == "1h"))
    return report._replace(modalities={"cache_write_1h": hour}) if hour else report


def metrics_report(metrics: Json) -> Report:
    """Invocation metrics, inclusive."""
    read, written = count(metrics, "cacheReadInputTokenCount"), count(metrics, "cacheWriteInputTokenCount")
    return _report(count(metrics, "inputTokenCount"), count(metrics, "outputTokenCount"), read, written, None)


def _report(
    plain: int | None, answered: int | None, read: int | None, written: int | None, whole: int | None
) -> Report:
    asked = None if plain is None else total(plain, read, written)
    marks = set()
    if None not in (asked, answered, whole) and (asked or 0) + (answered or 0) != whole:
        marks.add(Mark.INCONSISTENT)
    if answered and not asked:
        asked = whole = None  # no prompt has 0 tokens
        marks.add(Mark.HALF_REPORT)
    return Report(Usage(asked, answered, read, written, None, whole).completed(), marks=frozenset(marks))
