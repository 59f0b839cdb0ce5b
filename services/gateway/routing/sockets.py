"""Which handshakes are served, and where they lead. Pure.

A row of an HTTP path is found first, so that a WebSocket leads nowhere a request would not lead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from services.gateway.routing.routes import Match
from services.gateway.routing.upstreams import Upstreams
from shared.contract.dialects import Dialect, Family
from shared.runtime.errors import Refused

# Google's own paths, at the root or behind the name of a provider. Vertex is served none: its sessions name project and
# location in a message, which nobody here may change (decision 76).
_WS = "ws"
_LIVE = re.compile(r"google\.ai\.generativelanguage\.v[0-9a-z]+\.GenerativeService[./]BidiGenerateContent")
_REALTIME = re.compile(r"(?:v1/)?realtime")

Find = Callable[[str], Match]  # the match of a path, as if it were posted to


class Socket(NamedTuple):
    """A handshake that is served. `model_in`: the parameters that may name its model."""

    match: Match
    model_in: tuple[bytes, ...] = ()


def socket_of(path: str, find: Find, upstreams: Upstreams) -> Socket | None:
    """The handshake of a path; None where it is not served. Refused as `find` refuses."""
    segments = [segment for segment in path.split("/") if segment]
    if _WS in segments[:2]:
        at = segments.index(_WS)
        return _live(segments[0] if at else None, "/".join(segments[at + 1 :]), upstreams)
    try:
        found = find(path)
    except Refused:
        return None
    if found.dialect is Dialect.OPENAI_RESPONSES and found.path_model is None:
        return Socket(replace(found, dialect=Dialect.OPENAI_RESPONSES_SOCKET, streamed=True))
    if found.dialect is not Dialect.PASSTHROUGH or found.family is not Family.OPENAI:
        return None
    deployments = found.upstream.paths.deployments if found.upstream is not None else ""
    names = (b"model", b"deployment") if deployments else (b"model",)
    rest = found.rest.removeprefix(f"{deployments}/")
    if not _REALTIME.fullmatch(rest):
        return None
    return Socket(replace(found, dialect=Dialect.OPENAI_REALTIME, streamed=True), names)


def _live(provider: str | None, call: str, upstreams: Upstreams) -> Socket | None:
    if not _LIVE.fullmatch(call):
        return None
    upstream = upstreams.get(provider) if provider else upstreams.default(Dialect.PASSTHROUGH, Family.GEMINI)
    if upstream is None or Family.GEMINI not in upstream.endpoints or upstream.paths.scope:
        return None
    url = f"{upstream.endpoints[Family.GEMINI]}/{_WS}/{call}"
    match = Match(Dialect.GEMINI_LIVE, Family.GEMINI, f"{_WS}/{call}", upstream=upstream, url=url, streamed=True)
    return Socket(match)
