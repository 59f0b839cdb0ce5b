"""Reserved path prefixes: first segments that cannot be the name of a provider, each with its owner; and base paths.
Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

CONTROL = "/api/"  # the control plane: an ASGI application of its own
PROBES = ("/", "/healthz", "/readyz")  # the gateway answers them itself; agents probe "/" first

RESERVED: Mapping[str, str] = {
    "api": "the control API",
    "v1": "the OpenAI and Anthropic paths",
    "v1beta": "the Gemini paths",
    "healthz": "a probe",
    "readyz": "a probe",
}


def base_path(value: str) -> str:
    """A base path as it is compared: "" or `/llm`. ValueError where it is none."""
    path = value.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("must be a path such as /llm")
    first = path.partition("/")[2].partition("/")[0]
    if first in RESERVED:
        raise ValueError(f"cannot begin with /{first}, which belongs to {RESERVED[first]}")
    return path
