"""Anthropic messages. `message_start` carries the input side, `message_delta` what the message has cost so far:
cumulative, so that its fields are laid over the earlier ones and never added."""

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


class AnthropicReader:
    """Reads message events, and a message as one document."""

    marks: ClassVar[Marks] = Marks(every=(b'"usage"', b'"message_stop"', b'"stop_reason"'))

    def __init__(self) -> None:
        self.reading = Reading()
        self._usage: dict[str, Any] = {}

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        kind = text(document.get("type"))
        if kind == "message_start":
            self._read_message(mapping(document.get("message")))
            reading.provisional = True
        elif kind == "message_delta":
            reading.provisional = False
            self._read_usage(mapping(document.get("usage")))
            self._read_stop(mapping(document.get("delta")))
        elif kind == "message_stop":
            reading.complete = True
        elif kind == "message":
            self._read_message(document)
            reading.complete = bool(reading.finish)
            if observe:
                for index, block in enumerate(sequence(document.get("content"))):
                    self._observe_block(index, mapping(block))
        elif kind == "error" or document.get("error"):
            reading.error = document.get("error") or dict(document)
        elif observe and kind == "content_block_delta":
            self._observe_delta(document.get("index"), mapping(document.get("delta")))
        elif observe and kind == "content_block_start":
            self._observe_block(document.get("index"), mapping(document.get("content_block")))

    def done(self) -> None:
        """`data: [DONE]`, which OpenRouter adds; `message_stop` was the end."""

    def _read_message(self, message: Json) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(message.get("id"))
        reading.model = text(message.get("model")) or reading.model
        self._read_usage(mapping(message.get("usage")))
        self._read_stop(message)

    def _read_usage(self, usage: Json) -> None:
        self._usage.update((name, value) for name, value in usage.items() if value is not None)
        if self._usage and count(self._usage, "output_tokens") is not None:
            self.reading.raw_usage = self._usage
            self.reading.usage = normal_form(self._usage)
            self.reading.service_tier = text(self._usage.get("service_tier")) or self.reading.service_tier

    def _read_stop(self, holder: Json) -> None:
        if holder.get("stop_reason"):
            self.reading.finish = [holder["stop_reason"]]

    def _observe_delta(self, index: Any, delta: Json) -> None:
        # signature_delta is opaque and no output of the model's.
        self.reading.say(TEXT, index, delta.get("text"))
        self.reading.say(REASONING, index, delta.get("thinking"))
        self.reading.say(CALL, index, delta.get("partial_json"))

    def _observe_block(self, index: Any, block: Json) -> None:
        if text(block.get("type")).endswith("_result"):
            return  # a server tool's answer is input
        self.reading.say(TEXT, index, block.get("text"))
        self.reading.say(REASONING, index, block.get("thinking"))
        self.reading.say(CALL, index, block.get("name"))
        if block.get("input"):
            self.reading.say(CALL, index, msgspec.json.encode(block["input"]).decode())


def normal_form(usage: Json) -> Usage:
    """A messages usage object, inclusive: Anthropic's `input_tokens` leaves both cache sides out.

    With `iterations` (compaction, advisor, fallback) the top level omits some of what is billed, so they are summed.
    """
    parts = [mapping(part) for part in sequence(usage.get("iterations"))] or [usage]
    plain = total(*(count(part, "input_tokens") for part in parts))
    read = total(*(count(part, "cache_read_input_tokens") for part in parts))
    written = total(*(count(part, "cache_creation_input_tokens") for part in parts))
    thinking = count(mapping(usage.get("output_tokens_details")), "thinking_tokens")
    return Usage(
        input_tokens=None if plain is None else total(plain, read, written),
        output_tokens=total(*(count(part, "output_tokens") for part in parts)),
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=thinking,
    ).completed()
