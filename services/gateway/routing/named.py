"""Makes the named routes of the settings; refuses those whose candidates do not speak one dialect (decision 88)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from services.gateway.route_settings import RouteSettings
from services.gateway.routing.upstreams import FAMILIES, NamedRoute, Target, Upstream
from shared.contract.dialects import Family
from shared.runtime.errors import SettingsError
from shared.runtime.settings import variable


def named_routes(routes: Mapping[str, RouteSettings], upstreams: Mapping[str, Upstream]) -> Iterator[NamedRoute]:
    """The named routes. `upstreams`: by the provider's name, and one for each candidate.

    SettingsError, one line, where the candidates of a route do not serve the same dialects.
    """
    for name, route in routes.items():
        yield _named(name, route, upstreams)


def _named(name: str, route: RouteSettings, upstreams: Mapping[str, Upstream]) -> NamedRoute:
    targets = tuple(
        Target(upstreams[one.provider], one.model.removeprefix(f"{one.provider}/"), one.weight)
        for one in route.candidates
    )
    wanted = route.named_dialects
    for target in targets:
        served = target.upstream.endpoints
        for other in targets:
            own = next(iter(other.upstream.endpoints))
            if not wanted and own not in served:
                raise _mixed(name, f"{_of(other)} speaks the dialects of {own}, and {_of(target)} does not serve them")
        for dialect in sorted(wanted):
            if dialect not in FAMILIES or not target.upstream.serves(dialect, FAMILIES[dialect]):
                raise _mixed(name, f"{_of(target)} does not serve {dialect}")
    families = frozenset.intersection(*(frozenset(target.upstream.endpoints) for target in targets))
    dialects = frozenset(
        dialect
        for dialect, family in FAMILIES.items()
        if all(target.upstream.serves(dialect, family) for target in targets)
    )
    if wanted:
        dialects, families = wanted, frozenset(FAMILIES[dialect] for dialect in wanted)
    if not dialects and Family.BEDROCK not in families:
        raise _mixed(name, "there is no dialect that all candidates serve")
    return NamedRoute(name, targets, families, dialects, route.sticky)


def _of(target: Target) -> str:
    return f"{target.upstream.provider}/{target.model}"


def _mixed(name: str, what: str) -> SettingsError:
    return SettingsError(f"{variable(('routes', name))}: {what}; nothing is translated")
