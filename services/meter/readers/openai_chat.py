"""OpenAI chat completions, legacy completions and embeddings, with the variations of everyone who copied them.

A usage object is a snapshot: the last one wins whole. Where it stands differs (see `_places`), and so does what its
parts include (see openai_usage.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Final

from services.meter.readers import openai_usage
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
    sequence,
    text,
)
from shared.contract.entry import Mark
from shared.contract.usage import Usage

# What most deltas consist of.
_TEXT_ALONE = frozenset({"role", "content"})
_WHOLE = ("chat.completion", "text_completion", "chat.completion.done")
# Typed events that end a stream, where they report: of transcripts, images, speech, Mistral's conversations.
_LAST: Final = (".done", ".completed")


_HALF: Final = frozenset({Mark.HALF_REPORT})


class ChatReader:
    """Reads `chat.completion(.chunk)`, `text_completion` and embedding documents."""

    marks: ClassVar[Marks] = Marks(every_key=(b'finish_reason"',), last_key=(b'usage"',), final=(b"[DONE]",))

    def __init__(self) -> None:
        self.reading = Reading()
        self._typed_last = False  # the last report is in an event that ends a stream

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(document.get("id"))
        reading.model = text(document.get("model")) or reading.model
        reading.service_tier = text(document.get("service_tier")) or reading.service_tier
        holder = document
        if "output" in document and "choices" not in document:  # DashScope's own API
            holder = mapping(document["output"])
            _end(reading, holder)
        choices = [*map(mapping, sequence(holder.get("choices")))]
        before = reading.usage
        self._read_usage(document, choices, join=observe)
        if reading.usage is not before:
            self._typed_last = text(document.get("type")).endswith(_LAST)
        self._read_error(event, document)
        kind = document.get("object")
        # Perplexity and MiniMax end a stream with a document that repeats the whole message; Perplexity's deltas have
        # the message so far beside them.
        repeats, spoken = kind == "chat.completion.done", bool(reading.output)
        for choice in choices:
            if choice.get("finish_reason"):
                _end(reading, choice)
            if observe and not repeats:
                index = choice.get("index")
                reading.say(TEXT, index, choice.get("text"))
                message = {} if spoken else mapping(choice.get("message"))
                _observe(reading, index, mapping(choice.get("delta")) or message)
        if observe and not choices:
            reading.say(TEXT, 0, document.get("response"))  # Cloudflare's own shape
            _observe(reading, 0, {"tool_calls": document.get("tool_calls")})
        if kind in _WHOLE and reading.finish:
            reading.complete = True

    def done(self) -> None:
        """`data: [DONE]` was seen."""
        self.reading.complete = True

    def close(self) -> None:
        """Not everybody sends [DONE]: a reason to finish and a report say as much."""
        if (self.reading.finish or self._typed_last) and self.reading.usage is not None:
            self.reading.complete = True

    def _read_usage(self, document: Json, choices: list[Json], *, join: bool) -> None:
        """`join`: every document is read, so that a report may come in two halves."""
        for place in _places(document, choices):
            cached = count(mapping(document.get("timings")), "cache_n")  # llama.cpp
            report = openai_usage.report(place, model=self.reading.model, cached=cached)
            if document.get("object") == "list" and report.usage.output_tokens is None:  # embeddings
                report = report._replace(usage=replace(report.usage, output_tokens=0).completed())
            self.reading.report(place, _with_other_half(report, self.reading.usage) if join else report)
            if report.usage.any_known:
                return

    def _read_error(self, event: bytes, document: Json) -> None:
        error = document.get("error")
        if error is None and (event == b"error" or document.get("object") == "error"):
            error = dict(document)  # gpustack and vLLM put the error where the document should be
        error = error or _vendors_error(document)
        if error:
            self.reading.error = error


def _vendors_error(document: Json) -> Any:
    """What went wrong, as vendors say it with status 200: Groq, MiniMax, Cloudflare, Baidu."""
    if "x_groq" in document:
        return mapping(document["x_groq"]).get("error")
    if "base_resp" in document:
        answered = mapping(document["base_resp"])
        return answered if answered.get("status_code") else None
    if document.get("success") is False:
        return document.get("errors") or dict(document)
    return dict(document) if "error_code" in document and "choices" not in document else None


def _end(reading: Reading, holder: Json) -> None:
    reason = holder.get("finish_reason")
    if reason and reason != "null":  # as DashScope writes it
        reading.finish.append(reason)


def _with_other_half(report: Report, before: Usage | None) -> Report:
    """A report of one side, and the other side as it was reported before: some relays split a report in two."""
    usage = report.usage
    if before is None or not usage.any:
        return report
    if not usage.input_tokens and before.input_tokens:
        both = replace(before, output_tokens=usage.output_tokens, reasoning_tokens=usage.reasoning_tokens)
    elif usage.output_tokens is None and before.output_tokens:
        both = replace(usage, output_tokens=before.output_tokens, reasoning_tokens=before.reasoning_tokens)
    else:
        return report
    return report._replace(usage=replace(both, total_tokens=None).completed(), marks=report.marks - _HALF)


def _places(document: Json, choices: list[Json]) -> list[Json]:
    """Top level; else Groq's `x_groq`; else Moonshot's, in the choice that finishes."""
    holders = [document, mapping(document.get("x_groq"))]
    for choice in choices:
        holders += (choice, mapping(choice.get("delta")))
    return [usage for holder in holders if "usage" in holder and (usage := mapping(holder["usage"]))]


def _observe(reading: Reading, index: Any, part: Json) -> None:
    """What a delta or message says, each thing once."""
    content = part.get("content")
    if isinstance(content, list):
        _observe_pieces(reading, index, content)
    else:
        reading.say(TEXT, index, content)
    if part.keys() <= _TEXT_ALONE:
        return
    reading.say(TEXT, index, part.get("refusal"), mapping(part.get("audio")).get("transcript"))
    reading.say(REASONING, index, _reasoning_of(part))
    for call in map(mapping, sequence(part.get("tool_calls"))):
        function = mapping(call.get("function"))
        reading.say(CALL, f"{index} {call.get('index')}", function.get("name"), function.get("arguments"))
    function = mapping(part.get("function_call"))
    reading.say(CALL, index, function.get("name"), function.get("arguments"))


def _observe_pieces(reading: Reading, index: Any, pieces: list[Any]) -> None:
    """Mistral: [{"type": "thinking", "thinking": [{"text": …}]}, …]."""
    for piece in map(mapping, pieces):
        reading.say(TEXT, index, piece.get("text"))
        reading.say(REASONING, index, *(mapping(thought).get("text") for thought in sequence(piece.get("thinking"))))


def _reasoning_of(part: Json) -> str:
    """Reasoning text; OpenRouter sends the same text in two fields."""
    plain = text(part.get("reasoning_content")) or text(part.get("reasoning"))
    if plain:
        return plain
    details = (mapping(detail) for detail in sequence(part.get("reasoning_details")))
    return "".join(text(detail.get("text")) or text(detail.get("summary")) for detail in details)
