"""Usage objects of every provider's making: the normal form each comes to, and what is marked.

Counts are (input, output, cache read, cache write, reasoning, total).
"""

import json
from typing import Any, NamedTuple

import pytest

from services.meter.readers.reader import read
from shared.contract.dialects import Dialect
from shared.contract.entry import Mark
from tests.support.answers import Counts, chat, counts, gemini, message


class Case(NamedTuple):
    name: str
    dialect: Dialect
    document: dict[str, Any]
    counts: Counts
    marks: frozenset[Mark] = frozenset()


CHAT, RESPONSES, MESSAGES = Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES
ODD, HALF = frozenset({Mark.INCONSISTENT}), frozenset({Mark.HALF_REPORT})

CASES = [
    # Gaps between the total and its parts.
    Case(
        "cache beside the prompt",
        CHAT,
        chat({"prompt_tokens": 40, "completion_tokens": 6, "total_tokens": 1046, "cache_read_input_tokens": 1000}),
        (1040, 6, 1000, None, None, 1046),
    ),
    Case(
        "cache read and written beside the prompt",
        CHAT,
        chat(
            {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 160, "prompt_tokens_details": {}}
            | {"cache_read_input_tokens": 100, "cache_creation_input_tokens": 50}
        ),
        (154, 6, 100, 50, None, 160),
    ),
    Case(
        "reasoning beside the completion",
        CHAT,
        chat({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 17, "reasoning_tokens": 10}),
        (5, 12, None, None, 10, 17),
    ),
    Case(
        "reasoning and cache, both beside",
        CHAT,
        chat(
            {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 47, "reasoning_tokens": 10}
            | {"cached_tokens": 30}
        ),
        (35, 12, 30, None, 10, 47),
    ),
    Case(
        "spoken output beside the completion",
        CHAT,
        chat(
            {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 62}
            | {"completion_tokens_details": {"audio_tokens": 50}}
        ),
        (9, 53, None, None, None, 62),
    ),
    Case(
        "names in camel case",
        CHAT,
        chat({"promptTokens": 9, "completionTokens": 3, "totalTokens": 12}),
        (9, 3, None, None, None, 12),
    ),
    Case(
        "Anthropic's cache writes by their age alone",
        MESSAGES,
        message(
            {"input_tokens": 5, "output_tokens": 6}
            | {"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0}}
        ),
        (25, 6, None, 20, None, 31),
    ),
    Case(
        "connectors are input",
        CHAT,
        chat({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 62, "connector_tokens": 50}),
        (59, 3, None, None, None, 62),
    ),
    Case(
        "audio that is told in seconds",
        CHAT,
        chat({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 112, "prompt_audio_seconds": 8}),
        (109, 3, None, None, None, 112),
    ),
    Case(
        "Gemini's compatible endpoint",
        CHAT,
        chat({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 82}, model="gemini-x"),
        (9, 73, None, None, None, 82),
    ),
    Case(
        "a gap nobody explains",
        CHAT,
        chat({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 14}),
        (9, 3, None, None, None, 14),
        ODD,
    ),
    Case(
        "a total below its parts",
        CHAT,
        chat({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 4}),
        (9, 3, None, None, None, 12),
        ODD,
    ),
    # Impossible sums.
    Case(
        "cached beyond the prompt, of Claude",
        CHAT,
        chat(
            {"prompt_tokens": 2, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 700}},
            model="claude-x",
        ),
        (702, 5, 700, None, None, 707),
        ODD,
    ),
    Case(
        "cached beyond the prompt, of others",
        CHAT,
        chat({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "num_cached_tokens": 64}),
        (10, 5, 64, None, None, 15),
        ODD,
    ),
    Case(
        "reasoning beyond the output",
        CHAT,
        chat({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "reasoning_tokens": 8}),
        (10, 5, None, None, 8, 15),
        ODD,
    ),
    # Names.
    Case(
        "a zero hides nothing",
        CHAT,
        chat(
            {"prompt_tokens": 90, "completion_tokens": 5, "total_tokens": 95, "prompt_cache_hit_tokens": 80}
            | {"prompt_tokens_details": {"cached_tokens": 0}}
        ),
        (90, 5, 80, None, None, 95),
    ),
    Case(
        "details in the singular",
        CHAT,
        chat({"prompt_tokens": 90, "completion_tokens": 5, "prompt_token_details": {"cached_tokens": 70}}),
        (90, 5, 70, None, None, 95),
    ),
    Case(
        "cache writes in the details",
        CHAT,
        chat(
            {"prompt_tokens": 90, "completion_tokens": 5, "prompt_tokens_details": {"cache_creation_input_tokens": 60}}
        ),
        (90, 5, None, 60, None, 95),
    ),
    Case(
        "cache writes by their age alone",
        CHAT,
        chat(
            {"prompt_tokens": 90, "completion_tokens": 5}
            | {
                "prompt_tokens_details": {
                    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}
                }
            }
        ),
        (90, 5, None, 50, None, 95),
    ),
    Case(
        "llama.cpp's timings",
        CHAT,
        chat({"prompt_tokens": 90, "completion_tokens": 5, "total_tokens": 95}, timings={"cache_n": 88, "prompt_n": 2}),
        (90, 5, 88, None, None, 95),
    ),
    Case(
        "responses with chat's names",
        RESPONSES,
        {"object": "response", "status": "completed", "usage": {"prompt_tokens": 7, "completion_tokens": 8}},
        (7, 8, None, None, None, 15),
    ),
    Case(
        "what a hosted tool has drawn",
        RESPONSES,
        {
            "object": "response",
            "status": "completed",
            "usage": {"input_tokens": 7, "output_tokens": 8, "total_tokens": 15},
            "tool_usage": {"image_gen": {"input_tokens": 0, "output_tokens": 400}},
        },
        (7, 408, None, None, None, 415),
    ),
    # Half reports.
    Case(
        "reasoning alone",
        CHAT,
        chat({"prompt_tokens": 7, "completion_tokens": None, "completion_tokens_details": {"reasoning_tokens": 30}}),
        (7, 30, None, None, 30, 37),
    ),
    Case(
        "a prompt of no tokens",
        CHAT,
        chat({"prompt_tokens": 0, "completion_tokens": 30, "total_tokens": 30}),
        (None, 30, None, None, None, None),
        HALF,
    ),
    Case(
        "a prompt in the total alone",
        CHAT,
        chat({"completion_tokens": 30, "total_tokens": 50}),
        (20, 30, None, None, None, 50),
    ),
    Case(
        "Ollama without its prompt",
        Dialect.OLLAMA_CHAT,
        {"model": "m", "message": {"content": "Hi"}, "done": True, "eval_count": 9},
        (None, 9, None, None, None, None),
        HALF,
    ),
    Case(
        "Ollama's cache",
        Dialect.OLLAMA_CHAT,
        {"model": "m", "done": True, "eval_count": 9, "prompt_eval_count": 500, "prompt_eval_cached_count": 480},
        (500, 9, 480, None, None, 509),
    ),
    # Perplexity bills what it read, and its reasoning, beside the totals.
    Case(
        "deep research",
        CHAT,
        chat(
            {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "citation_tokens": 300}
            | {"reasoning_tokens": 4000, "num_search_queries": 6}
        ),
        (310, 4020, None, None, 4000, 4330),
    ),
    # Anthropic.
    Case(
        "a waived attempt",
        MESSAGES,
        message(
            {"input_tokens": 50, "output_tokens": 7}
            | {
                "iterations": [
                    {"type": "message", "input_tokens": 50, "output_tokens": 0},
                    {"type": "fallback_message", "input_tokens": 51, "output_tokens": 7},
                ]
            }
        ),
        (51, 7, None, None, None, 58),
    ),
    Case(
        "a refusal in the middle is billed",
        MESSAGES,
        message(
            {"input_tokens": 50, "output_tokens": 7}
            | {
                "iterations": [
                    {"type": "message", "input_tokens": 50, "output_tokens": 3},
                    {"type": "fallback_message", "input_tokens": 51, "output_tokens": 7},
                ]
            }
        ),
        (101, 10, None, None, None, 111),
    ),
    # Gemini.
    Case(
        "thoughts among the candidates",
        Dialect.GEMINI,
        gemini({"promptTokenCount": 10, "candidatesTokenCount": 50, "thoughtsTokenCount": 40, "totalTokenCount": 60}),
        (10, 50, None, None, 40, 60),
        ODD,
    ),
    Case(
        "the prompt in the total alone",
        Dialect.GEMINI,
        gemini({"candidatesTokenCount": 5, "thoughtsTokenCount": 4, "totalTokenCount": 60}),
        (51, 9, None, None, 4, 60),
    ),
    Case(
        "a total below its parts, of Gemini",
        Dialect.GEMINI,
        gemini({"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 5}),
        (10, 5, None, None, None, 15),
        ODD,
    ),
    Case(
        "an embedding",
        Dialect.GEMINI,
        {"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 8}},
        (8, 0, None, None, None, 8),
    ),
    Case(
        "an interaction's steps",
        Dialect.GEMINI_INTERACTIONS,
        {
            "id": "i",
            "object": "interaction",
            "status": "completed",
            "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Yes."}]}],
            "usage": {
                "total_input_tokens": 6,
                "total_output_tokens": 2,
                "total_thought_tokens": 30,
                "total_tokens": 38,
            },
        },
        (6, 32, None, None, 30, 38),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_normal_forms(case: Case) -> None:
    body = json.dumps(case.document).encode()
    for observe in (False, True):
        reading = read(case.dialect, body, "application/json", observe=observe)
        assert counts(reading) == case.counts
        assert reading.marks == case.marks


