"""Plans: which candidates an exchange has, and in which order. A candidate is a route with one credential of its
upstream; it is made when its turn comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.gateway.attempts import Candidate, Plan
from services.gateway.routing.pools import Credential
from services.gateway.routing.routes import Route
from shared.contract.provider_state import Health as State

Make = Callable[[Route, Credential], Candidate]
Clock = Callable[[], float]  # monotonic seconds
Place = tuple[Route, Credential]


def plan_of(routes: tuple[Route, ...], caller: str, make: Make, clock: Clock = time.monotonic) -> Plan:
    """The plan of a request: its routes in order, and for each the pool of its upstream in this caller's order."""
    only = routes[0].upstream.pool.only
    if only is not None and len(routes) == 1:
        return Plan(make(routes[0], only))
    return _Choice([(route, one) for route in routes for one in route.upstream.pool.of(caller)], make, clock())


class _Choice(Plan):
    """A plan with several candidates."""

    __slots__ = ("_left", "_make", "_provider")

    def __init__(self, places: list[Place], make: Make, now: float) -> None:
        self._left = places
        self._make = make
        super().__init__(self._taken(self._usable(now) or [min(places, key=lambda place: _last_resort(place, now))]))

    def more(self, now: float) -> bool:
        return bool(self._usable(now))

    def another(self, *, elsewhere: bool, now: float) -> Candidate | None:
        """The next one that is usable. One that is cooling or out is not asked after a failure: it would fail, too."""
        usable = self._usable(now)
        if elsewhere:
            usable.sort(key=lambda place: place[0].upstream.provider == self._provider)
        return self._taken(usable) if usable else None

    def _usable(self, now: float) -> list[Place]:
        return [place for place in self._left if place[1].health.usable(now) and _serves(place, now)]

    def _taken(self, places: list[Place]) -> Candidate:
        self._left.remove(places[0])
        self._provider = places[0][0].upstream.provider
        return self._make(*places[0])


def _serves(place: Place, now: float) -> bool:
    return place[1].health.serves(place[0].model, now)


def _last_resort(place: Place, now: float) -> bool:
    """Where no credential is usable, the first one that is not out has the request: its failure is the answer."""
    return place[1].health.state is State.OUT or not _serves(place, now)
