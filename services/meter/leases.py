"""Leases: which meter reads which shard. They only save work; that nothing is counted twice is the settle script's.

Every meter holds its fair share, `shards / meters` rounded up: it lets go of what it has beyond, and takes what is
free. A meter that dies is forgotten after METER_TTL_MS, its leases end after LEASE_TTL_MS.
"""

from __future__ import annotations

import math
import random

from shared.contract import names, scripts
from shared.runtime.store import Store, translated


class Leases:
    """The leases of one meter."""

    def __init__(self, store: Store, meter: str, shards: int) -> None:
        self.held: set[int] = set()
        self._store = store
        self.meter = meter
        self.shards = shards
        self._script = store.register_script(scripts.LEASE)
        self._alive = store.register_script(scripts.ALIVE)

    async def share(self) -> int:
        """Say that this meter lives. Returns its fair share: how many shards it should hold now."""
        with translated():
            meters = await self._alive(keys=[names.METERS], args=[self.meter, names.METER_TTL_MS])
        return math.ceil(self.shards / max(1, int(meters)))

    async def renew(self) -> set[int]:
        """Renew the leases that are held. Returns the shards that another meter has taken meanwhile."""
        lost = {shard for shard in self.held if not await self._set(shard, names.LEASE_TTL_MS)}
        self.held -= lost
        return lost

    async def take(self, share: int) -> None:
        """Take free shards up to the share."""
        free = [shard for shard in range(self.shards) if shard not in self.held]
        random.shuffle(free)  # meters that start together should not all ask for the same ones
        for shard in free:
            if len(self.held) >= share:
                break
            if await self._set(shard, names.LEASE_TTL_MS):
                self.held.add(shard)

    async def release(self, shard: int) -> None:
        """Give a shard up; its consumer must have stopped."""
        self.held.discard(shard)
        await self._set(shard, 0)

    async def leave(self) -> None:
        """Give every lease up, so that others need not wait for it to expire."""
        for shard in list(self.held):
            await self.release(shard)
        with translated():
            await self._store.zrem(names.METERS, self.meter)

    async def _set(self, shard: int, ttl_ms: int) -> bool:
        with translated():
            return bool(await self._script(keys=[names.lease(shard)], args=[self.meter, ttl_ms]))
