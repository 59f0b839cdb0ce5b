"""Reserved path prefixes: first segments that cannot be the name of a provider, each with its owner. Pure."""

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

VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?")  # a version segment of an API; every such path is ours


def owner(segment: str) -> str | None:
    """Whose first segment this is; None where it may be the name of a provider."""
    return RESERVED.get(segment) or ("a version of the providers' paths" if VERSION.fullmatch(segment) else None)
