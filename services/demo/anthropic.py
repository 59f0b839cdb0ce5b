"""Anthropic's dialect: named events, a ping, cumulative usage, and padding inside the JSON."""

from __future__ import annotations

from typing import Any

from services.demo.script import Piece, Request, Script, compact, named_event, normal, words

_SSE = "text/event-stream; charset=utf-8"
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 529: "overloaded_error"}
_INPUT = ['{"city":', ' "São Paulo"', ', "days"', ": 3}"]


def messages(request: Request) -> Script:
    plain, answer = request.input_tokens, request.scenario.tokens
    read, written = plain // 3, plain // 7
    start = {
        "input_tokens": plain,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 1,
        "service_tier": "standard",
    }
    final = {
        "input_tokens": plain,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": answer,
    }
    usage = normal(plain + read + written, answer, read, written, None)
    stop = {"stop_reason": "tool_use" if request.scenario.tools else "end_turn", "stop_sequence": None}
    message: dict[str, Any] = {
        "id": "msg_demo",
        "type": "message",
        "role": "assistant",
        "model": f"{request.model}-20260101",
        "content": [],
    }
    if not request.streamed:
        message |= {"content": [_block(request, whole=True)], **stop}
        if request.scenario.no_usage:
            return Script("anthropic_messages", "application/json", [Piece(compact(message), tokens=answer)])
        body = compact(message | {"usage": start | final})
        return Script("anthropic_messages", "application/json", [Piece(body, tokens=answer, usage=True)], usage)
    error = {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Overloaded"}}
    script = Script("anthropic_messages", _SSE, error=named_event(error))
    opened = message | {"stop_reason": None, "stop_sequence": None}
    if not request.scenario.no_usage:
        opened["usage"] = start
    script.pieces += [
        _padded({"type": "message_start", "message": opened}),
        _padded({"type": "content_block_start", "index": 0, "content_block": _block(request, whole=False)}),
        _padded({"type": "ping"}),
    ]
    if request.scenario.tools:
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in _INPUT]
    else:
        deltas = [{"type": "text_delta", "text": word} for word in words(request.scenario)]
    for delta in deltas:
        script.pieces.append(_padded({"type": "content_block_delta", "index": 0, "delta": delta}, tokens=1))
    script.pieces.append(_padded({"type": "content_block_stop", "index": 0}))
    delta_event: dict[str, Any] = {"type": "message_delta", "delta": stop}
    if not request.scenario.no_usage:
        delta_event["usage"] = final
        script.usage = usage
    script.pieces.append(_padded(delta_event, usage=script.usage is not None))
    script.pieces.append(_padded({"type": "message_stop"}))
    return script


def count_tokens(request: Request) -> Script:
    body = compact({"input_tokens": request.input_tokens})
    return Script("count_tokens", "application/json", [Piece(body)])


def models() -> Script:
    listed = [{"type": "model", "id": "claude-demo", "display_name": "Demo", "created_at": "2026-01-01T00:00:00Z"}]
    body = compact({"data": listed, "has_more": False, "first_id": "claude-demo", "last_id": "claude-demo"})
    return Script("metadata", "application/json", [Piece(body)])


def http_error(status: int) -> bytes:
    error = {
        "type": _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error"),
        "message": f"demo error {status}",
    }
    return compact({"type": "error", "error": error, "request_id": "req_demo"})


def _block(request: Request, *, whole: bool) -> dict[str, Any]:
    if request.scenario.tools:
        given = {"city": "São Paulo", "days": 3} if whole else {}
        return {"type": "tool_use", "id": "toolu_demo", "name": "weather", "input": given}
    return {"type": "text", "text": "".join(words(request.scenario)) if whole else ""}


def _padded(document: dict[str, Any], *, tokens: int = 0, usage: bool = False) -> Piece:
    """Anthropic pads the JSON with spaces before its last brace."""
    event = named_event(document)
    return Piece(event.removesuffix(b"}\n\n") + b" " * (len(event) % 11) + b"}\n\n", tokens=tokens, usage=usage)
