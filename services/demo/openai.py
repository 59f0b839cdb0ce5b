"""OpenAI's dialects: chat and legacy completions, responses, embeddings."""

from __future__ import annotations

from typing import Any

from services.demo.script import Piece, Request, Script, compact, data_event, named_event, normal, words

_SSE = "text/event-stream; charset=utf-8"
_JSON = "application/json"
_DONE = Piece(b"data: [DONE]\n\n")
_ERROR = {"message": "The server had an error while processing your request", "type": "server_error"}
_ARGUMENTS = ['{"city"', ':"São', ' Paulo","', 'days":', "3}"]


def _usage(request: Request) -> tuple[dict[str, Any], dict[str, int | None]]:
    prompt, answer = request.input_tokens, request.scenario.tokens
    cached, reasoning = prompt // 4, answer // 5
    reported = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }
    return reported, normal(prompt, answer, cached, None, reasoning)


def chat(request: Request) -> Script:
    reported, usage = _usage(request)
    base = {"id": "chatcmpl-demo", "created": 1700000000, "model": f"{request.model}-2026-01-01"}
    finish = "tool_calls" if request.scenario.tools else "stop"
    if not request.streamed:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(words(request.scenario))}
        if request.scenario.tools:
            call = {"id": "call_demo", "type": "function"}
            call["function"] = {"name": "weather", "arguments": "".join(_ARGUMENTS)}  # type: ignore[assignment]
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        document = base | {"object": "chat.completion", "choices": [choice]}
        return _document("openai_chat", request, document, reported, usage)
    asked = request.include_usage and not request.scenario.no_usage
    script = Script("openai_chat", _SSE, error=data_event({"error": _ERROR}))

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        document = base | {"object": "chat.completion.chunk", "choices": [choice]}
        if asked:
            document["usage"] = None
        return data_event(document | {"obfuscation": "Qz7"})

    script.pieces.append(Piece(chunk({"role": "assistant", "content": ""})))
    if request.scenario.tools:
        opening = {"index": 0, "id": "call_demo", "type": "function", "function": {"name": "weather", "arguments": ""}}
        script.pieces.append(Piece(chunk({"tool_calls": [opening]})))
        parts = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in _ARGUMENTS]
        script.pieces.extend(Piece(chunk(part), tokens=1) for part in parts)
    else:
        script.pieces.extend(Piece(chunk({"content": word}), tokens=1) for word in words(request.scenario))
    script.pieces.append(Piece(chunk({}, finish)))
    if asked:
        document = base | {"object": "chat.completion.chunk", "choices": [], "usage": reported}
        script.pieces.append(Piece(data_event(document), usage=True))
        script.usage = usage
    script.pieces.append(_DONE)
    return script


def completions(request: Request) -> Script:
    reported, usage = _usage(request)
    base = {"id": "cmpl-demo", "object": "text_completion", "created": 1700000000, "model": request.model}
    if not request.streamed:
        choice = {"index": 0, "text": "".join(words(request.scenario)), "logprobs": None, "finish_reason": "stop"}
        return _document("openai_completions", request, base | {"choices": [choice]}, reported, usage)
    script = Script("openai_completions", _SSE, error=data_event({"error": _ERROR}))
    for word in words(request.scenario):
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": None}
        script.pieces.append(Piece(data_event(base | {"choices": [choice]}), tokens=1))
    last = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
    script.pieces.append(Piece(data_event(base | {"choices": [last]})))
    if request.include_usage and not request.scenario.no_usage:
        script.pieces.append(Piece(data_event(base | {"choices": [], "usage": reported}), usage=True))
        script.usage = usage
    script.pieces.append(_DONE)
    return script


def responses(request: Request) -> Script:
    prompt, answer = request.input_tokens, request.scenario.tokens
    cached, reasoning = prompt // 4, answer // 5
    reported = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + answer,
    }
    usage = normal(prompt, answer, cached, None, reasoning)
    said = words(request.scenario)
    content = [{"type": "output_text", "text": "".join(said), "annotations": []}]
    item = {"id": "msg_demo", "type": "message", "role": "assistant", "status": "completed", "content": content}
    response: dict[str, Any] = {
        "id": "resp_demo",
        "object": "response",
        "created_at": 1700000000,
        "status": "completed",
        "model": f"{request.model}-2026-01-01",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
    }
    if not request.streamed:
        return _document("openai_responses", request, response, reported, usage)
    running = response | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_demo", "output_index": 0, "content_index": 0}
    empty = item | {"status": "in_progress", "content": []}
    events: list[tuple[dict[str, Any], int]] = [
        ({"type": "response.created", "response": running}, 0),
        ({"type": "response.in_progress", "response": running}, 0),
        ({"type": "response.output_item.added", "output_index": 0, "item": empty}, 0),
        ({"type": "response.content_part.added", **place, "part": content[0] | {"text": ""}}, 0),
        *(({"type": "response.output_text.delta", **place, "delta": word, "obfuscation": "k3"}, 1) for word in said),
        ({"type": "response.output_text.done", **place, "text": "".join(said)}, 0),
        ({"type": "response.content_part.done", **place, "part": content[0]}, 0),
        ({"type": "response.output_item.done", "output_index": 0, "item": item}, 0),
    ]
    script = Script("openai_responses", _SSE)
    for number, (event, tokens) in enumerate(events):
        script.pieces.append(Piece(named_event(event | {"sequence_number": number}), tokens=tokens))
    if not request.scenario.no_usage:
        response["usage"] = reported
        script.usage = usage
    last = {"type": "response.completed", "sequence_number": len(events), "response": response}
    script.pieces.append(Piece(named_event(last), usage=script.usage is not None))
    failed = response | {"status": "failed", "output": [], "usage": None, "error": _ERROR}
    failed_event = {"type": "response.failed", "sequence_number": len(events), "response": failed}
    script.error = named_event({"type": "error", "sequence_number": 0, **_ERROR}) + named_event(failed_event)
    return script


def embeddings(request: Request) -> Script:
    prompt = request.input_tokens
    base64 = b'"base64"' in request.body  # which OpenAI's SDKs ask for
    vector: str | list[float] = "AACAPwAAAEAAAEBA" if base64 else [1.0, 2.0, 3.0]
    document = {
        "object": "list",
        "model": request.model,
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
    }
    reported = {"prompt_tokens": prompt, "total_tokens": prompt}
    return _document("openai_embeddings", request, document, reported, normal(prompt, 0, None, None, None))


def models() -> Script:
    listed = [{"id": name, "object": "model", "created": 1700000000, "owned_by": "demo"} for name in ("demo", "gpt-4o")]
    return Script("metadata", _JSON, [Piece(compact({"object": "list", "data": listed}))])


def http_error(status: int) -> bytes:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return compact(
        {"error": {"message": f"demo error {status}", "type": kind, "param": None, "code": f"demo_{status}"}}
    )


def _document(
    dialect: str,
    request: Request,
    document: dict[str, Any],
    reported: dict[str, Any],
    usage: dict[str, int | None],
) -> Script:
    """An answer that is one JSON document."""
    if request.scenario.no_usage:
        return Script(dialect, _JSON, [Piece(compact(document), tokens=request.scenario.tokens)])
    body = compact(document | {"usage": reported})
    return Script(dialect, _JSON, [Piece(body, tokens=request.scenario.tokens, usage=True)], usage)
