"""Shapes of single vendors: Titan and Llama on Bedrock, Meta's Llama API, llama.cpp's own, Claude's old completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from services.meter.readers.reading import (
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
    text,
    total,
)
from shared.contract.usage import Usage

# Names of counts, by the side they count.
_INPUT = ("inputTextTokenCount", "prompt_token_count", "tokens_evaluated", "num_prompt_tokens")
_OUTPUT = ("totalOutputTextTokenCount", "generation_token_count", "tokens_predicted", "num_completion_tokens")
_TOTAL = ("num_total_tokens",)
_ENDS = ("stop_reason", "completionReason", "finish_reason")
_TEXTS = ("outputText", "generation", "completion", "generated_text", "content")

COUNTS = frozenset({*_INPUT, *_OUTPUT})


class VendorReader:
    """Reads documents that state their counts side by side with the text."""

    marks: ClassVar[Marks] = Marks(
        every=(b'TokenCount"', b'token_count"', b'"tokens_evaluated"', b'"metrics"'),
        every_key=(b'stop_reason"', b'completionReason"', b'stop"'),
    )

    def __init__(self) -> None:
        self.reading = Reading()
        self._counts: dict[str, Any] = {}  # a stream's first chunk counts the input, its last the output

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(document.get("id"))
        reading.model = text(document.get("model")) or reading.model
        if document.get("error") or event == b"error":
            reading.error = document.get("error") or dict(document)
        inner = mapping(document.get("event")) or document
        self._read_counts(inner)
        parts = [inner, *map(mapping, sequence(inner.get("results"))), *map(mapping, sequence(inner.get("outputs")))]
        for part in parts:
            ends = [part[name] for name in _ENDS if part.get(name)]
            reading.finish.extend(ends[:1])
            if ends or part.get("stop") is True:
                reading.complete = True
            if observe:
                reading.say(TEXT, 0, *(part.get(name) for name in _TEXTS), part.get("text"))
        if observe:
            self._observe_llama_api(inner)

    def done(self) -> None:
        """`data: [DONE]` was seen."""
        self.reading.complete = True

    def close(self) -> None:
        """Nothing is left to tell."""

    def _read_counts(self, document: Json) -> None:
        stated = {name: document[name] for name in COUNTS if document.get(name) is not None}
        for metric in map(mapping, sequence(document.get("metrics"))):
            stated[text(metric.get("metric"))] = metric.get("value")
        results = [count(mapping(result), "tokenCount") for result in sequence(document.get("results"))]
        if total(*results) is not None:
            stated["totalOutputTextTokenCount"] = total(*results)
        cached = count(mapping(document.get("timings")), "cache_n")
        if stated:
            self._counts |= stated
            silent = "embedding" in document or "embeddingsByType" in document
            self.reading.report(self._counts, report_of(self._counts, silent=silent, cached=cached))

    def _observe_llama_api(self, inner: Json) -> None:
        delta = mapping(inner.get("delta"))
        message = mapping(inner.get("completion_message"))
        self.reading.say(TEXT, 0, delta.get("text"), mapping(message.get("content")).get("text"))
        self.reading.say(REASONING, 0, delta.get("reasoning"))


def report_of(counts: Mapping[str, Any], *, silent: bool, cached: int | None) -> Report:
    """Counts by the vendors' names. `silent`: the answer is no text."""
    asked = most(*(count(counts, name) for name in _INPUT))
    answered = most(*(count(counts, name) for name in _OUTPUT))
    whole = most(*(count(counts, name) for name in _TOTAL))
    if silent and asked is not None:
        answered = answered or 0
    return Report(Usage(asked, answered, cached, None, None, whole).completed())
