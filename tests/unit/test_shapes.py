"""Bodies on paths that say nothing, or something else: what they state is read by their shape."""

import base64
import json
from typing import Any

import pytest

from services.meter.readers.reader import Reader, read
from services.meter.readers.reading import Reading
from shared.contract.dialects import Dialect
from tests.support.answers import chat, events, gemini, message

Documents = list[dict[str, Any]]
Pair = tuple[int | None, int | None]


def pair(reading: Reading) -> Pair | None:
    return None if reading.usage is None else (reading.usage.input_tokens, reading.usage.output_tokens)


def wrapped(*documents: dict[str, Any]) -> Documents:
    """As invoke answers hold a model's own documents."""
    return [{"bytes": base64.b64encode(json.dumps(document).encode()).decode()} for document in documents]


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 12, "outputTokenCount": 5}}

WHOLE: dict[str, tuple[dict[str, Any], Pair]] = {
    "chat": (chat({"prompt_tokens": 4, "completion_tokens": 3}), (4, 3)),
    "message": (message({"input_tokens": 4, "cache_read_input_tokens": 90, "output_tokens": 3}), (94, 3)),
    "gemini": (gemini({"promptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 7}), (4, 3)),
    "gemini inside": ({"response": gemini({"promptTokenCount": 4, "candidatesTokenCount": 3})}, (4, 3)),
    "response": ({"object": "response.compaction", "usage": {"input_tokens": 4, "output_tokens": 3}}, (4, 3)),
    "interaction": ({"object": "interaction", "usage": {"total_input_tokens": 4, "total_output_tokens": 3}}, (4, 3)),
    "converse": ({"stopReason": "end", "usage": {"inputTokens": 4, "outputTokens": 3, "totalTokens": 7}}, (4, 3)),
    "cohere's embed": ({"embeddings": {}, "meta": {"billed_units": {"input_tokens": 4}}}, (4, 0)),
    "ollama's embed": ({"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 4}, (4, 0)),
    "ollama": ({"model": "m", "response": "Hi", "done": True, "prompt_eval_count": 4, "eval_count": 3}, (4, 3)),
    "cloudflare": (
        {
            "success": True,
            "errors": [],
            "result": {"response": "Hi", "usage": {"prompt_tokens": 4, "completion_tokens": 3}},
        },
        (4, 3),
    ),
    "titan": ({"inputTextTokenCount": 4, "results": [{"tokenCount": 3, "outputText": "Hi"}]}, (4, 3)),
    "titan's embed": ({"embedding": [0.5], "inputTextTokenCount": 4}, (4, 0)),
    "llama on bedrock": ({"generation": "Hi", "prompt_token_count": 4, "generation_token_count": 3}, (4, 3)),
    "llama.cpp": ({"content": "Hi", "stop": True, "tokens_evaluated": 4, "tokens_predicted": 3}, (4, 3)),
    "llama api": (
        {
            "completion_message": {"content": {"text": "Hi"}},
            "metrics": [{"metric": "num_prompt_tokens", "value": 4}, {"metric": "num_completion_tokens", "value": 3}],
        },
        (4, 3),
    ),
    "dashscope": (
        {"output": {"text": "Hi", "finish_reason": "stop"}, "usage": {"input_tokens": 4, "output_tokens": 3}},
        (4, 3),
    ),
    "watsonx": (
        {"results": [{"generated_text": "Hi", "generated_token_count": 3, "input_token_count": 4, "stop_reason": "x"}]},
        (4, 3),
    ),
    "replicate": ({"output": ["Hi"], "metrics": {"input_token_count": 4, "output_token_count": 3}}, (4, 3)),
    "deepinfra": (
        {"results": [{"generated_text": "Hi"}], "inference_status": {"tokens_generated": 3, "tokens_input": 4}},
        (4, 3),
    ),
    "sglang": ({"text": "Hi", "meta_info": {"prompt_tokens": 4, "completion_tokens": 3, "cached_tokens": 2}}, (4, 3)),
    "tgi": ({"generated_text": "Hi", "details": {"generated_tokens": 3, "prefill": [{"id": 1}] * 4}}, (4, 3)),
    "lm studio": (
        {"model_instance_id": "m", "output": [], "stats": {"input_tokens": 4, "total_output_tokens": 3}},
        (4, 3),
    ),
    "a response with nothing to name it": (
        {"id": "r", "status": "completed", "output": [], "usage": {"input_tokens": 4, "output_tokens": 3}},
        (4, 3),
    ),
    "a message without its type": (
        {"role": "assistant", "content": [], "stop_reason": "end_turn"}
        | {"usage": {"input_tokens": 4, "cache_read_input_tokens": 9, "output_tokens": 3}},
        (13, 3),
    ),
    "a chat in a relay's envelope": ({"code": 0, "data": chat({"prompt_tokens": 4, "completion_tokens": 3})}, (4, 3)),
    "a message in a relay's envelope": (
        {"statusCode": 200, "body": message({"input_tokens": 4, "cache_read_input_tokens": 9, "output_tokens": 3})},
        (13, 3),
    ),
    "a rerank": ({"model": "m", "results": [], "usage": {"total_tokens": 4}}, (4, 0)),
}


@pytest.mark.parametrize("dialect", [Dialect.PASSTHROUGH, Dialect.OPENAI_CHAT, Dialect.BEDROCK_INVOKE])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_documents(name: str, dialect: Dialect) -> None:
    document, expected = WHOLE[name]
    for observe in (False, True):
        reading = read(dialect, json.dumps(document).encode(), "application/json", observe=observe)
        assert pair(reading) == expected
        assert reading.ended


TITAN: Documents = [
    {"outputText": "Good ", "index": 0, "inputTextTokenCount": 12, "totalOutputTextTokenCount": None},
    {
        "outputText": "day",
        "index": 0,
        "inputTextTokenCount": None,
        "totalOutputTextTokenCount": 5,
        "completionReason": "FINISH",
    },
]
LLAMA: Documents = [
    {"generation": "Good ", "prompt_token_count": 12, "generation_token_count": 1, "stop_reason": None},
    {"generation": "day", "prompt_token_count": None, "generation_token_count": 5, "stop_reason": "stop"},
]
NOVA: Documents = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Good day"}}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": {"inputTokens": 12, "outputTokens": 5}}},
]
CLAUDE_2: Documents = [
    {"completion": "Good day", "stop_reason": None},
    {"completion": "", "stop_reason": "stop"} | METRICS,
]
MISTRAL: Documents = [
    {"outputs": [{"text": "Good ", "stop_reason": None}]},
    {"outputs": [{"text": "day", "stop_reason": "stop"}]} | METRICS,
]
CLAUDE_UNCOUNTED: Documents = [
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 12, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"text": "Good day"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"} | METRICS,
]
JAMBA: Documents = [
    {"id": "j", "choices": [{"index": 0, "delta": {"content": "Good day"}}]},
    {"id": "j", "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5}},
    METRICS,
]
COHERE: Documents = [
    {"event_type": "stream-start", "generation_id": "g", "is_finished": False},
    {"event_type": "text-generation", "text": "Good day"},
    {
        "event_type": "stream-end",
        "finish_reason": "COMPLETE",
        "response": {"text": "Good day", "meta": {"tokens": {"input_tokens": 12, "output_tokens": 5}}},
    },
]
VERTEX: Documents = [
    {"candidates": [{"content": {"parts": [{"text": "Good day"}]}}], "usageMetadata": {"trafficType": "ON_DEMAND"}},
    {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 5}},
]
RUN: Documents = [
    {"response": "Good "},
    {"response": "day"},
    {"response": "", "usage": {"prompt_tokens": 12, "completion_tokens": 5}},
]
META: Documents = [
    {"id": "a", "event": {"event_type": "progress", "delta": {"text": "Good day"}}},
    {"id": "a", "event": {"event_type": "complete", "stop_reason": "stop"}},
    {
        "id": "a",
        "event": {
            "event_type": "metrics",
            "metrics": [{"metric": "num_prompt_tokens", "value": 12}, {"metric": "num_completion_tokens", "value": 5}],
        },
    },
]
DASHSCOPE: Documents = [
    {"output": {"text": "Good day", "finish_reason": "null"}, "usage": {"input_tokens": 12, "output_tokens": 2}},
    {"output": {"text": "", "finish_reason": "stop"}, "usage": {"input_tokens": 12, "output_tokens": 5}},
]
WATSONX: Documents = [
    {"results": [{"generated_text": "Good ", "generated_token_count": 2, "input_token_count": 12}]},
    {"results": [{"generated_text": "day", "generated_token_count": 5, "input_token_count": 0, "stop_reason": "eos"}]},
]
TGI: Documents = [
    {"index": 1, "token": {"text": "Good day"}, "generated_text": None, "details": None},
    {
        "index": 2,
        "token": {"text": ""},
        "generated_text": "Good day",
        "details": {"finish_reason": "eos_token", "generated_tokens": 5, "input_length": 12},
    },
]
LM_STUDIO: Documents = [
    {"type": "chat.start", "model_instance_id": "m"},
    {"type": "message.delta", "content": "Good day"},
    {"type": "chat.end", "result": {"stats": {"input_tokens": 12, "total_output_tokens": 5}}},
]
STREAMS: dict[str, Documents] = {
    "watsonx": WATSONX,
    "tgi": TGI,
    "lm studio": LM_STUDIO,
    "a relay's envelope": [{"code": 0, "data": document} for document in JAMBA[:2]],
    "titan": wrapped(*TITAN),
    "llama": wrapped(*LLAMA),
    "nova": wrapped(*NOVA),
    "claude 2": wrapped(*CLAUDE_2),
    "jamba": wrapped(*JAMBA),
    "mistral": wrapped(*MISTRAL),
    "claude without its count": wrapped(*CLAUDE_UNCOUNTED),
    "cohere": COHERE,
    "vertex": VERTEX,
    "cloudflare": RUN,
    "llama api": META,
}


@pytest.mark.parametrize("dialect", [Dialect.PASSTHROUGH, Dialect.OPENAI_COMPLETIONS, Dialect.OPENAI_CHAT])
@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, dialect: Dialect) -> None:
    body = events(*STREAMS[name])
    for observe in (False, True):
        assert pair(read(dialect, body, "text/event-stream", observe=observe)) == (12, 5)
    assert read(dialect, body, "text/event-stream", observe=True).texts() == ["Good day"]


@pytest.mark.parametrize("name", ["titan", "llama", "nova", "claude 2", "jamba", "mistral", "claude without its count"])
def test_streams_of_bedrock(name: str) -> None:
    reading = read(Dialect.BEDROCK_INVOKE_STREAM, events(*STREAMS[name]), "text/event-stream", observe=True)
    assert (pair(reading), reading.texts(), reading.complete) == ((12, 5), ["Good day"], True)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/stream+json", "application/json", ""])
def test_lines_are_read_whatever_they_are_called(content_type: str) -> None:
    lines = b"".join(json.dumps(document).encode() + b"\n" for document in COHERE)
    for piece in (1, 7, len(lines)):
        reader = Reader(Dialect.COHERE_V1_CHAT, content_type)
        for at in range(0, len(lines), piece):
            reader.feed(lines[at : at + piece])
        reading = reader.close()
        assert pair(reading) == (12, 5)
        assert reading.complete


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize(
    "documents",
    [
        DASHSCOPE,
        [{"type": "transcript.text.done", "usage": {"input_tokens": 12, "output_tokens": 5}}],
        [{"type": "image_generation.completed", "usage": {"input_tokens": 12, "output_tokens": 5}}],
        [{"type": "conversation.response.done", "usage": {"prompt_tokens": 12, "completion_tokens": 5}}],
        [{"type": "response.done", "response": {"usage": {"input_tokens": 12, "output_tokens": 5}}}],
        [{"type": "response.completed", "response": {"id": "r"}, "usage": {"input_tokens": 12, "output_tokens": 5}}],
        WATSONX,
        TGI,
        LM_STUDIO,
    ],
)
def test_the_last_event_of_a_stream_ends_it(documents: Documents, observe: bool) -> None:
    reading = read(Dialect.PASSTHROUGH, events(*documents), "text/event-stream", observe=observe)
    assert (pair(reading), reading.complete) == ((12, 5), True)


def test_embeddings_have_no_output() -> None:
    body = json.dumps({"object": "list", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 4}}).encode()
    assert pair(read(Dialect.PASSTHROUGH, body)) == (4, 0)


def test_documents_with_metadata_of_their_own_are_not_taken_for_bedrocks() -> None:
    run = {"id": "run", "object": "thread.run", "metadata": {}, "usage": {"prompt_tokens": 4, "completion_tokens": 3}}
    step = {"id": "step", "object": "thread.run.step", "type": "message_creation", "usage": None}
    assert pair(read(Dialect.PASSTHROUGH, events(step, run))) == (4, 3)
    assert pair(read(Dialect.PASSTHROUGH, events({"id": "x", "metadata": {}}, run))) == (4, 3)
