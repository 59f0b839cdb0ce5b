"""Readers against the demo provider's scripts (every dialect, every cut) and against the formats' own quirks."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.demo.routes import answer, understand
from services.demo.script import Script
from services.meter.readers.reader import Reader, read
from shared.contract.dialects import Dialect

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat stream": ("/v1/chat/completions", CHAT | COUNTED),
    "completions": ("/v1/completions", {"model": "x", "prompt": "hi"}),
    "completions stream": ("/v1/completions", {"model": "x", "prompt": "hi"} | COUNTED),
    "responses": ("/v1/responses", {"model": "x", "input": "hi"}),
    "responses stream": ("/v1/responses", {"model": "x", "input": "hi", "stream": True}),
    "embeddings": ("/v1/embeddings", {"model": "x", "input": "hi"}),
    "messages": ("/v1/messages", CHAT),
    "messages stream": ("/v1/messages", CHAT | {"stream": True}),
    "gemini": ("/v1beta/models/g:generateContent", {}),
    "gemini events": ("/v1beta/models/g:streamGenerateContent?alt=sse", {}),
    "gemini array": ("/v1beta/models/g:streamGenerateContent", {}),
}


def script_of(name: str, directives: str = "tokens=40") -> Script:
    path, body = REQUESTS[name]
    request = understand("POST", path, {"x-demo": directives}, json.dumps(body).encode())
    return answer(request, path, {})


def body_of(script: Script) -> bytes:
    return b"".join(piece.data for piece in script.pieces)


@pytest.mark.parametrize("tools", ["", ", tools"])
@pytest.mark.parametrize("name", REQUESTS)
def test_reported_usage_is_read_whole_and_in_any_pieces(name: str, tools: str) -> None:
    script = script_of(name, "tokens=40" + tools)
    body, dialect = body_of(script), Dialect(script.dialect)
    whole = read(dialect, body, script.content_type)
    assert whole.usage is not None
    assert whole.usage.as_dict() == script.usage
    assert whole.complete or name == "embeddings"
    rng = random.Random(name)
    for most in (1, 2, 7, 100, 5000):
        for observe in (False, True):
            reader, at = Reader(dialect, script.content_type, observe=observe), 0
            while at < len(body):
                size = rng.randint(1, most)
                reader.feed(body[at : at + size])
                at += size
            reading = reader.close()
            assert (reading.usage, reading.raw_usage, reading.finish) == (whole.usage, whole.raw_usage, whole.finish)
            assert (reading.model, reading.response_id, reading.complete) == (
                whole.model,
                whole.response_id,
                whole.complete,
            )


@pytest.mark.parametrize("name", REQUESTS)
@given(data=st.data())
def test_any_split_of_any_stream_gives_the_same_usage(name: str, data: st.DataObject) -> None:
    directives = f"tokens={data.draw(st.integers(1, 60))}, seed={data.draw(st.integers(0, 9))}"
    script = script_of(name, directives + data.draw(st.sampled_from(["", ", tools", ", no-usage"])))
    body, dialect = body_of(script), Dialect(script.dialect)
    cut = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    body = body[:cut]
    whole = read(dialect, body, script.content_type)
    for _ in range(2):  # again, as after a restart
        at = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
        reader = Reader(dialect, script.content_type)
        for start, stop in zip([0, *at], [*at, len(body)], strict=True):
            reader.feed(body[start:stop])
        again = reader.close()
        assert (again.usage, again.raw_usage, again.finish, again.complete) == (
            whole.usage,
            whole.raw_usage,
            whole.finish,
            whole.complete,
        )
    if cut == len(body_of(script)):
        assert (whole.usage.as_dict() if whole.usage else None) == script.usage


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "embeddings"])
def test_output_is_observed_once(name: str) -> None:
    [said] = read(Dialect.GEMINI, body_of(script_of("gemini")), observe=True).texts()
    script = script_of(name)
    assert read(Dialect(script.dialect), body_of(script), script.content_type, observe=True).texts() == [said]


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "embeddings"])
def test_without_usage_nothing_is_reported(name: str) -> None:
    script = script_of(name, "no-usage")
    assert read(Dialect(script.dialect), body_of(script), script.content_type).usage is None


@pytest.mark.parametrize("name", [name for name in REQUESTS if "stream" in name or "events" in name or "array" in name])
def test_an_error_in_the_middle_is_read(name: str) -> None:
    script = script_of(name)
    half = script.pieces[: len(script.pieces) // 2]
    reading = read(Dialect(script.dialect), b"".join(piece.data for piece in half) + script.error, script.content_type)
    assert reading.error
    assert not reading.complete or name == "responses stream"


@pytest.mark.parametrize("dialect", list(Dialect))
@given(body=st.binary(max_size=300) | st.text(max_size=300).map(str.encode), observe=st.booleans())
def test_arbitrary_bytes_never_raise(dialect: Dialect, body: bytes, observe: bool) -> None:
    assert read(dialect, body, observe=observe).usage is None


JSON = st.recursive(
    st.none() | st.integers(0, 9) | st.text(max_size=3),
    lambda i: (
        st.lists(i, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "usage",
                    "choices",
                    "delta",
                    "message",
                    "type",
                    "error",
                    "content",
                    "candidates",
                    "usageMetadata",
                    "parts",
                    "response",
                    "id",
                    "input",
                    "text",
                    "tool_calls",
                    "iterations",
                    "prompt_tokens",
                ]
            ),
            i,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@pytest.mark.parametrize("dialect", list(Dialect))
@given(document=JSON)
def test_documents_of_any_shape_never_raise(dialect: Dialect, document: Any) -> None:
    body = b"data: " + json.dumps(document).encode() + b"\n\n"
    assert read(dialect, body, observe=True) is not None
    assert read(dialect, json.dumps(document).encode(), observe=True) is not None


def chat(usage: Any, **more: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [], "usage": usage, **more}).encode() + b"\n\n"


def normal(dialect: Dialect, body: bytes) -> tuple[int | None, int | None, int | None]:
    usage = read(dialect, body).usage
    assert usage is not None
    return usage.input_tokens, usage.output_tokens, usage.total_tokens


def test_snapshots_are_never_added() -> None:
    running = b"".join(chat({"prompt_tokens": 9, "completion_tokens": n, "total_tokens": 9 + n}) for n in range(1, 30))
    assert normal(Dialect.OPENAI_CHAT, running) == (9, 29, 38)
    deltas = (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
        b'{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":3}}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":20}}\n\n'
    )
    assert normal(Dialect.ANTHROPIC_MESSAGES, deltas) == (15, 20, 35)


def test_what_a_total_has_beyond_its_parts_is_counted() -> None:
    xai = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 30,
        "completion_tokens_details": {"reasoning_tokens": 18},
    }
    assert normal(Dialect.OPENAI_CHAT, chat(xai)) == (10, 20, 30)
    mistral = {
        "prompt_tokens": 11,
        "completion_tokens": 15,
        "total_tokens": 401,
        "prompt_tokens_details": {"audio_tokens": 375},
    }
    assert normal(Dialect.OPENAI_CHAT, chat(mistral)) == (386, 15, 401)


def test_usage_stands_in_many_places() -> None:
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    groq = json.dumps({"choices": [], "x_groq": {"usage": counts}}).encode()
    moonshot = json.dumps({"choices": [{"delta": {}, "usage": counts}]}).encode()
    for document in (groq, moonshot):
        assert normal(Dialect.OPENAI_CHAT, b"data: " + document + b"\n\n") == (1, 2, 3)
    nested = json.dumps({"choices": [{"delta": {"provider_metadata": {"usage": counts}}}]}).encode()
    assert read(Dialect.OPENAI_CHAT, b"data: " + nested + b"\n\n").usage is None


def test_iterations_are_summed() -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "iterations": [
            {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 5},
            {"input_tokens": 100, "output_tokens": 200},
        ],
    }
    body = json.dumps({"type": "message", "stop_reason": "end_turn", "usage": usage}).encode()
    assert normal(Dialect.ANTHROPIC_MESSAGES, body) == (115, 220, 335)


def test_vertex_traffic_types_are_no_usage() -> None:
    early = b'data: {"candidates":[],"usageMetadata":{"trafficType":"ON_DEMAND"}}\r\n\r\n'
    assert read(Dialect.GEMINI, early).usage is None


@pytest.mark.parametrize("value", [-1, 1.5, 2**40, True, "7.5", "-7", "", "many", [1]])
def test_counts_that_cannot_be_true_are_refused(value: Any) -> None:
    bad = chat({"prompt_tokens": value, "completion_tokens": 1})
    reading = read(Dialect.OPENAI_CHAT, bad)
    assert reading.usage is None
    assert "prompt_tokens" in reading.bad_usage
    mended = read(Dialect.OPENAI_CHAT, bad + chat({"prompt_tokens": 2, "completion_tokens": 1}))
    assert mended.usage is not None
    assert not mended.bad_usage
