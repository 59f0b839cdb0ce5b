"""The health of providers as all gateways see it together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shared.contract.provider_state import CredentialState, Health
from shared.contract.running import GatewayState

_WORST_FIRST = (Health.OUT, Health.COOLING, Health.HEALTHY)


class CredentialHealth(NamedTuple):
    """One credential of a provider: the worst that any gateway sees, and what each of them sees."""

    provider: str
    name: str  # "" where the provider has only one
    dialects: tuple[str, ...]
    worst: CredentialState  # its requests and failures are those of all gateways
    by_gateway: Mapping[str, CredentialState]

    @property
    def differs(self) -> bool:
        """Whether gateways see different things."""
        return len({(state.health, state.cause) for state in self.by_gateway.values()}) > 1


def merged(gateways: Mapping[str, GatewayState]) -> list[CredentialHealth]:
    """Every credential that a gateway has, by provider and name."""
    dialects: dict[str, set[str]] = {}
    seen: dict[tuple[str, str], dict[str, CredentialState]] = {}
    for boot, gateway in sorted(gateways.items()):
        for provider in gateway.providers:
            dialects.setdefault(provider.name, set()).update(provider.dialects)
            for credential in provider.credentials:
                seen.setdefault((provider.name, credential.name), {})[boot] = credential
    return [
        CredentialHealth(provider, name, tuple(sorted(dialects[provider])), _together(states.values()), states)
        for (provider, name), states in sorted(seen.items())
    ]


def worst(states: Iterable[CredentialState]) -> CredentialState:
    """The state with the worst health, and of those the one that has lasted longest."""
    return min(states, key=lambda state: (_rank(state.health), state.since_ms))


def best(healths: Iterable[str]) -> str:
    """The best of them: a provider is as healthy as the best of its credentials."""
    return max(healths, key=_rank)


def _together(states: Iterable[CredentialState]) -> CredentialState:
    every = list(states)
    found = worst(every)
    return CredentialState(
        found.name,
        found.health,
        found.since_ms,
        found.cause or next((state.cause for state in every if state.cause), ""),
        sum(state.requests for state in every),
        sum(state.failures for state in every),
        found.weight,
    )


def _rank(health: str) -> int:
    """A word of a later version counts as bad."""
    return _WORST_FIRST.index(Health(health)) if health in _WORST_FIRST else 0
