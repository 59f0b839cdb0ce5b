"""Reserved path prefixes: first segments that cannot be the name of a provider, each with its owner; and base paths.
Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

CONTROL = "/api/"  # the control plane: an ASGI application of its own
# What the gateway serves below it, for clients whose base URL ends as OpenRouter's, `/api/v1`.
CALLS = frozenset(
    f"{CONTROL}v1/{call}"
    for call in ("chat/completions", "completions", "embeddings", "messages", "models", "responses")
)
PROBES = ("/", "/healthz", "/readyz")  # the gateway answers them itself; agents probe "/" first

RESERVED: Mapping[str, str] = {
    "api": "the control API",
    "v1": "the OpenAI and Anthropic paths",
    "v1beta": "the Gemini paths",
    "healthz": "a probe",
    "readyz": "a probe",
}

_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?")  # a version segment of an API; every such path is ours


def owner(segment: str) -> str | None:
    """Whose first segment this is; None where it may be the name of a provider."""
    return RESERVED.get(segment) or ("a version of the providers' paths" if VERSION.fullmatch(segment) else None)


def base_path(value: str) -> str:
    """A base path as it is compared: "" or `/llm`. ValueError where it is none."""
    path = value.rstrip("/")
    first, *others = path.split("/")[1:] or [""]
    if path and not (path.startswith("/") and all(map(_SEGMENT.fullmatch, (first, *others)))):
        raise ValueError("must be a path such as /llm")
    if (taken := owner(first)) is not None:
        raise ValueError(f"cannot begin with /{first}, which is {taken}")
    return path
