"""Answers with a usage of one's choice, in several shapes, and what a reader makes of them."""

from __future__ import annotations

import json
from typing import Any

from services.meter.readers.reading import Reading

# Input, output, cache read, cache write, reasoning, total.
Counts = tuple[int | None, int | None, int | None, int | None, int | None, int | None]


def counts(reading: Reading) -> Counts | None:
    return None if reading.usage is None else tuple(reading.usage.as_dict().values())  # type: ignore[return-value]


def chat(usage: dict[str, Any], model: str = "m", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Three short words"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage, **more}


def message(usage: dict[str, Any]) -> dict[str, Any]:
    content = [{"type": "text", "text": "Three short words"}]
    return {"id": "m", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"} | {
        "model": "claude-x",
        "usage": usage,
    }


def gemini(usage: dict[str, Any]) -> dict[str, Any]:
    part = {"content": {"parts": [{"text": "Three short words"}]}, "finishReason": "STOP"}
    return {"candidates": [part], "usageMetadata": usage, "modelVersion": "gemini-x", "responseId": "r"}


def events(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents)