@pytest.mark.parametrize(
    ("dialect", "document"),
    [
        (CHAT, chat({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None})),
        (CHAT, chat({"prompt_tokens_details": {"cached_tokens": None}})),
        (CHAT, chat({"tokens": 9})),
        (Dialect.PASSTHROUGH, {"text": "hm", "usage": {"type": "duration", "seconds": 7}}),
        (RESPONSES, {"object": "response", "status": "completed", "usage": {"input_tokens": None}}),
        (Dialect.GEMINI, gemini({"trafficType": "ON_DEMAND"})),
        (MESSAGES, message({"service_tier": "standard"})),
        (Dialect.COHERE_V2_CHAT, {"id": "c", "meta": {"billed_units": {"search_units": 1}}}),
    ],
)
def test_an_object_without_a_count_is_no_report(dialect: Dialect, document: dict[str, Any]) -> None:
    for observe in (False, True):
        assert read(dialect, json.dumps(document).encode(), observe=observe).usage is None


def test_units_that_are_no_tokens_are_kept() -> None:
    def units(dialect: Dialect, document: dict[str, Any]) -> dict[str, float]:
        return read(dialect, json.dumps(document).encode()).units

    assert units(Dialect.PASSTHROUGH, {"usage": {"type": "duration", "seconds": 7}}) == {"seconds": 7}
    assert units(Dialect.PASSTHROUGH, {"meta": {"billed_units": {"search_units": 2}}}) == {"search_units": 2}
    assert units(
        MESSAGES, message({"input_tokens": 1, "output_tokens": 2, "server_tool_use": {"web_search_requests": 3}})
    ) == {"web_search_requests": 3}
    assert units(CHAT, chat({"prompt_tokens": 1, "completion_tokens": 2, "num_search_queries": 0})) == {}


