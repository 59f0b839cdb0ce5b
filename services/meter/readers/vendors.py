"""Shapes of single vendors: Titan and Llama on Bedrock, Meta's Llama API, Claude's old completions, and the native
APIs of llama.cpp, SGLang, TGI, LM Studio, watsonx and others."""

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
from shared.contract.entry import Mark
from shared.contract.usage import Usage

# Names of counts, by the side they count.
_INPUT = (
    "inputTextTokenCount",  # Titan
    "prompt_token_count",  # Llama on Bedrock
    "tokens_evaluated",  # llama.cpp
    "num_prompt_tokens",  # Llama API
    "input_token_count",  # watsonx, Replicate
    "num_input_tokens",  # DeepInfra
    "num_tokens_prompt_total",  # Aleph Alpha
)
_OUTPUT = (
    "totalOutputTextTokenCount",
    "generation_token_count",
    "tokens_predicted",
    "num_completion_tokens",
    "generated_token_count",
    "output_token_count",
    "num_tokens_generated",
)
_TOTAL = ("num_total_tokens",)
_CACHED = "cached_tokens"
_REASONING = "reasoning_tokens"
# Objects that hold counts under names of their own, and what these mean: SGLang, LM Studio, DeepInfra, TGI.
_HOLDERS = {
    "meta_info": {"prompt_tokens": _INPUT[0], "completion_tokens": _OUTPUT[0], "cached_tokens": _CACHED},
    "stats": {
        "input_tokens": _INPUT[0],
        "total_output_tokens": _OUTPUT[0],
        "reasoning_output_tokens": _REASONING,
    },
    "inference_status": {"tokens_input": _INPUT[0], "tokens_generated": _OUTPUT[0]},
    "details": {"input_length": _INPUT[0], "generated_tokens": _OUTPUT[0]},
}
_ENDS = ("stop_reason", "completionReason", "finish_reason")
_TEXTS = ("outputText", "generation", "completion", "generated_text", "content")

COUNTS = frozenset({*_INPUT, *_OUTPUT})


def inner_of(document: Json) -> Json:
    """The event inside, as the Llama API and LM Studio have it."""
    result = mapping(document.get("result"))
    return mapping(document.get("event")) or (result if "stats" in result else document)


def stated(document: Json) -> dict[str, Any]:
    """The counts of a document, wherever a vendor has put them, under the names that `report_of` knows."""
    found = _named(document) | _named(mapping(document.get("metrics")))
    for result in map(mapping, sequence(document.get("results"))):
        found |= _named(result)
    for metric in map(mapping, sequence(document.get("metrics"))):
        found[text(metric.get("metric"))] = metric.get("value")
    for holder, names in _HOLDERS.items():
        if holder in document:
            held = mapping(document[holder])
            found |= {meant: held[name] for name, meant in names.items() if held.get(name) is not None}
    prompt = sequence(mapping(document.get("details")).get("prefill"))
    if prompt:  # TGI lists the prompt's tokens where it is asked for them
        found[_INPUT[0]] = len(prompt)
    results = [count(mapping(result), "tokenCount") for result in sequence(document.get("results"))]
    if total(*results) is not None:
        found[_OUTPUT[0]] = total(*results)
    return found


def _named(holder: Json) -> dict[str, Any]:
    return {name: holder[name] for name in COUNTS.intersection(holder) if holder[name] is not None}


class VendorReader:
    """Reads documents that state their counts side by side with the text."""

    marks: ClassVar[Marks] = Marks(
        every=(
            b'TokenCount"',
            b'token_count"',
            b'"tokens_evaluated"',
            b'"metrics"',
            b'"meta_info"',
            b'"stats"',
            b'generated_tokens"',
        ),
        every_key=(b'stop_reason"', b'completionReason"', b'stop"', b'finish_reason"'),
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
        inner = inner_of(document)
        self._read_counts(inner)
        parts = [inner, mapping(inner.get("details")), mapping(inner.get("meta_info"))]
        parts += [*map(mapping, sequence(inner.get("results"))), *map(mapping, sequence(inner.get("outputs")))]
        for part in parts:
            ends = [part[name] for name in _ENDS if part.get(name) and part[name] != "not_finished"]  # watsonx
            reading.finish.extend(ends[:1])
            if ends or part.get("stop") is True or "stats" in part:
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
        counts = stated(document)
        if counts:
            # watsonx counts the prompt in the first event, and 0 in the others.
            self._counts |= {name: value for name, value in counts.items() if value or name not in self._counts}
            timed = count(mapping(document.get("timings")), "cache_n")
            cached = most(timed, count(self._counts, _CACHED))
            silent = not {"embedding", "embeddingsByType"}.isdisjoint(document)
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
    half = bool(answered) and not asked
    usage = Usage(None if half else asked, answered, cached, None, count(counts, _REASONING), whole).completed()
    return Report(usage, marks=frozenset({Mark.HALF_REPORT} if half else ()))
