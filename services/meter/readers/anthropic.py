"""Anthropic messages. `message_start` carries the input side, `message_delta` what the message has cost so far:
cumulative, so that its fields are laid over the earlier ones and never added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from services.meter.readers import openai_usage
from services.meter.readers.reading import (
    CALL,
    REASONING,
    TEXT,
    Json,
    Marks,
    Reading,
    Report,
    amounts,
    count,
    mapping,
    most,
    sequence,
    text,
    total,
)
from shared.contract.entry import Mark
from shared.contract.usage import Usage

_INPUTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")
_OUTPUTS = ("output_tokens", "completion_tokens")
_UNITS = ("web_search_requests", "web_fetch_requests", "code_execution_requests")


class AnthropicReader:
    """Reads message events, and a message as one document."""

    marks: ClassVar[Marks] = Marks(every=(b'"usage"', b'"message_stop"', b'"stop_reason"'))

    def __init__(self) -> None:
        self.reading = Reading()
        self._usage: dict[str, Any] = {}
        self._ending = False  # what comes now is the end; a count that is not in it will not come
        self._counted = False  # the output's count came, and not as the start value alone

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        kind = text(document.get("type"))
        if kind == "message_start":
            self._read_message(mapping(document.get("message")))
        elif kind == "message_delta":
            self._read_delta(document)
        elif kind == "message_stop":
            if "usage" in document:
                self._read_delta(document)
            reading.complete = True
            self._ending = True
            self._report()
        elif kind == "message" or (not kind and "stop_reason" in document):
            self._counted = self._ending = True
            repeats = bool(reading.output)  # MiniMax ends a stream with the whole message
            self._read_message(document)
            reading.complete = bool(reading.finish)
            if observe and not repeats:
                for index, block in enumerate(sequence(document.get("content"))):
                    self._observe_block(index, mapping(block))
        elif kind == "error" or event == b"error" or document.get("error"):
            reading.error = document.get("error") or dict(document)
        elif observe and kind == "content_block_delta":
            self._observe_delta(document.get("index"), mapping(document.get("delta")))
        elif observe and kind == "content_block_start":
            self._observe_block(document.get("index"), mapping(document.get("content_block")))

    def done(self) -> None:
        """`data: [DONE]`, which OpenRouter adds; `message_stop` was the end."""

    def close(self) -> None:
        """Nothing is left to tell."""

    def _read_message(self, message: Json) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(message.get("id"))
        reading.model = text(message.get("model")) or reading.model
        self._lay_over(mapping(message.get("usage")))
        self._read_stop(message)

    def _read_delta(self, document: Json) -> None:
        delta = mapping(document.get("delta"))
        usage = mapping(document.get("usage")) or mapping(delta.get("usage"))
        self._ending = True
        self._counted = self._counted or any(usage.get(name) is not None for name in _OUTPUTS)
        self._lay_over(usage)
        self._read_stop(delta)

    def _lay_over(self, usage: Json) -> None:
        before = self._usage
        self._usage = before | {name: value for name, value in usage.items() if value is not None}
        if "iterations" not in self._usage and _input(self._usage) < _input(before):
            # Input does not shrink: SGLang and others fill the delta's input with zeros.
            self._usage |= {name: before[name] for name in _INPUTS if name in before}
            self.reading.marks.add(Mark.PLACEHOLDER)
        self._report()

    def _report(self) -> None:
        if not self._usage:
            return
        report = report_of(self._usage)
        self.reading.provisional = not self._counted and not self._ending
        if self._ending and not self._counted:
            marks = report.marks | {Mark.HALF_REPORT}
            report = report._replace(usage=replace(report.usage, output_tokens=None, total_tokens=None), marks=marks)
        self.reading.report(self._usage, report)
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


def report_of(usage: Json) -> Report:
    """A messages usage object, inclusive: Anthropic's `input_tokens` leaves both cache sides out.

    With `iterations` (compaction, advisor, fallback) the top level omits some of what is billed, so they are summed.
    """
    if "prompt_tokens" in usage and not _input(usage):
        return openai_usage.report(usage)  # of a relay in front of another model
    parts = [
        part for part in map(mapping, sequence(usage.get("iterations"))) if count(part, "output_tokens") is not None
    ]
    parts = _billed(parts) or [usage]
    plain, read, written = _inputs(parts)
    output = total(*(count(part, "output_tokens") for part in parts))
    asked = None if plain is None else total(plain, read, written)
    marks = set()
    if output and not asked:
        asked = None  # no prompt has 0 tokens
        marks.add(Mark.HALF_REPORT)
    thinking = count(mapping(usage.get("output_tokens_details")), "thinking_tokens")
    if output is not None and (thinking or 0) > output:
        marks.add(Mark.INCONSISTENT)
    hour = count(mapping(usage.get("cache_creation")), "ephemeral_1h_input_tokens")
    return Report(
        Usage(asked, output, read, written, thinking).completed(),
        units=amounts(mapping(usage.get("server_tool_use")), *_UNITS),
        modalities={"cache_write_1h": hour} if hour else {},
        marks=frozenset(marks),
    )


def _billed(iterations: list[Json]) -> list[Json]:
    """Without the attempts that another model answered in place of: refused before any output, they are waived."""
    if not any(part.get("type") == "fallback_message" for part in iterations):
        return iterations
    return [part for part in iterations if part.get("type") == "fallback_message" or part.get("output_tokens")]


def _inputs(parts: list[Json]) -> tuple[int | None, int | None, int | None]:
    plain = total(*(count(part, "input_tokens") for part in parts))
    read = total(*(count(part, "cache_read_input_tokens") for part in parts))
    return plain, read, total(*map(_written, parts))


def _written(part: Json) -> int | None:
    ages = mapping(part.get("cache_creation"))
    by_age = total(count(ages, "ephemeral_5m_input_tokens"), count(ages, "ephemeral_1h_input_tokens"))
    return most(count(part, "cache_creation_input_tokens"), by_age or None)


def _input(usage: Json) -> int:
    return total(*_inputs([usage])) or 0
