"""Cached input under every name that somebody has for it, and where it contradicts the rest."""

import json
from typing import Any

import pytest

from services.meter.readers.reader import read
from services.meter.tails import reported
from shared.contract.dialects import Dialect
from shared.contract.entry import Mark
from tests.support.answers import Counts, chat, counts, gemini

TOP = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500}


@pytest.mark.parametrize(
    "usage",
    [
        *(
            {name: 900}
            for name in ("cached_tokens", "num_cached_tokens", "cache_read_input_tokens", "cache_read_tokens")
        ),
        *({name: 900} for name in ("prompt_cache_hit_tokens", "cached_input_tokens", "input_cached_tokens")),
        *({name: 900} for name in ("cachedTokens", "cachedInputTokens", "cachedPromptTokens", "cacheReadInputTokens")),
        {"cached_tokens": 0, "cache_hit_tokens": 900},
        {"cached_tokens": None, "prompt_tokens_details": {"cached_tokens": 900}},
        {"prompt_tokens_details": {"cached_input_tokens": 900}},
        {"input_token_details": {"cache_read_tokens": 900}},
        {"promptTokensDetails": {"cachedTokens": 900}},
        {"prompt_tokens_details": {"cached_tokens": "900"}},
    ],
)
def test_names_of_reads(usage: dict[str, Any]) -> None:
    reading = read(Dialect.OPENAI_CHAT, json.dumps(chat(TOP | usage)).encode())
    assert (counts(reading), reading.marks) == ((1200, 300, 900, None, None, 1500), set())


@pytest.mark.parametrize(
    "usage",
    [
        *({name: 100} for name in ("cache_write_tokens", "cache_creation_input_tokens", "cacheCreationInputTokens")),
        {"input_tokens_details": {"cached_creation_tokens": 100}},
        {"claude_cache_creation_5_m_tokens": 60, "claude_cache_creation_1_h_tokens": 40},
        {"cache_write_tokens": 0, "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40}},
    ],
)
def test_names_of_writes(usage: dict[str, Any]) -> None:
    reading = read(Dialect.OPENAI_CHAT, json.dumps(chat(TOP | usage)).encode())
    assert (counts(reading), reading.marks) == ((1200, 300, None, 100, None, 1500), set())


GEMINI: list[tuple[dict[str, int], Counts, set[Mark]]] = [
    ({"cachedContentTokenCount": 100, "totalTokenCount": 117}, (112, 5, 100, None, None, 117), {Mark.INCONSISTENT}),
    ({"cachedContentTokenCount": 100, "totalTokenCount": 17}, (12, 5, 100, None, None, 17), {Mark.INCONSISTENT}),
    ({"promptTokenCount": 0, "totalTokenCount": 17}, (12, 5, None, None, None, 17), set()),
]


@pytest.mark.parametrize(("usage", "expected", "marks"), GEMINI)
def test_a_relays_gemini(usage: dict[str, int], expected: Counts, marks: set[Mark]) -> None:
    body = gemini({"promptTokenCount": 12, "candidatesTokenCount": 5} | usage)
    reading = read(Dialect.GEMINI, json.dumps(body).encode())
    assert (counts(reading), reading.marks) == (expected, marks)


def test_more_cached_than_asked_is_marked() -> None:
    ollama = {"message": {"content": "x"}, "done": True, "prompt_eval_count": 9, "eval_count": 1}
    body = json.dumps(ollama | {"prompt_eval_cached_count": 10}).encode()
    assert read(Dialect.OLLAMA_CHAT, body).marks == {Mark.INCONSISTENT}
    cohere = {"id": "x", "usage": {"tokens": {"input_tokens": 9, "output_tokens": 1}, "cached_tokens": 10}}
    assert read(Dialect.COHERE_V2_CHAT, json.dumps(cohere).encode()).marks == {Mark.INCONSISTENT}


@pytest.mark.parametrize(
    ("tokens", "bill", "expected"),
    [
        ((0, 0), (12, 5), (12, 5)),
        ((200, 9), (0, 0), (200, 9)),
        ((200, 9), (12, 0), (12, 9)),
        ((200, 9), (12, 5), (12, 5)),
    ],
)
def test_a_zero_of_coheres_hides_no_count(tokens: tuple[int, int], bill: tuple[int, int], expected: Any) -> None:
    names = ("input_tokens", "output_tokens")
    usage = {"tokens": dict(zip(names, tokens, strict=True)), "billed_units": dict(zip(names, bill, strict=True))}
    message = {"content": [{"type": "text", "text": "Three short words"}]}
    body = json.dumps({"id": "x", "finish_reason": "COMPLETE", "message": message, "usage": usage}).encode()
    booked = reported(Dialect.COHERE_V2_CHAT, read(Dialect.COHERE_V2_CHAT, body))
    assert booked is not None
    assert (booked.input_tokens, booked.output_tokens) == expected
