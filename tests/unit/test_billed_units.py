"""What is billed beside the tokens, and shares of them that have prices of their own, as providers report them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.meter.readers.reader import read
from shared.contract.dialects import Dialect
from tests.support.answers import events

RESPONSE = {"object": "response", "status": "completed", "id": "r", "model": "m"}
COUNTS = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}


def response(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    return RESPONSE | {"usage": COUNTS | usage} | more


def searched(*queries: Any) -> dict[str, Any]:
    candidate = {"finishReason": "STOP", "groundingMetadata": {"webSearchQueries": [*queries]}}
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3}}


CALLS = [
    {"type": "web_search_call", "action": {"type": "search", "query": "a"}},
    {"type": "web_search_call", "action": {"type": "open_page", "url": "u"}},
    {"type": "web_search_call"},
    {"type": "file_search_call"},
    {"type": "message"},
]
XAI = {"server_side_tool_usage_details": {"web_search_calls": 0, "x_search_calls": 1, "mcp_calls": 2}}
CHAT = {"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x"}}]}
CITED = {"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "citation_tokens": 20016}
SPOKEN = {"audio_tokens": 60, "cached_tokens": 50, "cached_tokens_details": {"audio_tokens": 40, "text_tokens": 10}}
AGES = [{"ttl": "5m", "inputTokens": 7}, {"ttl": "1h", "inputTokens": 13}]
BEDROCK = {"inputTokens": 5, "outputTokens": 2, "cacheWriteInputTokens": 20, "cacheDetails": AGES}


@pytest.mark.parametrize(
    ("dialect", "document", "units", "modalities"),
    [
        (Dialect.OPENAI_RESPONSES, response({}, output=CALLS), {"web_search_calls": 2, "file_search_calls": 1}, {}),
        (Dialect.OPENAI_RESPONSES, response({}, output=CALLS, tool_usage={}), {}, {}),  # what it states counts
        (Dialect.OPENAI_RESPONSES, response(XAI, output=CALLS), {"x_search_calls": 1}, {}),
        (Dialect.OPENAI_CHAT, CHAT | {"usage": CITED}, {}, {"input_citation": 20016}),
        (
            Dialect.OPENAI_CHAT,
            CHAT | {"usage": {"prompt_tokens": 90, "completion_tokens": 2, "prompt_tokens_details": SPOKEN}},
            {},
            {"input_audio": 60, "cache_read_audio": 40, "cache_read_text": 10},
        ),
        (Dialect.GEMINI, searched("a", "", "b", "a"), {"web_search_calls": 2, "grounded_request": 1}, {}),
        (Dialect.GEMINI, searched(""), {}, {}),
        (Dialect.GEMINI, searched(5, None, {}), {}, {}),
        (Dialect.BEDROCK_CONVERSE, {"usage": BEDROCK, "stopReason": "end_turn"}, {}, {"cache_write_1h": 13}),
    ],
)
def test_what_is_billed_beside_the_tokens(
    dialect: Dialect, document: dict[str, Any], units: dict[str, float], modalities: dict[str, int]
) -> None:
    found = read(dialect, json.dumps(document).encode(), "application/json")
    assert (found.units, dict(found.modalities)) == (units, modalities)


def test_searches_of_a_stream_are_counted_once() -> None:
    body = events(searched("a"), searched("a", "b"))
    found = read(Dialect.GEMINI, body, "text/event-stream")
    assert found.units == {"web_search_calls": 2, "grounded_request": 1}
