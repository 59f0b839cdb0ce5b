"""Cohere chat, embed and rerank. `tokens` is what the model read and wrote, `billed_units` what Cohere bills: it leaves
the vendor's own prompt out, and may count searches or images. Both are kept; the billed ones are booked."""

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
    amounts,
    count,
    first_count,
    mapping,
    text,
)
from shared.contract.entry import Mark
from shared.contract.usage import Usage

_UNITS = ("search_units", "classifications", "images", "audio_seconds")


class CohereReader:
    """Reads v2 events (`message-start` … `message-end`), v1 lines (`stream-start` … `stream-end`), and answers."""

    marks: ClassVar[Marks] = Marks(
        every=(b'"message-end"', b'"stream-end"', b'"billed_units"'), every_key=(b'finish_reason"',)
    )

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        ids = (text(document.get(name)) for name in ("id", "response_id", "generation_id"))
        reading.response_id = reading.response_id or next(filter(None, ids), "")
        reading.model = text(document.get("model")) or reading.model
        kind = text(document.get("type")) or text(document.get("event_type"))
        self._read_usage(kind, document)
        delta = mapping(document.get("delta"))
        finish = (delta if kind == "message-end" else document).get("finish_reason")
        if finish:
            reading.finish.append(finish)
        if finish or kind == "stream-end":
            reading.complete = True
        if document.get("error") or event == b"error":
            reading.error = document.get("error") or dict(document)
        if observe and kind != "stream-end":  # which repeats the whole answer
            self._observe_v1(document)
            self._observe(document.get("index"), mapping(delta.get("message")) or mapping(document.get("message")))

    def done(self) -> None:
        """`data: [DONE]`; `message-end` was the end."""

    def close(self) -> None:
        """Nothing is left to tell."""

    def _read_usage(self, kind: str, document: Json) -> None:
        holder = document
        if kind == "message-end":
            holder = mapping(document.get("delta"))
        elif kind == "stream-end":
            holder = mapping(document.get("response"))
        usage = mapping(holder.get("usage")) or mapping(holder.get("meta"))
        if usage:
            self.reading.report(usage, report_of(usage, silent="embeddings" in document))

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

    def _observe_v1(self, document: Json) -> None:
        self.reading.say(TEXT, 0, document.get("text"))
        calls = document.get("tool_calls")
        for at, call in enumerate(map(mapping, calls if isinstance(calls, list) else [])):
            given = msgspec.json.encode(call.get("parameters") or {}).decode()
            self.reading.say(CALL, at, call.get("name"), given if call.get("name") else None)


def report_of(usage: Json, *, silent: bool = False) -> Report:
    """A usage or meta object; inclusive as it comes. `silent`: the answer is no text."""
    tokens, billed = mapping(usage.get("tokens")), mapping(usage.get("billed_units"))
    counted, bill = _counts(tokens, silent=silent), _counts(billed, silent=silent)
    reported = Usage(
        counted.input_tokens or first_count(bill.input_tokens, counted.input_tokens),
        counted.output_tokens or first_count(bill.output_tokens, counted.output_tokens),
        cache_read_tokens=count(usage, "cached_tokens"),
        reasoning_tokens=count(tokens, "reasoning_tokens"),
    ).completed()
    inconsistent = reported.input_tokens is not None and (reported.cache_read_tokens or 0) > reported.input_tokens
    differs = bill.any and (bill.input_tokens, bill.output_tokens) != (
        reported.input_tokens,
        reported.output_tokens,
    )
    images = count(tokens, "image_tokens")
    return Report(
        reported,
        billed=bill if differs else None,
        units=amounts(billed, *_UNITS),
        modalities={"input_image": images} if images else {},
        marks={mark for mark, holds in ((Mark.BILLED_UNITS, differs), (Mark.INCONSISTENT, inconsistent)) if holds},
    )


def _counts(holder: Json, *, silent: bool) -> Usage:
    asked, answered = count(holder, "input_tokens"), count(holder, "output_tokens")
    return Usage(asked, 0 if silent and asked is not None and answered is None else answered).completed()
