"""Which script answers which request. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from services.demo import anthropic, background, gemini, openai
from services.demo.scenario import parse
from services.demo.script import Piece, Request, Script, compact

_GEMINI = re.compile(r"/(?:v1|v1beta)/models/([^/:]+):(\w+)")
# Where providers keep their other endpoints: Azure's deployments, Gemini's and DeepSeek's compatible ones.
_ELSEWHERE = re.compile(r"^/(?:openai/deployments/[^/]+|v1beta/openai|openai/v1|anthropic/v1)/")
_POSTS: Mapping[str, Callable[[Request], Script]] = {
    "/v1/chat/completions": openai.chat,
    "/v1/completions": openai.completions,
    "/v1/responses": openai.responses,
    "/v1/embeddings": openai.embeddings,
    "/v1/messages": anthropic.messages,
    "/v1/messages/count_tokens": anthropic.count_tokens,
}
_GEMINI_METHODS: Mapping[str, Callable[[Request], Script]] = {
    "generateContent": gemini.generate,
    "countTokens": gemini.count_tokens,
    "embedContent": gemini.embed,
    "batchEmbedContents": gemini.embed,
}


def understand(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """A request with its scenario. ValueError where a directive is unknown."""
    path = _ELSEWHERE.sub("/v1/", target.partition("?")[0])
    try:
        document = json.loads(body) if body else {}
    except ValueError:
        document = {}
    document = document if isinstance(document, dict) else {}
    call = _GEMINI.fullmatch(path)
    model = call[1] if call else str(document.get("model", ""))
    options: Any = document.get("stream_options")
    return Request(
        method=method,
        path=path,
        model=model,
        streamed=call[2].startswith("stream") if call else bool(document.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        body=body,
        scenario=parse(headers.get("x-demo", ""), model),
    )


def answer(request: Request, target: str, headers: Mapping[str, str]) -> Script:
    """The script of a request. A path of no dialect is answered with what was received."""
    script = _script(request, target, headers)
    if request.scenario.status != 200:
        return _http_error(request, script)
    return script


def _script(request: Request, target: str, headers: Mapping[str, str]) -> Script:
    if request.path.startswith("/v1/responses"):
        work = background.begin(request) if background.asked(request) else background.fetch(request.path)
        if work is not None:
            return work
    if request.method == "POST" and request.path in _POSTS:
        return _POSTS[request.path](request)
    call = _GEMINI.fullmatch(request.path)
    if request.method == "POST" and call and call[2] == "streamGenerateContent":
        return gemini.stream_sse(request) if "alt=sse" in target else gemini.stream_array(request)
    if request.method == "POST" and call and call[2] in _GEMINI_METHODS:
        return _GEMINI_METHODS[call[2]](request)
    if request.path == "/v1/models" and "anthropic-version" in headers:
        return anthropic.models()
    if request.path in ("/v1/models", "/v1beta/models"):
        return gemini.models() if "x-goog-api-key" in headers else openai.models()
    seen = {
        "method": request.method,
        "target": target,
        "headers": dict(headers),
        "body": request.body.decode("latin-1"),
    }
    return Script("echo", "application/json", [Piece(compact(seen))])


def _http_error(request: Request, script: Script) -> Script:
    bodies = {"anthropic_messages": anthropic.http_error, "gemini": gemini.http_error}
    body = bodies.get(script.dialect, openai.http_error)(request.scenario.status)
    return Script(script.dialect, "application/json", [Piece(body)], status=request.scenario.status)
