"""The request shapes of agents and frameworks people really use, as they put them on the wire; and browsers.

Each is sent with the headers, query and fields of the real client, and must arrive at the provider with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import web
from tests.support.system import System

TOOL = {"name": "Bash", "description": "Run.", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "run", "parameters": {"type": "object", "properties": {}}}}


@dataclass(frozen=True)
class Shape:
    """What one client sends."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    key: str = "authorization"
    dialect: str = "openai_chat"


CLAUDE_CODE = {
    "user-agent": "claude-cli/2.1.0 (external, cli)",
    "x-app": "cli",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,fine-grained-tool-streaming-2025-05-14",
    "anthropic-dangerous-direct-browser-access": "true",
    "x-stainless-lang": "js",
    "x-stainless-retry-count": "0",
    "accept-encoding": "gzip, deflate, br, zstd",
}
SHAPES = {
    "Claude Code": Shape(
        "/v1/messages?beta=true",
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 32000,
            "stream": True,
            "system": [{"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "tools": [TOOL],
            "metadata": {"user_id": "user_1"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
        CLAUDE_CODE,
        dialect="anthropic_messages",
    ),
    "Claude Code, counting": Shape(
        "/v1/messages/count_tokens?beta=true",
        {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]},
        CLAUDE_CODE,
        key="x-api-key",
        dialect="count_tokens",
    ),
    "Codex": Shape(
        "/v1/responses",
        {
            "model": "gpt-5-codex",
            "instructions": "You are.",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "tools": [{"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object"}}],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning": {"effort": "medium"},
            "store": False,
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "0199",
        },
        {
            "originator": "codex_cli_rs",
            "user-agent": "codex_cli_rs/0.50.0 (Linux)",
            "openai-beta": "responses=experimental",
            "conversation_id": "0199",
            "session_id": "0199",
            "accept": "text/event-stream",
        },
        dialect="openai_responses",
    ),
    "Cline": Shape(
        "/v1/chat/completions",
        {
            "model": "gpt-4o",
            "messages": [{"role": "system", "content": "You are."}, {"role": "user", "content": "Hi"}],
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        {"HTTP-Referer": "https://cline.bot", "X-Title": "Cline", "user-agent": "OpenAI/JS 4.83.0"},
    ),
    "LangChain": Shape(
        "/v1/chat/completions",
        {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [FUNCTION],
            "parallel_tool_calls": True,
        },
        {"user-agent": "OpenAI/Python 3.54.0", "x-stainless-async": "async:asyncio", "x-stainless-lang": "python"},
    ),
    "LlamaIndex": Shape(
        "/v1/completions",
        {"model": "gpt-3.5-turbo-instruct", "prompt": "Hi", "stream": True, "max_tokens": 20, "temperature": 0.1},
        {"user-agent": "OpenAI/Python 1.99.0"},
        dialect="openai_completions",
    ),
    "Vercel AI SDK": Shape(
        "/v1/responses",
        {
            "model": "gpt-4o",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "stream": True,
        },
        {"user-agent": "ai/7.0.173 ai-sdk/openai/4.0.118 runtime/node.js/v20"},
        dialect="openai_responses",
    ),
    "LiteLLM as a client": Shape(
        "/v1/chat/completions",
        {"model": "anthropic/claude-haiku-4-5", "messages": [{"role": "user", "content": "Hi"}], "extra_body": {}},
        {"user-agent": "litellm/1.80.0", "x-litellm-trace-id": "0199"},
    ),
    "Gemini CLI": Shape(
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "systemInstruction": {"parts": [{"text": "You are."}]},
            "tools": [{"functionDeclarations": [{"name": "run"}]}],
            "generationConfig": {"temperature": 0, "thinkingConfig": {"includeThoughts": True}},
        },
        {"user-agent": "GeminiCLI/0.12.0 (linux; x64)", "x-goog-api-client": "google-genai-sdk/1.16.0 gl-node/v20"},
        key="x-goog-api-key",
        dialect="gemini",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_agent_is_served_and_metered(system: System, name: str) -> None:
    shape = SHAPES[name]
    value = f"Bearer {system.key}" if shape.key == "authorization" else system.key
    headers = {"content-type": "application/json", **shape.headers, shape.key: value}
    answer = web.post(system.url + shape.path, headers=headers, json=shape.body)
    assert answer.status_code == 200, answer.text
    entry = system.settled([answer.headers["x-generation-id"]])[answer.headers["x-generation-id"]]
    assert (entry["dialect"], entry["outcome"]) == (shape.dialect, "completed")
    if shape.dialect != "count_tokens":
        assert entry["total_tokens"] > 0


@pytest.mark.parametrize("name", SHAPES)
def test_what_it_sends_arrives(system: System, name: str) -> None:
    """On a path of no dialect, where the demo provider answers with what it has received."""
    shape = SHAPES[name]
    query = "?" + shape.path.partition("?")[2] if "?" in shape.path else ""
    headers = {"content-type": "application/json", **shape.headers, "authorization": f"Bearer {system.key}"}
    echoed = web.post(f"{system.url}/openai/v1/echo{query}", headers=headers, json=shape.body).json()
    assert echoed["target"].endswith(f"/echo{query}")
    arrived = {header.lower(): value for header, value in echoed["headers"].items()}
    for header, value in shape.headers.items():
        if header.startswith("x-litellm-"):  # they say who asks, to us
            assert header not in arrived
            continue
        expected = "identity" if header == "accept-encoding" else value
        assert arrived[header.lower()] == expected
    assert system.key not in json.dumps(echoed)


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", "/"), ("GET", "/"), ("OPTIONS", "/v1/messages"), ("HEAD", "/healthz")]
)
def test_probes_need_no_key(system: System, method: str, path: str) -> None:
    assert web.request(method, system.url + path).status_code in (200, 204)


@pytest.fixture(scope="module")
def open_to_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    origins = "https://app.example.com, http://localhost:3000/"
    with System(tmp_path_factory.mktemp("cors"), AROUTER_CORS_ORIGINS=origins) as running:
        yield running


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://app.example.com", True), ("http://localhost:3000", True), ("https://evil.example", False)],
)
def test_pages_of_named_origins_may_call(open_to_pages: System, origin: str, allowed: bool) -> None:
    url = f"{open_to_pages.url}/v1/chat/completions"
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    said = web.options(url, headers=asked)
    assert said.status_code == 204
    assert said.headers.get("access-control-allow-origin") == (origin if allowed else None)
    if allowed:
        assert said.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in said.headers["access-control-allow-methods"]
    shape = SHAPES["Cline"]
    for key, status in ((open_to_pages.key, 200), ("nobody", 401)):
        for body in (shape.body, {**shape.body, "stream": False}):
            answer = web.post(url, headers={"origin": origin, "authorization": f"Bearer {key}"}, json=body)
            assert answer.status_code == status
            found = answer.headers.get_list("access-control-allow-origin")
            assert found == ([origin] if allowed else [])
            if allowed:
                assert "x-generation-id" in answer.headers["access-control-expose-headers"]


def test_by_default_no_page_may(system: System) -> None:
    said = web.options(f"{system.url}/v1/messages", headers={"origin": "https://app.example.com"})
    assert "access-control-allow-origin" not in said.headers
