"""Measuring beside the event loop: what takes long does so in a thread, so that leases are renewed meanwhile; and what
may have killed a meter is measured alone, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from services.meter.estimator import TokenEstimator
from services.meter.measure import Estimator, Measured, measure, sealed
from services.meter.pricing.book import PriceBook
from services.meter.tails import Tail
from shared.books import streams
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.runtime.seal_keys import NO_KEYS, SealKeys
from shared.runtime.store import Store

# Measured in a thread from this many bytes on, decoded.
_LARGE: Final = 256 * 1024
# A thread for all: two large answers at once would take twice the memory.
_APART: Final = ThreadPoolExecutor(1, thread_name_prefix="measure")

# After this many deliveries without a settlement an exchange is a suspect, and after so many tries alone it is held.
DELIVERIES: Final = 2
TRIES: Final = 2


async def measured(tail: Tail, estimator: Estimator, keys: SealKeys = NO_KEYS) -> Measured:
    """`measure`, without holding up the loop for long. BadRecord as there."""
    try:
        tail = tail.opened(keys.opened)
    except BadRecord as exc:
        return sealed(tail, estimator.prices, str(exc))
    if _small(tail):
        return measure(tail, estimator)
    return await asyncio.get_running_loop().run_in_executor(_APART, measure, tail, estimator)


def _small(tail: Tail) -> bool:
    size = sum(len(segment.body.data) for segment in tail.segments) + len(tail.end.body.data)
    size += len(tail.end.request.data) if tail.end.request is not None else 0
    if size >= _LARGE:
        return False
    try:
        for piece in tail.body():  # decoding a little twice is cheaper than going to the thread and back
            size += len(piece or b"")
            if size >= _LARGE:
                return False
    except BadRecord:
        return True
    return True


class Measuring:
    """Measures the exchanges of one shard. Suspects are those that were delivered again and again without being
    settled: the meters that had them died, over one of them or over something else.

    Each is tried alone in its process, and the try is in Redis before it begins: so the next meter knows which one it
    was, and the innocent are settled (decision 68).
    """

    def __init__(self, store: Store, shard: int, estimator: TokenEstimator, keys: SealKeys = NO_KEYS) -> None:
        """`estimator`: the same for all shards of the process. `keys`: open what is sealed."""
        self._store = store
        self._shard = shard
        self._estimator = estimator
        self._keys = keys
        self._records: set[bytes] = set()
        self._survived: set[ExchangeId] = set()  # tries that ended here, and may be noted in Redis still

    def add(self, stream_ids: Sequence[bytes]) -> None:
        """Note stream entries that were delivered too often."""
        self._records.update(stream_ids)

    def are(self, stream_ids: Sequence[bytes]) -> bool:
        """Whether an exchange with these stream entries is a suspect."""
        return bool(self._records) and not self._records.isdisjoint(stream_ids)

    @property
    def prices(self) -> PriceBook:
        return self._estimator.prices

    async def measured(self, tail: Tail, stream_ids: Sequence[bytes]) -> Measured:
        """`measured`; alone where the exchange is a suspect. BadRecord where meters have died over it before."""
        async with self.trying(tail.id, stream_ids):
            return await measured(tail, self._estimator, self._keys)

    def learn(self, found: Measured) -> None:
        """Learn from an exchange that was measured."""
        self._estimator.learn(found)

    def clear(self) -> None:
        """Note none: the shard is read anew."""
        self._records.clear()

    @asynccontextmanager
    async def trying(self, id: ExchangeId, stream_ids: Sequence[bytes]) -> AsyncIterator[None]:
        """Measure inside; alone where the exchange is a suspect. BadRecord where meters have died over it before."""
        if not self.are(stream_ids):
            yield
            return
        async with self._estimator.alone:
            if id in self._survived:
                await streams.end_tries(self._store, self._shard, id)
            died = await streams.begin_try(self._store, self._shard, id) - 1
            self._survived.add(id)
            try:
                if died >= TRIES:
                    raise BadRecord(f"{died} meters have died while they measured it")
                yield
            finally:
                await streams.end_tries(self._store, self._shard, id)
                self._survived.discard(id)
                self._records.difference_update(stream_ids)
