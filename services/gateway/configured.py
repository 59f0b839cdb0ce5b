"""What a reload replaces: upstreams and their connections, and the memory of paths. A request reads it once and keeps
it to its end, so that a running exchange goes on with what it began with."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Protocol

from services.gateway.attempts import Upstream as Connections
from services.gateway.retries import Retries
from services.gateway.routing.inward import inward
from services.gateway.routing.readings import understood
from services.gateway.routing.routes import LONGEST_REMEMBERED, REMEMBERED, Match, match
from services.gateway.routing.upstreams import Upstreams
from shared.contract.dialects import Family


class _Matching(Protocol):
    def __call__(self, method: str, path: str, family: Family, dated: bool) -> Match: ...


class Configured:
    """The reloadable part of a gateway's settings, as requests use it. `upstream`: the connections to the providers;
    `retries`: the policy of attempts; `lists`: whether a request may list models to fall back on."""

    __slots__ = ("_match", "_remembered", "lists", "retries", "upstream", "upstreams")

    def __init__(self, upstreams: Upstreams, upstream: Connections, retries: Retries, *, lists: bool = True) -> None:
        self.lists = lists
        self.retries = retries
        self.upstream = upstream
        self.upstreams = upstreams
        self._match: _Matching = lambda method, path, family, dated: understood(
            method, path, partial(match, family=family, upstreams=upstreams, dated=dated)
        )
        self._remembered: _Matching = lru_cache(REMEMBERED)(self._match)

    def match(self, method: str, path: str, family: Family, dated: bool) -> Match:
        """The match of a path, as `routes.match`. Refused with 404 where there is none."""
        find = self._remembered if len(path) <= LONGEST_REMEMBERED else self._match
        return find(method, path, family, dated)

    def inward(self, provider: str, url: str) -> str | None:
        """The path at the gateway that leads to a URL of a provider; None where none does."""
        upstream = self.upstreams.get(provider)
        return inward(url, upstream, self.upstreams) if upstream is not None else None
