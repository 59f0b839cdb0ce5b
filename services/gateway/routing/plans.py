"""The routes of a request, in the order of trying: one for a plain model, several where a name or a list stands for
several models. Pure.

A name is that of a named route, or the request lists models itself: `models` with `route: "fallback"` (decision 89).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from hashlib import blake2b
from urllib.parse import quote

from msgspec.structs import replace

from services.gateway.client.flags import Flags
from services.gateway.routing.routes import Match, Route, choose, url_at
from services.gateway.routing.upstreams import NamedRoute, Target, Upstreams
from shared.runtime.errors import Refused

_MOST_MODELS = 8  # that one request may list
_IN_PATH = r"(/(?:deployments|model|models|tunedModels)/){}(?=[/:])"  # the name of a model, in any provider's paths

Chance = Callable[[], float]  # from 0 up to 1


def plan(
    matched: Match, flags: Flags, upstreams: Upstreams, caller: str, *, lists: bool, chance: Chance = random.random
) -> tuple[Route, ...]:
    """The routes of a request, at least one. Refused: as `choose` has it, 404 where a named route does not serve the
    dialect, 400 where a request lists too many models.

    `caller`: hash of its key. `lists`: whether requests may list models.
    """
    name = matched.path_model or flags.model or ""
    listed = flags.models if lists and matched.model_in_body and matched.upstream is None else ()
    if not listed:
        named = upstreams.named.get(name)
        if named is None:
            return (choose(matched, flags.model, upstreams),)
        return tuple(_routes_of(named, matched, caller, chance)) or (choose(matched, flags.model, upstreams),)
    if len(listed) > _MOST_MODELS:
        raise Refused(400, f"the request lists more than {_MOST_MODELS} models")
    found: dict[tuple[str, str], Route] = {}
    for model in (name, *listed):
        named = upstreams.named.get(model)
        routes = _routes_of(named, matched, caller, chance) if named else (choose(matched, model, upstreams),)
        for route in routes:
            found.setdefault((route.upstream.provider, route.model), replace(route, asked=model, unlisted=True))
    return tuple(found.values())


def passed_on(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes of a request whose key may use all of them. Where they are one provider's that takes a list of models
    itself, the list goes there as it came, and the first route is the only one."""
    first = routes[0]
    alone = all(route.upstream is first.upstream for route in routes)
    if first.unlisted and alone and first.upstream.takes_models and not any(route.renamed for route in routes[1:]):
        return (replace(first, unlisted=False),)
    return routes


def _routes_of(named: NamedRoute, matched: Match, caller: str, chance: Chance) -> Iterator[Route]:
    """The routes to the targets. Where the path has chosen the upstream, to those that are there; none where the path
    has chosen it, and the body names the model."""
    if matched.upstream is not None and matched.path_model is None:
        return
    if matched.upstream is None and not named.serves(matched.dialect, matched.family):
        raise Refused(404, f"not every candidate of route {named.name!r} serves {matched.dialect}")
    for target in named.ordered(_share(named.name, caller) if named.sticky else chance()):
        if matched.upstream is None or matched.upstream is target.upstream:
            yield Route(
                target.upstream,
                _url(named.name, matched, target),
                target.model,
                renamed=matched.path_model is None,
                asked=named.name,
            )


def _url(name: str, matched: Match, target: Target) -> str:
    path = matched.url or matched.rest
    if matched.path_model is not None:
        place = re.compile(_IN_PATH.format(re.escape(name)), re.IGNORECASE)
        path = place.sub(lambda found: found[1] + quote(target.model, safe=""), "/" + path, count=1)[1:]
    return path if matched.url is not None else url_at(matched, target.upstream, path)


def _share(name: str, caller: str) -> float:
    """Where a caller stands among all of them, from 0 up to 1: always the same for one route."""
    return int.from_bytes(blake2b(f"{name}\0{caller}".encode(), digest_size=6).digest()) / 2**48
