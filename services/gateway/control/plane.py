"""What the control API works with: its own connections to Redis, so that a report never waits for the relay or the
relay for a report, and how much of it may go on at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.keyring import KeyRing
from services.gateway.settings import GatewaySettings
from shared import boots, keys, store, streams
from shared.keys import KeyRecord
from shared.store import Store

_REPORTS = 2  # at once; more of them wait
_CONNECTIONS = 8


class ControlPlane:
    """One per process."""

    def __init__(self, settings: GatewaySettings, redis_url: str, keyring: KeyRing, providers: frozenset[str]) -> None:
        self.settings = settings
        self.keyring = keyring
        self.providers = providers
        self.store: Store = store.connect(redis_url, connections=_CONNECTIONS)
        self.reports = asyncio.Semaphore(_REPORTS)

    async def shards(self) -> int:
        return await boots.shards(self.store, self.settings.shards)

    async def pepper(self) -> bytes:
        return await keys.load_pepper(self.store, self.settings)

    async def now(self) -> datetime:
        """By Redis's clock, which all gateways share."""
        return datetime.fromtimestamp(await streams.now_ms(self.store) / 1000, UTC)

    async def pending(self, key: KeyRecord | None) -> int:
        """Exchanges that are open, or wait to be settled: of one key, or all."""
        found = [
            await streams.exchanges(self.store, shard, key.hash if key else "") for shard in range(await self.shards())
        ]
        return sum(map(len, found))

    async def close(self) -> None:
        await self.store.aclose()


def _plane(request: Request) -> ControlPlane:
    plane: ControlPlane = request.app.state.control
    return plane


Plane = Annotated[ControlPlane, Depends(_plane)]
