"""Reserved path prefixes: the first segments of paths that no provider may be named after, and whose each is. Pure."""

from __future__ import annotations

from collections.abc import Mapping

CONTROL = "/api/"  # the control plane: an ASGI application of its own
PROBES = ("/", "/healthz", "/readyz")  # the gateway's own answers; agents probe "/" before they begin

RESERVED: Mapping[str, str] = {
    "api": "the control API",
    "v1": "the OpenAI and Anthropic paths",
    "v1beta": "the Gemini paths",
    "healthz": "a probe",
    "readyz": "a probe",
}