def test_shares_by_modality_are_kept() -> None:
    details = {
        "prompt_tokens_details": {"audio_tokens": 20, "text_tokens": 3},
        "output_tokens_details": {"image_tokens": 9},
    }
    reading = read(CHAT, json.dumps(chat({"prompt_tokens": 23, "completion_tokens": 9} | details)).encode())
    assert reading.modalities == {"input_audio": 20, "input_text": 3, "output_image": 9}
    seen = [{"modality": "IMAGE", "tokenCount": 258}, {"modality": "TEXT", "tokenCount": 2}]
    usage = {"promptTokenCount": 260, "candidatesTokenCount": 1, "totalTokenCount": 261, "promptTokensDetails": seen}
    reading = read(Dialect.GEMINI, json.dumps(gemini(usage)).encode())
    assert reading.modalities == {"input_image": 258, "input_text": 2}


def test_cohere_says_what_it_bills() -> None:
    usage = {
        "billed_units": {"input_tokens": 4, "output_tokens": 6},
        "tokens": {"input_tokens": 190, "output_tokens": 9},
    }
    reading = read(
        Dialect.COHERE_V2_CHAT, json.dumps({"id": "c", "finish_reason": "COMPLETE", "usage": usage}).encode()
    )
    assert counts(reading) == (190, 9, None, None, None, 199)
    assert reading.billed is not None
    assert (reading.billed.input_tokens, reading.billed.output_tokens) == (4, 6)
    assert reading.marks == {Mark.BILLED_UNITS}
    free = {"billed_units": {"input_tokens": 0, "output_tokens": 0}, "tokens": usage["tokens"]}
    reading = read(Dialect.COHERE_V2_CHAT, json.dumps({"id": "c", "usage": free}).encode())
    assert (reading.billed, reading.marks) == (None, set())
