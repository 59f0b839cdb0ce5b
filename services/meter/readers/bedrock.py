"""Amazon Bedrock: converse, and invoke, which wraps the model's own documents."""

from __future__ import annotations

import base64
import binascii
from typing import Any, ClassVar

import msgspec

from services.meter.readers.anthropic import AnthropicReader
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
    sequence,
    total,
)
from shared.contract.usage import Usage

_METRICS = "amazon-bedrock-invocationMetrics"


class ConverseReader:
    """Reads ConverseStream events, and a Converse answer as one document."""

    marks: ClassVar[Marks] = Marks(every=(b'"usage"', b'"stopReason"'))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        usage = mapping(document.get("usage"))
        if "inputTokens" in usage or "outputTokens" in usage:
            reading.raw_usage = dict(usage)
            reading.usage = converse_usage(usage)
        if document.get("stopReason"):
            reading.finish.append(document["stopReason"])
            reading.complete = True
        if event == b"error" or (set(document) == {"message"} and isinstance(document["message"], str)):
            reading.error = document.get("message")
        if observe:
            message = mapping(mapping(document.get("output")).get("message"))
            start = mapping(document.get("start"))
            for part in (mapping(document.get("delta")), start, *map(mapping, sequence(message.get("content")))):
                self._observe(document.get("contentBlockIndex"), part)

    def done(self) -> None:
        """Bedrock sends no [DONE]."""

    def _observe(self, index: Any, part: Json) -> None:
        reasoning = mapping(part.get("reasoningContent"))
        self.reading.say(TEXT, index, part.get("text"))
        self.reading.say(REASONING, index, reasoning.get("text"), mapping(reasoning.get("reasoningText")).get("text"))
        call = mapping(part.get("toolUse"))
        self.reading.say(CALL, index, call.get("name"), call.get("input"))
        if isinstance(call.get("input"), dict):
            self.reading.say(CALL, index, msgspec.json.encode(call["input"]).decode())


class InvokeReader:
    """Reads InvokeModelWithResponseStream chunks and invoke answers, of Anthropic and of other models."""

    marks: ClassVar[Marks] = Marks(every=(b'"bytes"', b'"usage"', b'"message"'))

    def __init__(self) -> None:
        self._model = AnthropicReader()
        self.reading = self._model.reading

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        inner = document
        if isinstance(document.get("bytes"), str):
            try:
                inner = mapping(msgspec.json.decode(base64.b64decode(document["bytes"], validate=True)))
            except (binascii.Error, ValueError, RecursionError):
                return
        self._model.read(event, inner, observe=observe)
        metrics = mapping(inner.get(_METRICS))
        # The invocation metrics can disagree with the model's own report (97 against 133 output tokens); the model's
        # is what Anthropic documents, and for Titan and Llama the metrics are all there is.
        if metrics and self.reading.usage is None:
            self.reading.raw_usage = dict(metrics)
            self.reading.usage = metrics_usage(metrics)
        if metrics:
            self.reading.complete = True
        if observe:
            self.reading.say(TEXT, 0, inner.get("outputText"), inner.get("generation"))

    def done(self) -> None:
        """Bedrock sends no [DONE]."""


def converse_usage(usage: Json) -> Usage:
    """A converse usage object, inclusive. The cache fields come under two names with the same value."""
    read = first_count(count(usage, "cacheReadInputTokens"), count(usage, "cacheReadInputTokenCount"))
    written = first_count(count(usage, "cacheWriteInputTokens"), count(usage, "cacheWriteInputTokenCount"))
    plain = count(usage, "inputTokens")
    return Usage(
        input_tokens=None if plain is None else total(plain, read, written),
        output_tokens=count(usage, "outputTokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
        total_tokens=count(usage, "totalTokens"),
    ).completed()


def metrics_usage(metrics: Json) -> Usage:
    """Invocation metrics, inclusive."""
    read, written = count(metrics, "cacheReadInputTokenCount"), count(metrics, "cacheWriteInputTokenCount")
    plain = count(metrics, "inputTokenCount")
    return Usage(
        input_tokens=None if plain is None else total(plain, read, written),
        output_tokens=count(metrics, "outputTokenCount"),
        cache_read_tokens=read,
        cache_write_tokens=written,
    ).completed()
