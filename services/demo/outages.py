"""Outages of the demo provider: what befalls every request for a time, or those with one credential. Pure.

An outage is written like a scenario, and its directives go before those of a request. These are its own:

| directive | while the outage lasts |
|---|---|
| down | connections are refused |
| tls | TLS handshakes fail |
| expired | the certificate of `--expired` is shown |
| credential=END | only requests are met whose credential ends so, as `x-demo-credential` shows it |
| seconds=N | it ends by itself; otherwise it lasts until it is told to end |
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.demo import scenario

DOORS = ("down", "tls", "expired")  # what befalls connections, before there is a request


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage."""

    text: str  # as it was ordered
    directives: str  # those of a scenario
    door: str  # one of DOORS, or ""
    credential: str
    seconds: float


def parse(text: str) -> Outage:
    """An outage as it is ordered. ValueError where a directive is unknown, or where they contradict each other."""
    directives, door, credential, seconds = [], "", "", math.inf
    for directive in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = directive.partition("=")
        if directive in DOORS:
            door = directive
        elif name == "credential":
            credential = value
        elif name == "seconds":
            seconds = float(value)
        else:
            directives.append(directive)
    if not directives and not door:
        raise ValueError("no directive says what goes wrong")
    if door and (credential or directives):
        raise ValueError(f"{door!r} befalls connections: it stands alone, and knows no credential")
    scenario.parse(",".join(directives))
    return Outage(text, ",".join(directives), door, credential, seconds)


class Outages:
    """Those that are on: one for each credential, and one for all others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._on: dict[str, tuple[Outage, float]] = {}  # with its end, by credential

    def begin(self, outage: Outage) -> None:
        """Begin one. It takes the place of the one for the same credential."""
        self._on[outage.credential] = (outage, self._clock() + outage.seconds)

    def end(self) -> None:
        """End all of them."""
        self._on.clear()

    def running(self) -> list[Outage]:
        """Those that are not over, the one for all credentials last."""
        now = self._clock()
        self._on = {credential: on for credential, on in self._on.items() if on[1] > now}
        return [self._on[credential][0] for credential in sorted(self._on, reverse=True)]

    @property
    def door(self) -> str:
        """What befalls connections: one of DOORS, or ""."""
        return next((outage.door for outage in self.running() if outage.door), "")

    def directives(self, credential: str) -> str:
        """What befalls a request with this credential."""
        met = (outage for outage in self.running() if credential.endswith(outage.credential))
        return next((outage.directives for outage in met), "")
