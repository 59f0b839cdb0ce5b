"""Leases: which process reads which shard. They only save work; that nothing is counted twice is the settle script's,
and that nothing is written twice is each sink's.

Every holder has its fair share, `shards / holders` rounded up: it lets go of what it has beyond, and takes what is
free. One that dies is forgotten after METER_TTL_MS, its leases end after LEASE_TTL_MS.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from shared.contract import names, scripts
from shared.runtime.store import Store, translated


class Leases:
    """The leases of one process on the shards of one piece of work: metering, unless other names are given."""

    def __init__(
        self,
        store: Store,
        holder: str,
        shards: int,
        *,
        holders: str = names.METERS,
        lease: Callable[[int], str] = names.lease,
    ) -> None:
        """`holders`: the key of those that share this work; `lease`: a shard's key of it."""
        self.held: set[int] = set()
        self._store = store
        self.holder = holder
        self.shards = shards
        self._holders = holders
        self._lease = lease
        self._script = store.register_script(scripts.LEASE)
        self._alive = store.register_script(scripts.ALIVE)

    async def share(self) -> int:
        """Say that this process lives. Returns its fair share: how many shards it should hold now."""
        with translated():
            holders = await self._alive(keys=[self._holders], args=[self.holder, names.METER_TTL_MS])
        return math.ceil(self.shards / max(1, int(holders)))

    async def renew(self) -> set[int]:
        """Renew the leases that are held. Returns the shards that another process has taken meanwhile."""
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
            await self._store.zrem(self._holders, self.holder)

    async def _set(self, shard: int, ttl_ms: int) -> bool:
        with translated():
            return bool(await self._script(keys=[self._lease(shard)], args=[self.holder, ttl_ms]))
