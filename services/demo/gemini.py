"""Gemini's dialect: CRLF events with `alt=sse`, a pretty-printed JSON array without, usage on every document."""

from __future__ import annotations

import json
from typing import Any

from services.demo.script import Piece, Request, Script, compact, data_event, normal, words

_JSON = "application/json; charset=UTF-8"
_STATES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}
_WORDS_PER_CHUNK = 3


def generate(request: Request) -> Script:
    documents, tokens, usage = _documents(request, chunks=False)
    piece = Piece(_pretty(documents[-1]), tokens=sum(tokens), usage=usage is not None)
    return Script("gemini", _JSON, [piece], usage)


def stream_sse(request: Request) -> Script:
    documents, tokens, usage = _documents(request, chunks=True)
    script = Script("gemini", "text/event-stream", usage=usage)
    last = len(documents) - 1
    for at, (document, count) in enumerate(zip(documents, tokens, strict=True)):
        data = data_event(document, end=b"\r\n\r\n")
        script.pieces.append(Piece(data, tokens=count, usage=usage is not None and at == last))
    script.error = data_event({"error": _error(503)}, end=b"\r\n\r\n")
    return script


def stream_array(request: Request) -> Script:
    documents, tokens, usage = _documents(request, chunks=True)
    script = Script("gemini", _JSON, usage=usage)
    last = len(documents) - 1
    for at, (document, count) in enumerate(zip(documents, tokens, strict=True)):
        lead = b"[" if at == 0 else b",\r\n"
        script.pieces.append(
            Piece(lead + _pretty(document) + b"\n", tokens=count, usage=usage is not None and at == last)
        )
    script.pieces.append(Piece(b"]"))
    script.error = b",\r\n" + _pretty({"error": _error(503)}) + b"\n]"
    return script


def count_tokens(request: Request) -> Script:
    return Script("count_tokens", _JSON, [Piece(_pretty({"totalTokens": request.input_tokens}))])


def embed(request: Request) -> Script:
    """Gemini's embeddings often report no usage at all."""
    values = {"values": [1.0, 2.0, 3.0]}
    batch = request.path.endswith(":batchEmbedContents")
    body = _pretty({"embeddings": [values]} if batch else {"embedding": values})
    return Script("gemini", _JSON, [Piece(body)])


def models() -> Script:
    listed = {"name": "models/gemini-demo", "displayName": "Demo", "supportedGenerationMethods": ["generateContent"]}
    return Script("metadata", _JSON, [Piece(_pretty({"models": [listed]}))])


def http_error(status: int) -> bytes:
    return compact({"error": _error(status)})


def _error(status: int) -> dict[str, Any]:
    return {"code": status, "message": f"demo error {status}", "status": _STATES.get(status, "UNAVAILABLE")}


def _documents(
    request: Request, *, chunks: bool
) -> tuple[list[dict[str, Any]], list[int], dict[str, int | None] | None]:
    """Documents, the tokens of text in each, and the usage the last one reports."""
    said = words(request.scenario)
    step = _WORDS_PER_CHUNK if chunks else max(1, len(said))
    texts = ["".join(said[at : at + step]) for at in range(0, len(said), step)] or [""]
    tokens = [len(said[at : at + step]) for at in range(0, len(said), step)] or [0]
    prompt, answer = request.input_tokens, request.scenario.tokens
    thoughts, cached = answer // 4, prompt // 6
    documents: list[dict[str, Any]] = []
    for at, text in enumerate(texts):
        part: dict[str, Any] = {"text": text}
        if request.scenario.tools:
            part = {"functionCall": {"name": "weather", "args": {"city": "São Paulo", "days": 3}}}
        candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if at == len(texts) - 1:
            candidate["finishReason"] = "STOP"
        document: dict[str, Any] = {"candidates": [candidate]}
        if not request.scenario.no_usage:
            so_far = sum(tokens[: at + 1])
            document["usageMetadata"] = {
                "promptTokenCount": prompt,
                "candidatesTokenCount": so_far,
                "totalTokenCount": prompt + so_far + thoughts,
                "cachedContentTokenCount": cached,
                "thoughtsTokenCount": thoughts,
            }
        documents.append(document | {"modelVersion": request.model, "responseId": "demo"})
    if request.scenario.no_usage:
        return documents, tokens, None
    return documents, tokens, normal(prompt, sum(tokens) + thoughts, cached, None, thoughts)


def _pretty(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=2).encode()
