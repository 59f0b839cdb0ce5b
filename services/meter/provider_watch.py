"""Watches for credentials that a provider has begun to refuse, as gateways tell it with their heartbeats."""

from __future__ import annotations

from shared.books import provider_health, running
from shared.contract.events import EventType
from shared.contract.provider_state import Health
from shared.runtime import events
from shared.runtime.store import Store


class ProviderWatch:
    """Notes an event for each credential that is out, once until it has been in again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._out: set[tuple[str, str]] = set()

    async def look(self) -> None:
        """Look at the health of all credentials. StoreError where Redis is away."""
        states = provider_health.merged(await running.gateways(self._store))
        out = {(one.provider, one.name): one.worst for one in states if one.worst.health == Health.OUT}
        for (provider, name), worst in out.items():
            if (provider, name) not in self._out:
                said = {"provider": provider, "credential": name, "since_ms": worst.since_ms, "cause": worst.cause}
                about = f"{provider} {name} {worst.since_ms}"  # so that the next meter that looks tells nothing new
                await events.tell(self._store, EventType.PROVIDER_OUT, about, said)
        self._out = set(out)
