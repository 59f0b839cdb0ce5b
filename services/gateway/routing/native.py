"""Calls of models in providers' own APIs, by their paths. Pure.

A path is told from others by its segments and without patterns, in one pass; upper and lower case are the same, as they
are to some servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from shared.contract.dialects import Dialect

# Paths below `/{provider}/`.
_CALLS: Mapping[str, Dialect] = {
    "api/chat": Dialect.OLLAMA_CHAT,
    "api/generate": Dialect.OLLAMA_CHAT,
    "v1/chat": Dialect.COHERE_V1_CHAT,
    "v2/chat": Dialect.COHERE_V2_CHAT,
}
_GEMINI_METHODS: Mapping[str, Dialect] = {
    "generatecontent": Dialect.GEMINI,
    "streamgeneratecontent": Dialect.GEMINI,
    "embedcontent": Dialect.GEMINI,
    "batchembedcontents": Dialect.GEMINI,
    "counttokens": Dialect.COUNT_TOKENS,
}
_PUBLISHERS: Mapping[str, Dialect] = {
    "anthropic": Dialect.ANTHROPIC_MESSAGES,
    "mistralai": Dialect.OPENAI_CHAT,
}
_BEDROCK_METHODS: Mapping[str, Dialect] = {
    "converse": Dialect.BEDROCK_CONVERSE,
    "converse-stream": Dialect.BEDROCK_CONVERSE_STREAM,
    "invoke": Dialect.BEDROCK_INVOKE,
    "invoke-with-response-stream": Dialect.BEDROCK_INVOKE_STREAM,
    "count-tokens": Dialect.COUNT_TOKENS,
}


class Native(NamedTuple):
    """A call of a model: the model where the path names it, and whether it asks for a stream."""

    dialect: Dialect
    model: str | None = None
    streamed: bool = False


def looks_like_gemini(path: str) -> bool:
    """Whether a path looks like one of Gemini's calls, wherever its version stands."""
    _, models, call = path.partition("odels/")  # `models/` and `tunedModels/`
    return bool(models) and ":" in call


def looks_like_bedrock(path: str) -> bool:
    """Whether a path looks like one of Bedrock's calls."""
    return "/model/" in path and path.rpartition("/")[2] in _BEDROCK_METHODS


def gemini_call(rest: str) -> Native | None:
    """A call of Gemini's: `models/NAME:METHOD`, behind the version segment."""
    kind, _, call = rest.partition("/")
    name, _, method = call.rpartition(":")
    if kind.lower() not in ("models", "tunedmodels") or not name or not _is_word(method):
        return None
    return _by_method(name, method)


def native_call(path: str) -> Native:
    """Any other path below `/{provider}/`: a passthrough where it is not a known call."""
    if path.lower() in _CALLS:
        return Native(_CALLS[path.lower()])
    segments = path.split("/")
    return _vertex(segments) or _bedrock(segments) or _cloudflare(segments) or Native(Dialect.PASSTHROUGH)


# Clouds name the model in the path, behind folders of their own (project, region, account).


def _vertex(segments: list[str]) -> Native | None:
    """`…/publishers/PUBLISHER/models/NAME:METHOD`."""
    if [segment.lower() for segment in segments[-4::2]] != ["publishers", "models"]:
        return None
    publisher = segments[-3].lower()
    name, _, method = segments[-1].partition(":")
    if not name or not _is_word(method):
        return None
    if method.lower().endswith("rawpredict"):
        if name.lower() == "count-tokens":
            return Native(Dialect.COUNT_TOKENS)  # the model is in the body
        streamed = method.lower().startswith("stream")
        return Native(_PUBLISHERS.get(publisher, Dialect.PASSTHROUGH), unquote(name), streamed)
    return _by_method(name, method)


def _bedrock(segments: list[str]) -> Native | None:
    """`…/model/NAME/METHOD`; the name is an ARN with slashes at times."""
    method = segments[-1].lower()
    models = [at for at, segment in enumerate(segments[:-2]) if segment.lower() == "model"]
    if method not in _BEDROCK_METHODS or not models:
        return None
    return Native(_BEDROCK_METHODS[method], unquote("/".join(segments[models[-1] + 1 : -1])), "stream" in method)


def _cloudflare(segments: list[str]) -> Native | None:
    """`…/ai/run/@NAME`, where the name has slashes."""
    for at in range(len(segments) - 3, -1, -1):
        if [segment.lower() for segment in segments[at : at + 2]] == ["ai", "run"] and segments[at + 2].startswith("@"):
            return Native(Dialect.PASSTHROUGH, unquote("/".join(segments[at + 2 :])))
    return None


def _by_method(name: str, method: str) -> Native:
    dialect = _GEMINI_METHODS.get(method.lower(), Dialect.PASSTHROUGH)
    return Native(dialect, unquote(name), method.lower().startswith("stream"))


def _is_word(text: str) -> bool:
    return text.replace("_", "x").isalnum()
