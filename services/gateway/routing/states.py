"""The state of every provider and credential, for whoever asks, and for metrics."""

from __future__ import annotations

from collections.abc import Iterable

from services.gateway.routing.pools import Credential
from services.gateway.routing.upstreams import Upstream
from shared.contract.provider_state import CredentialState, ProviderState


def states(upstreams: Iterable[Upstream], now: float, now_ms: int) -> tuple[ProviderState, ...]:
    """The state of these providers. `now`: monotonic seconds, and the same moment in milliseconds since 1970."""
    return tuple(
        ProviderState(
            upstream.provider,
            upstream.serves_dialects,
            tuple(_state(one, now, now_ms) for one in upstream.pool),
        )
        for upstream in upstreams
    )


def _state(credential: Credential, now: float, now_ms: int) -> CredentialState:
    health = credential.health
    requests, failures = health.recent
    since_ms = now_ms - int((now - health.since) * 1000)
    return CredentialState(credential.name, health.state, since_ms, health.cause, requests, failures, credential.weight)
