"""Gemini generateContent, streamed either way or not at all. Every document carries a snapshot of the usage; it is
not monotone (fields vanish, the prompt grows), so the last one counts, whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

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
from shared.contract.entry import Mark
from shared.contract.usage import Usage

_DETAILS = {
    "promptTokensDetails": "input",
    "promptTokenDetails": "input",
    "toolUsePromptTokensDetails": "input_tools",
    "candidatesTokensDetails": "output",
    "cacheTokensDetails": "cache_read",
}


_KEPT: Final = "cache_token_hours"


class GeminiReader:
    """Reads GenerateContentResponse documents and embedding answers."""

    marks: ClassVar[Marks] = Marks(every=(b'"finishReason"',), last=(b'TokenCount"',))

    def __init__(self) -> None:
        self.reading = Reading()
        self._searched: set[str] = set()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        reading = self.reading
        reading.response_id = reading.response_id or text(document.get("responseId"))
        reading.model = text(document.get("modelVersion")) or reading.model
        usage = mapping(document.get("usageMetadata"))
        # Vertex's earlier chunks carry only a trafficType: that is no usage.
        if usage:
            silent = "embedding" in document or "embeddings" in document
            made = _made_cache(document, usage) if "expireTime" in document else None
            if made is not None:
                reading.model = text(document.get("model")).rpartition("/")[2]
            reading.report(usage, made or report_of(usage, silent=silent))
            reading.service_tier = text(usage.get("serviceTier")) or reading.service_tier
        if document.get("error") or event == b"error":
            reading.error = document.get("error") or dict(document)
        if "promptFeedback" in document and mapping(document["promptFeedback"]).get("blockReason"):
            reading.finish.append(f"BLOCK:{document['promptFeedback']['blockReason']}")
            reading.complete = True
        for candidate in map(mapping, sequence(document.get("candidates"))):
            if candidate.get("finishReason"):
                reading.finish.append(candidate["finishReason"])
                reading.complete = True
            if "groundingMetadata" in candidate:
                self._read_searches(mapping(candidate["groundingMetadata"]))
            if observe:
                for part in map(mapping, sequence(mapping(candidate.get("content")).get("parts"))):
                    self._observe_part(candidate.get("index"), part)

    def done(self) -> None:
        """Gemini sends no [DONE]."""

    def close(self) -> None:
        """Nothing is left to tell."""

    def _read_searches(self, grounding: Json) -> None:
        """Google bills searches that differ, and none that are empty; or, of older models, that there were any."""
        self._searched.update(query for query in sequence(grounding.get("webSearchQueries")) if text(query))
        if self._searched:
            self.reading.units |= {"web_search_calls": len(self._searched), "grounded_request": 1}

    def _observe_part(self, index: Any, part: Json) -> None:
        self.reading.say(REASONING if part.get("thought") else TEXT, index, part.get("text"))
        call = mapping(part.get("functionCall"))
        if call:
            self.reading.say(CALL, index, call.get("name"), msgspec.json.encode(call.get("args") or {}).decode())
        if "executableCode" in part:
            self.reading.say(CALL, index, mapping(part["executableCode"]).get("code"))


def _made_cache(document: Json, usage: Json) -> Report | None:
    """What a cache was made of, and how long these tokens are to be kept."""
    made, ends = (_time(document.get(name)) for name in ("createTime", "expireTime"))
    tokens = count(usage, "totalTokenCount")
    if made is None or ends is None or not tokens or ends <= made:
        return None
    # Google bills what it reads for it as any input.
    return Report(Usage(tokens, 0).completed(), units={_KEPT: tokens * ((ends - made) / timedelta(hours=1))})


def _time(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def report_of(usage: Json, *, silent: bool = False) -> Report:
    """A usageMetadata object, inclusive: thoughts are beside the candidates, tool-use prompts beside the prompt.

    `silent`: the answer is no text, so that there is no output to miss.
    """
    prompt, said = count(usage, "promptTokenCount"), count(usage, "candidatesTokenCount")
    tools, thoughts = count(usage, "toolUsePromptTokenCount"), count(usage, "thoughtsTokenCount")
    cached, whole = count(usage, "cachedContentTokenCount"), count(usage, "totalTokenCount")
    asked, answered = total(prompt, tools), total(said, thoughts)
    marks = set()
    if not prompt and said is not None and (whole or 0) > (answered or 0):
        asked = (whole or 0) - (answered or 0)  # some answers state the prompt in the total alone
    elif None not in (asked, answered, whole) and (whole or 0) != (asked or 0) + (answered or 0):
        marks.add(Mark.INCONSISTENT)
        if (cached or 0) > (asked or 0) and whole == (asked or 0) + (answered or 0) + (cached or 0):
            asked = (asked or 0) + (cached or 0)  # a relay that counts the cache beside the prompt
        elif thoughts and whole == (asked or 0) + (said or 0):
            answered = said  # AI Studio once counted the thoughts among the candidates
        elif (whole or 0) < (asked or 0) + (answered or 0):
            whole = None  # a sum is never less than its parts
    if asked is not None and (cached or 0) > asked:
        marks.add(Mark.INCONSISTENT)
    if answered and not asked:
        asked = whole = None  # no prompt has 0 tokens
        marks.add(Mark.HALF_REPORT)
    if silent and asked is not None:
        answered = answered or 0
    shares = _modalities(usage)
    return Report(
        Usage(asked, answered, cached, None, thoughts, whole).completed(), modalities=shares, marks=frozenset(marks)
    )


def _modalities(usage: Json) -> dict[str, int]:
    found: dict[str, int] = {}
    for field, side in _DETAILS.items():
        if field not in usage:
            continue
        for detail in map(mapping, sequence(usage.get(field))):
            tokens, kind = count(detail, "tokenCount"), text(detail.get("modality")).lower()
            if tokens and kind:
                found[f"{side}_{kind}"] = found.get(f"{side}_{kind}", 0) + tokens
    return found
