"""What request bodies are likely to cost as input: by dialect, by family, by what is in them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.estimate import prompt
from services.meter.estimate.framing import framing_of
from services.meter.estimate.prompt import Asked
from services.meter.estimate.request import take_apart


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def words(text: str) -> int:
    return len(text.split())


def cost(body: Any, model: str = "gpt-4o") -> Asked:
    return prompt.asked(json.dumps(body).encode(), model, words)


def hello(**more: Any) -> dict[str, Any]:
    """A message of two words."""
    return {"messages": [{"role": "user", "content": "hello there"}], **more}


TOOL = {"name": "get_time", "description": "the time of day", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "get_time", "description": "the time of day"}}
OPAQUE = "gAAAAABo" * 500


@pytest.mark.parametrize(
    ("model", "one", "three"),
    [
        ("gpt-4o", 9, 21),
        ("gpt-5.2", 8, 18),
        ("openai/gpt-oss-20b", 71, 83),
        ("claude-sonnet-4-5", 9, 13),
        ("gemini-2.5-flash", 2, 6),
        ("gemma3:1b", 13, 31),
        ("Qwen/Qwen3-4B", 11, 25),
        ("deepseek-chat", 6, 10),
        ("mistral-small-latest", 6, 12),
        ("ministral-3b-latest", 6, 12),
        ("llama3-8b-8192", 12, 26),
        ("meta-llama/Llama-3-8B", 12, 26),
        ("meta-llama/Llama-3.3-70B-Instruct", 37, 51),
        ("us.meta.llama3-1-8b-instruct-v1:0", 37, 51),
        ("command-r7b-12-2024", 494, 506),
        ("sonar", 2, 6),
        ("text-embedding-3-small", 2, 6),
        ("mimo-v2.5", 253, 265),
        ("somebody/new", 10, 22),
    ],
)
def test_each_family_frames_messages_in_its_own_way(model: str, one: int, three: int) -> None:
    thrice = {"messages": hello()["messages"] * 3}
    assert (cost(hello(), model).tokens, cost(thrice, model).tokens) == (one, three)


@pytest.mark.parametrize(
    ("model", "auto", "forced"),
    [
        ("claude-3-opus-20240229", 530, 281),
        ("claude-3-haiku-20240307", 264, 340),
        ("claude-3-5-sonnet-20241022", 346, 313),
        ("anthropic/claude-sonnet-4", 346, 313),
        ("claude-haiku-4-5", 496, 588),
        ("anthropic/claude-sonnet-4.6", 496, 588),
        ("claude-opus-4-8", 340, 416),
        ("claude-sonnet-5", 358, 416),
        ("claude-opus-5", 290, 416),
    ],
)
def test_claude_is_told_of_tools_at_length(model: str, auto: int, forced: int) -> None:
    bare = cost(hello(), model).tokens
    said = framing_of(model).per_tool + round(
        framing_of(model).tool_ratio * words(json.dumps(TOOL, separators=(",", ":")))
    )
    assert cost(hello(tools=[TOOL]), model).tokens - bare == pytest.approx(auto + said, abs=6)
    assert cost(hello(tools=[TOOL], tool_choice={"type": "any"}), model).tokens - bare == pytest.approx(
        forced + said, abs=6
    )


def test_tools_that_may_not_be_called_are_left_out_by_some() -> None:
    none = hello(tools=[FUNCTION], tool_choice="none")
    assert cost(none, "qwen3:4b").tokens == cost(hello(), "qwen3:4b").tokens
    assert cost(none, "mistral-small").tokens > cost(hello(), "mistral-small").tokens


def test_the_first_gpt_5_pays_for_tools_in_chat() -> None:
    asked = {"input": "hello there", "tools": [{"type": "function", "name": "f", "parameters": {}}]}
    assert cost(hello(tools=[FUNCTION]), "gpt-5-mini").tokens - cost(asked, "gpt-5-mini").tokens > 80
    assert cost(hello(tools=[FUNCTION]), "gpt-5.2").tokens - cost(asked, "gpt-5.2").tokens < 10


def test_tools_of_the_provider_leave_the_input_open() -> None:
    searched = cost(hello(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "claude-sonnet-4-5")
    assert (searched.tokens, searched.low, searched.high > 45_000) == (9009, 0, True)
    assert cost({"contents": [], "tools": [{"googleSearch": {}}]}, "gemini-2.5-flash").tokens == 450
    assert cost(hello(plugins=[{"id": "file-parser"}])).tokens == cost(hello()).tokens
    filed = cost(hello(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]))
    assert filed.tokens - cost(hello()).tokens == 1000


def test_hidden_reasoning_of_earlier_turns_is_not_booked() -> None:
    def turns(*after: dict[str, Any]) -> Asked:
        reasoning = {"type": "reasoning", "summary": [], "encrypted_content": OPAQUE}
        return cost({"input": [{"role": "user", "content": "hi"}, reasoning, *after]}, "gpt-5.1")

    spoken = turns({"role": "user", "content": "and now"})
    assert spoken.tokens == 3 + 3 * 3 + 3
    assert spoken.high > 1000
    assert turns({"type": "function_call_output", "output": "4"}).tokens > 100
    kept = cost({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "gpt-5.1")
    assert kept.tokens > 100
    assert kept.high > 1000


def test_files_of_text_are_text() -> None:
    inline = {"inlineData": {"mimeType": "text/plain", "data": b64(b"one two three")}}
    assert cost({"contents": [{"parts": [inline]}]}, "gemini-2.5-flash").tokens == 3
    plain = {"type": "document", "title": "four", "source": {"type": "text", "data": "one two three"}}
    assert take_apart({"messages": [{"content": [plain]}]}).texts == ["one two three", "four"]
    blocks = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "one"}]}}
    assert take_apart({"messages": [{"content": [blocks]}]}).texts == ["one"]
    named = {"type": "file", "file": {"filename": "a.csv", "file_data": "data:text/csv;base64," + b64(b"1 2")}}
    assert take_apart({"messages": [{"content": [named]}]}).texts == ["1 2"]


def test_quoting_documents_costs_a_prompt_of_its_own() -> None:
    plain = {"type": "document", "source": {"type": "text", "data": "one"}}
    cited = {**plain, "citations": {"enabled": True}}
    difference = cost({"messages": [{"content": [cited]}]}, "claude-sonnet-4-5").tokens
    assert difference - cost({"messages": [{"content": [plain]}]}, "claude-sonnet-4-5").tokens == 550


def test_coheres_own_prompts_are_counted_and_not_billed() -> None:
    for body in (hello(), hello(tools=[FUNCTION]), hello(documents=["a document"])):
        figure = cost(body, "command-r7b-12-2024")
        assert 2 <= figure.tokens - figure.unbilled <= 10
        assert figure.low <= figure.tokens - figure.unbilled
        assert figure.tokens > 490
    assert cost(hello()).unbilled == 0


def test_thinking_and_stored_conversations_are_seen() -> None:
    bare = cost(hello(), "claude-sonnet-4-5")
    assert cost(hello(thinking={"type": "enabled"}), "claude-sonnet-4-5").tokens == bare.tokens + 29
    assert cost(hello(thinking={"type": "disabled"}), "claude-sonnet-4-5").tokens == bare.tokens
    for name in ("previous_response_id", "cachedContent"):
        stored = cost(hello(**{name: "x"}))
        assert (stored.tokens, stored.high > 60_000) == (cost(hello()).tokens, True)
    assert take_apart({"input": [{"type": "item_reference", "id": "x"}]}).stored is False  # of this very answer


@pytest.mark.parametrize(
    ("said", "thinks"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, True),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"summary": "auto"}}, None),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, False),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}, True),
        ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "MINIMAL"}}}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"think": True}, True),
        ({"thinking": "?", "reasoning": 5, "generationConfig": []}, None),
    ],
)
def test_whether_to_think_is_said_in_many_ways(said: dict[str, Any], thinks: bool | None) -> None:
    assert cost(hello(**said)).thinks is thinks


def test_schemas_of_answers_cost_where_a_family_reads_them() -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"description": "w " * 100}}}}}
    asked = hello(response_format=schema)
    assert cost(asked, "gpt-4o").tokens - cost(hello(), "gpt-4o").tokens == pytest.approx(61, abs=3)
    assert cost(asked, "mistral-small").tokens == cost(hello(), "mistral-small").tokens
    assert cost(asked, "mistral-small").high > cost(hello(), "mistral-small").high + 100
    assert cost(hello(response_format={"type": "text"})) == cost(hello())


def test_a_prompt_has_many_shapes() -> None:
    assert cost({"content": {"parts": [{"text": "a b c"}]}}).tokens == 3 + 4 + 3
    assert cost({"requests": [{"content": {"parts": [{"text": "a b"}]}}] * 2}).tokens == 3 + 8 + 4
    assert cost({"prompt": [5, 6, 7, 8]}).tokens == 3 + 4
    assert cost({"input": [[5, 6], [7]]}).tokens == 3 + 3
    assert cost({"inputText": "a b"}, "amazon.titan-tg1-large").tokens == 2
    assert cost({"system": [{"text": "a"}], "messages": []}).tokens == 3 + 4 + 1


def test_bodies_that_cannot_be_read_go_by_their_length() -> None:
    assert prompt.asked(b"no json at all..", "gpt-4o", words).tokens == 4
    assert prompt.from_length(30_000_000).tokens == 100_000
    short = prompt.from_length(100)
    assert short.low <= 1
    assert short.high > 100


def test_intervals_are_narrow_where_all_is_seen() -> None:
    text = {"messages": [{"role": "user", "content": "word " * 1000}]}
    for model in ("gpt-4o", "gpt-5.2", "claude-sonnet-4-5", "gemini-2.5-pro", "deepseek-chat"):
        figure = cost(text, model)
        assert figure.low <= figure.tokens <= figure.high
        assert figure.high / figure.low < 1.7


NAMES = [
    "messages",
    "content",
    "parts",
    "text",
    "type",
    "source",
    "data",
    "url",
    "image_url",
    "file",
    "document",
    "input",
    "documents",
    "tools",
    "function",
    "role",
    "images",
    "functionDeclarations",
    "tool_choice",
    "toolConfig",
    "thinking",
    "citations",
    "args",
    "inlineData",
    "mimeType",
    "generationConfig",
    "system",
    "responseSchema",
    "response_format",
    "functions",
    "tool_calls",
    "input_audio",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_body_raises(body: Any) -> None:
    for model in ("claude-opus-5", "gemini-3-pro", "gpt-4o-mini", ""):
        figure = cost(body if isinstance(body, dict) else {"messages": body}, model)
        assert 0 <= figure.low <= figure.tokens <= figure.high


def test_deep_and_large_bodies_take_bounded_work() -> None:
    began = time.process_time()
    deep = b'{"content":[' * 200 + b'"x"' + b"]}" * 200
    assert prompt.asked(b'{"messages":[%b]}' % deep, "gpt-4o", words).tokens == 7
    assert prompt.asked(b'{"a":' * 100_000, "gpt-4o", words).tokens == 100_000
    cost({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "A" * 20_000_000}]}]})
    cost({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "A" * 80}] * 10_000}]})
    assert time.process_time() - began < 2
