"""Which script answers which request. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from services.demo import anthropic, background, bedrock, gemini, openai
from services.demo.scenario import parse
from services.demo.script import Piece, Request, Script, compact

_GEMINI = re.compile(r"/(?:v1|v1beta)/models/([^/:]+):(\w+)")
_BEDROCK = re.compile(r"/model/(.+)/(converse|converse-stream|invoke|invoke-with-response-stream)")
# Of another project or location than these it has nothing.
_VERTEX = re.compile(r"/(?:v1|v1beta1)/projects/demo/locations/global/publishers/(google|anthropic)/models/(.+):(\w+)")
# Where providers keep their other endpoints: Azure's deployments, Gemini's and DeepSeek's compatible ones.
_ELSEWHERE = re.compile(
    r"^/(?:openai(?:/deployments/[^/]+|/v1)?|v1beta/openai|anthropic/v1|v1/projects/demo/locations/global/endpoints/openapi)/"
)
_SCENARIO = re.compile(r"^/(demo-[^/]*)(?=/)")
_SIGNER = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/ ]+)/\d{8}/([a-z0-9-]+)/")
_KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
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
_BEDROCK_METHODS: Mapping[str, Callable[[Request], Script]] = {
    "converse": bedrock.converse,
    "converse-stream": bedrock.converse_stream,
    "invoke": bedrock.invoke,
    "invoke-with-response-stream": bedrock.invoke_stream,
}


def understand(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    outage_for: Callable[[str], str] = lambda credential: "",
) -> Request:
    """A request with its scenario. `outage_for`: the directives of an outage, by credential.

    ValueError where a directive is unknown."""
    path = target.partition("?")[0]
    asked = found[1] if (found := _SCENARIO.match(path)) else ""
    path = _ELSEWHERE.sub("/v1/", _SCENARIO.sub("", path))
    try:
        document = json.loads(body) if body else {}
    except ValueError:
        document = {}
    document = document if isinstance(document, dict) else {}
    model, method_name = _call(path) or (str(document.get("model", "")), None)
    options: Any = document.get("stream_options")
    credential = _shown(headers)
    return Request(
        method=method,
        path=path,
        model=model,
        streamed="stream" in method_name if method_name else bool(document.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        body=body,
        scenario=parse(headers.get("x-demo", ""), model, asked, outage=outage_for(credential)),
        credential=credential,
    )


def _shown(headers: Mapping[str, str]) -> str:
    """The end of a key or token; of a signature, the access key's id and the region."""
    given = next((headers[name] for name in _KEY_HEADERS if name in headers), "")
    signer = _SIGNER.match(given)
    return f"{signer[1]}/{signer[2]}" if signer is not None else given[-5:]


def _call(path: str) -> tuple[str, str] | None:
    """Model and method, where the path names them."""
    found = _GEMINI.fullmatch(path) or _BEDROCK.fullmatch(path)
    if found is None and (vertex := _VERTEX.fullmatch(path)) is not None:
        return unquote(vertex[2]), vertex[3]
    return (unquote(found[1]), found[2]) if found is not None else None


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
    call = _call(request.path)
    if request.method == "POST" and call is not None and (script := _named(request, call[1], target, headers)):
        return script
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


def _named(request: Request, method: str, target: str, headers: Mapping[str, str]) -> Script | None:
    """The script of a call whose path names model and method."""
    if method in _BEDROCK_METHODS:
        return _BEDROCK_METHODS[method](request) if bedrock.admitted(headers) else bedrock.refused()
    if "/projects/" in request.path and not headers.get("authorization", "").startswith("Bearer "):
        return Script("gemini", "application/json", [Piece(gemini.http_error(401))], status=401)
    if method.lower().endswith("rawpredict"):
        return anthropic.messages(request)
    if method == "streamGenerateContent":
        return gemini.stream_sse(request) if "alt=sse" in target else gemini.stream_array(request)
    return _GEMINI_METHODS[method](request) if method in _GEMINI_METHODS else None


def _http_error(request: Request, script: Script) -> Script:
    bodies = {"anthropic_messages": anthropic.http_error, "gemini": gemini.http_error}
    of_bedrock = script.dialect.startswith("bedrock")
    body = bodies.get(script.dialect, bedrock.http_error if of_bedrock else openai.http_error)(request.scenario.status)
    return Script(script.dialect, "application/json", [Piece(body)], status=request.scenario.status)
