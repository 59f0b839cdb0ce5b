"""What the demo provider will send: pieces of a body, and the usage they report. Pure and deterministic."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from services.demo import sentences
from services.demo.scenario import Scenario

# Long and short, ASCII and not, with what JSON escapes and what breaks naive line splitters (U+2028, U+0085).
_WORDS = [
    "the",
    "stream",
    "goes",
    "on",
    "and",
    "every",
    "token",
    "counts",
    "once",
    "never",
    "twice",
    "whatever",
    "dies",
    "in",
    "between",
    "Ключ",
    "漢字",
    "naïve",
    "café",
    "🙂🚀",
    "«quoted»",
    "back\\slash",
    '"quotes"',
    "tab\there",
    "line\u2028separator",
    "next\x85line",
]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the demo provider sees it."""

    method: str
    path: str
    model: str
    streamed: bool
    include_usage: bool
    body: bytes
    scenario: Scenario
    credential: str = ""  # as far as it may be shown

    @property
    def input_tokens(self) -> int:
        """The provider's own idea of the prompt: any deterministic figure will do."""
        return 7 + len(self.body) // 5


@dataclass(frozen=True, slots=True)
class Piece:
    """One event, or any other part of a body that is written at once."""

    data: bytes
    tokens: int = 0  # of the answer's text in it
    usage: bool = False  # holds the final usage


@dataclass(slots=True)
class Script:
    """A whole answer."""

    dialect: str
    content_type: str
    pieces: list[Piece] = field(default_factory=list)
    usage: dict[str, int | None] | None = None  # what the provider reports, in the normal form
    error: bytes = b""  # the dialect's error in the middle of a stream
    status: int = 200


def words(scenario: Scenario) -> list[str]:
    """The answer's text, one word a token."""
    if scenario.say:
        return sentences.words(scenario.say, scenario.tokens)
    rng = random.Random(scenario.seed)
    said = [rng.choice(_WORDS) + " " for _ in range(scenario.tokens)]
    if scenario.huge and said:
        said[len(said) // 2] = "x€" * (scenario.huge // 4)
    return said


def normal(
    input_tokens: int, output_tokens: int, cache_read: int | None, cache_write: int | None, reasoning: int | None
) -> dict[str, int | None]:
    """Usage in the normal form, counted here and not by the project's readers: the auditor's truth."""
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": cache_write,
        "reasoning_tokens": reasoning,
        "total_tokens": input_tokens + output_tokens,
    }


def compact(document: Any) -> bytes:
    """JSON as most providers send it: no spaces, characters unescaped."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def data_event(document: Any, *, end: bytes = b"\n\n") -> bytes:
    """An SSE event without a name."""
    return b"data: " + compact(document) + end


def named_event(document: dict[str, Any]) -> bytes:
    """An SSE event named after its type."""
    return b"event: " + str(document["type"]).encode() + b"\n" + data_event(document)
