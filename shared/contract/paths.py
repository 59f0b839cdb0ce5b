"""Reserved path prefixes: first segments that cannot be the name of a provider, each with its owner. Pure."""

from __future__ import annotations

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
