"""The books monitor counts the books for metrics now and then: the backlog, conservation, followers, and open work, of
which it takes off the list what has expired. It also looks for credentials that are out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Set as AbstractSet

from services.meter.metrics import BooksMetrics
from services.meter.provider_watch import ProviderWatch
from shared.books import audit, followers, limit_scopes, streams, work
from shared.books.books import Books
from shared.runtime.errors import StoreError
from shared.runtime.store import Store

_BACKLOG_SECONDS = 5.0
_CONSERVATION_SECONDS = 30.0
# Beyond this, counting every record would be a load of its own; such a backlog is alarm enough.
_MOST_RECORDS = 200_000

log = logging.getLogger(__name__)


class BooksMonitor:
    """Keeps the gauges that need Redis. `held`: the shards of this meter."""

    def __init__(self, store: Store, metrics: BooksMetrics, held: AbstractSet[int], shards: int) -> None:
        self._store = store
        self._metrics = metrics
        self._held = held
        self._shards = shards
        self._looked: float | None = None
        self._providers = ProviderWatch(store)

    async def run(self, stopping: asyncio.Event) -> None:
        """Count again and again, until `stopping`."""
        while not stopping.is_set():
            try:
                await self._look()
            except StoreError as exc:
                log.warning("the books cannot be counted: %s", exc)
                self._metrics.conservation(None)  # the last count is out of date
                self._metrics.work(None)
                self._metrics.followers([])
            try:
                async with asyncio.timeout(_BACKLOG_SECONDS):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        lengths = await streams.lengths(self._store, sorted(self._held))
        self._metrics.backlog(lengths.items())
        if 0 not in self._held:
            self._metrics.conservation(None)
            self._metrics.work(None)
            self._metrics.followers([])
            self._looked = None
            return
        await self._providers.look()
        if self._looked is None or time.monotonic() - self._looked >= _CONSERVATION_SECONDS:
            books = await Books.find(self._store, self._shards)
            few = sum((await streams.lengths(self._store, range(books.shards))).values()) <= _MOST_RECORDS
            self._metrics.conservation(await audit.conservation(books) if few else None)
            await self._look_at_work()
            self._metrics.limits(await limit_scopes.worst_overshoot(self._store))
            self._metrics.followers(await followers.states(books, await streams.now_ms(self._store)))
            self._looked = time.monotonic()

    async def _look_at_work(self) -> None:
        for name in await work.expire(self._store):
            log.warning("work %s has expired: nobody has fetched its result, and its cost is not booked", name)
        self._metrics.work(await work.summary(self._store), await streams.now_ms(self._store))
