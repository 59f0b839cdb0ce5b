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
    Report,
    count,
    mapping,
    sequence,
    text,
    total,
)
from services.meter.readers.work import of_response
from shared.contract.entry import Mark
from shared.contract.usage import Usage
from shared.contract.work import WorkKind

# What an interaction's status is once nothing more will come.
_ENDS = frozenset({"completed", "failed", "cancelled", "incomplete", "requires_action"})
_MODALITIES = {
    "input_tokens_by_modality": "input",
    "output_tokens_by_modality": "output",
    "cached_tokens_by_modality": "cache_read",
    "tool_use_tokens_by_modality": "input_tools",
}


class InteractionsReader:
    """Reads `interaction.*` and `step.*` events, and an interaction as one document (with `steps`, once `outputs`)."""

    marks: ClassVar[Marks] = Marks(every=(b'"interaction"', b'"usage"'))

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        kind = text(document.get("event_type"))
        own = document.get("object") == "interaction" or "outputs" in document or "steps" in document
        interaction = mapping(document.get("interaction")) or (document if own else {})
        reading.response_id = reading.response_id or text(interaction.get("id"))
        reading.model = text(interaction.get("model")) or reading.model
        reading.service_tier = text(interaction.get("service_tier")) or reading.service_tier
        usage = mapping(interaction.get("usage"))
        if usage:
            reading.report(usage, report_of(usage))
        if kind == "interaction.completed" or text(interaction.get("status")) in _ENDS:
            reading.complete = True
        if interaction:
            reading.work = of_response(WorkKind.INTERACTION, interaction, _ENDS, alone=own)
        if own and reading.work is not None and not reading.work.ended:
            reading.marks.add(Mark.OPEN_WORK)
        if document.get("error") or event == b"error":
            reading.error = document.get("error") or dict(document)
        if observe:
            self._observe(document.get("index"), mapping(document.get("delta")))
            if own:
                self._observe_whole(interaction)

    def done(self) -> None:
        """`event: done`, `data: [DONE]`; interaction.completed was the end."""

    def close(self) -> None:
        """Nothing is left to tell."""

    def _observe_whole(self, interaction: Json) -> None:
        for index, part in enumerate(map(mapping, sequence(interaction.get("outputs")))):
            self._observe(index, part)
        for index, step in enumerate(map(mapping, sequence(interaction.get("steps")))):
            if text(step.get("type")) in ("user_input", "function_result"):
                continue
            for part in map(mapping, sequence(step.get("content")) or sequence(step.get("summary"))):
                self._observe(index, {"type": step.get("type"), **part, "content": None})
            self._observe(index, {name: step.get(name) for name in ("type", "name", "arguments")})

    def _observe(self, index: Any, part: Json) -> None:
        thought = text(part.get("type")).startswith("thought")
        self.reading.say(
            REASONING if thought else TEXT, index, part.get("text"), mapping(part.get("content")).get("text")
        )
        self.reading.say(CALL, index, part.get("name"))
        if part.get("arguments"):
            self.reading.say(CALL, index, msgspec.json.encode(part["arguments"]).decode())


def report_of(usage: Json) -> Report:
    """A usage object, inclusive."""
    thoughts, whole = count(usage, "total_thought_tokens"), count(usage, "total_tokens")
    asked = total(count(usage, "total_input_tokens"), count(usage, "total_tool_use_tokens"))
    answered = total(count(usage, "total_output_tokens"), thoughts)
    marks = set()
    if None not in (asked, answered, whole) and (whole or 0) != (asked or 0) + (answered or 0):
        marks.add(Mark.INCONSISTENT)
    if answered and not asked:
        asked = whole = None  # no prompt has 0 tokens
        marks.add(Mark.HALF_REPORT)
    return Report(
        Usage(asked, answered, count(usage, "total_cached_tokens"), None, thoughts, whole).completed(),
        modalities=_modalities(usage),
        marks=frozenset(marks),
    )


def _modalities(usage: Json) -> dict[str, int]:
    return {
        f"{side}_{text(detail.get('modality'))}": tokens
        for field, side in _MODALITIES.items()
        for detail in map(mapping, sequence(usage.get(field)))
        if (tokens := count(detail, "tokens"))
    }
