"""Answers of Bedrock and Vertex as the clouds give them, in every kind of body: through a real gateway each arrives
byte for byte, and its figures are booked."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from services.demo.bedrock import frame
from tests.support import answers, clouds, web
from tests.support.raw_upstream import RawUpstream
from tests.support.system import System
from tests.support.tokens import TokenServer

EVENTS, STREAM = "text/event-stream", "application/vnd.amazon.eventstream"
JSON = "application/json"
MODEL = "/bedrock/model/vendor.model-v1%3A0"
UNKNOWN = "/bedrock/model/never-reported-v1%3A0"  # of which nothing is learned
GOOGLE = "/vertex/v1/projects/p/locations/l/publishers/google/models/gemini-x"
CLAUDE = "/vertex/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1"
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 21, "outputTokenCount": 6}}
CONVERSED = {"inputTokens": 21, "outputTokens": 6, "totalTokens": 130, "cacheReadInputTokens": 103}
STARTED = {"input_tokens": 21, "cache_read_input_tokens": 103, "output_tokens": 1}
THOUGHT = {"promptTokenCount": 21, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 27}


class Given(NamedTuple):
    """An answer, and what is booked of it."""

    path: str
    kind: str  # its content type
    body: bytes
    source: str
    figures: tuple[int | None, int | None, int | None]  # input, output, read from the cache
    status: int = 200


def document(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def chunks(*documents: dict[str, Any]) -> bytes:
    """A stream of Invoke: each document within a chunk."""
    wrapped = [{"bytes": base64.b64encode(document(one)).decode(), "p": "abc"} for one in documents]
    return b"".join(frame("chunk", one) for one in wrapped)


def claude(last: dict[str, Any] | None = None, *, ends: bool = True) -> list[dict[str, Any]]:
    """Claude's events; without the last two where it does not end."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "usage": STARTED}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Three short words"}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}}
    return [
        {"type": "message_start", "message": message},
        delta,
        *([stop, {"type": "message_stop", **(last or {})}] * ends),
    ]


def conversed(*events: tuple[str, dict[str, Any]]) -> bytes:
    said = {"contentBlockIndex": 0, "delta": {"text": "Three short words"}}
    begun: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"}), ("contentBlockDelta", said)]
    return b"".join(frame(name, event) for name, event in (*begun, *events))


def gemini(*, array: bool) -> bytes:
    first = {"candidates": [{"content": {"parts": [{"text": "Three short"}], "role": "model"}}]}
    if array:
        return b"[" + document(first) + b"\n,\r\n" + document(answers.gemini(THOUGHT)) + b"\n]\n"
    return answers.events(first, answers.gemini(THOUGHT)).replace(b"\n\n", b"\r\n\r\n")


CONVERSE: dict[str, Any] = {"output": {"message": {"role": "assistant", "content": [{"text": "Three short words"}]}}}
GIVEN = {
    "converse": Given(f"{MODEL}/converse", JSON, document({**CONVERSE, "usage": CONVERSED}), "reported", (124, 6, 103)),
    "converse, a stream": Given(
        f"{MODEL}/converse-stream",
        STREAM,
        conversed(("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": CONVERSED})),
        "reported",
        (124, 6, 103),
    ),
    "converse, no metadata": Given(f"{UNKNOWN}/converse-stream", STREAM, conversed(), "partial", (4, 3, None)),
    "Titan": Given(
        f"{MODEL}/invoke",
        JSON,
        document({"inputTextTokenCount": 21, "results": [{"tokenCount": 6, "outputText": "Three short words"}]}),
        "reported",
        (21, 6, None),
    ),
    "Llama, a stream": Given(
        f"{MODEL}/invoke-with-response-stream",
        STREAM,
        chunks(
            {"generation": "Three ", "prompt_token_count": 21, "generation_token_count": 1, "stop_reason": None},
            {"generation": "words", "prompt_token_count": None, "generation_token_count": 6, "stop_reason": "stop"}
            | METRICS,
        ),
        "reported",
        (21, 6, None),
    ),
    "Claude, a stream": Given(
        f"{MODEL}/invoke-with-response-stream", STREAM, chunks(*claude(METRICS)), "reported", (124, 6, 103)
    ),
    "Claude, no end": Given(
        f"{UNKNOWN}/invoke-with-response-stream", STREAM, chunks(*claude(ends=False)), "partial", (124, 3, 103)
    ),
    "refused": Given(
        f"{MODEL}/invoke", JSON, document({"message": "The model's access is denied."}), "reported", (0, 0, None), 403
    ),
    "responses": Given(
        "/bedrock/openai/v1/responses",
        JSON,
        document({"object": "response", "status": "completed", "usage": {"input_tokens": 21, "output_tokens": 6}}),
        "reported",
        (21, 6, None),
    ),
    "Gemini, events": Given(
        f"{GOOGLE}:streamGenerateContent?alt=sse", EVENTS, gemini(array=False), "reported", (21, 6, None)
    ),
    "Gemini, an array": Given(f"{GOOGLE}:streamGenerateContent", JSON, gemini(array=True), "reported", (21, 6, None)),
    "Gemini, a document": Given(
        f"{GOOGLE}:generateContent", JSON, document(answers.gemini(THOUGHT)), "reported", (21, 6, None)
    ),
    "Claude on Vertex": Given(
        f"{CLAUDE}:rawPredict", JSON, document(answers.message(STARTED)), "reported", (124, 1, 103)
    ),
    "Claude on Vertex, events": Given(
        f"{CLAUDE}:streamRawPredict", EVENTS, answers.events(*claude()), "reported", (124, 6, 103)
    ),
    "predictions": Given(
        f"{GOOGLE}:predict",
        JSON,
        document({"predictions": [{"embeddings": {"values": [0.5]}}]}),
        "partial",
        (None, None, None),
    ),
}


@pytest.fixture(scope="module")
def raw() -> Iterator[RawUpstream]:
    with RawUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, raw: RawUpstream) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("bodies")
    with TokenServer() as tokens:
        running = System(folder, **clouds.settings(raw.url.removesuffix("/v1"), folder, tokens))
        with running:
            yield running


@pytest.mark.parametrize("name", GIVEN)
def test_a_body_arrives_byte_for_byte_and_its_figures_are_booked(system: System, raw: RawUpstream, name: str) -> None:
    given = GIVEN[name]
    head = f"HTTP/1.1 {given.status} Given\r\ncontent-type: {given.kind}\r\ncontent-length: {len(given.body)}\r\n\r\n"
    raw.answer = head.encode() + given.body
    headers = {"authorization": f"Bearer {system.key}"}
    answer = web.post(system.url + given.path, headers=headers, json={"model": "vendor.model-v1:0", "max_tokens": 9})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (
        given.status,
        given.kind,
        given.body,
    )
    exchange_id = answer.headers["x-generation-id"]
    entry = system.settled([exchange_id])[exchange_id]
    figures = (entry["input_tokens"], entry["output_tokens"], entry["cache_read_tokens"])
    assert (entry["source"], figures) == (given.source, given.figures)
    assert entry["response_bytes"] == len(given.body)
