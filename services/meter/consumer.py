"""One shard's consumer: reads its tail stream, and settles each exchange that is whole.

What it holds in memory is a copy of what is pending in Redis, so it starts over after any error: a record is dropped
from Redis by the settle script alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from services.meter.assembly import Assembled, Assembler, BadExchange
from services.meter.gauge import LearningGauge
from services.meter.ledger import Ledger, Settlement, Verdict
from services.meter.measure import measure
from shared import quarantine, streams
from shared.errors import BadRecord, StoreError, StoreRefused, StoreUnavailable
from shared.store import Store
from shared.tail import StreamEntry

_BLOCK_MS = 500
# A record delivered this long ago that we do not hold went to a worker that was paused, or to a reply that was lost.
_RECLAIM_IDLE_MS = 30_000
_TIDY_SECONDS = 10.0
_RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class ShardConsumer:
    """Meters one shard until `stop`."""

    def __init__(self, store: Store, ledger: Ledger, shard: int, batch: int, gauge: LearningGauge) -> None:
        self.shard = shard
        self._store = store
        self._ledger = ledger
        self._batch = batch
        self._gauge = gauge
        self._assembler = Assembler(shard)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the batch at hand. Nothing is cancelled: a cancelled Redis call leaves its connection unusable."""
        self._stopping.set()

    async def run(self) -> None:
        """Read and settle; a Redis that is away is waited for."""
        while not self._stopping.is_set():
            try:
                await self._serve()
            except StoreError as exc:
                log.warning("shard %d: %s", self.shard, exc)
                try:
                    async with asyncio.timeout(_RETRY_SECONDS):
                        await self._stopping.wait()
                except TimeoutError:
                    continue

    async def _serve(self) -> None:
        self._assembler = Assembler(self.shard)
        await streams.create_group(self._store, self.shard)
        await self._recover()
        tidied = time.monotonic()
        while not self._stopping.is_set():
            entries = await streams.read(self._store, self.shard, count=self._batch, block_ms=_BLOCK_MS)
            await self._take(entries)
            if time.monotonic() - tidied > _TIDY_SECONDS:
                await self._reclaim()
                await self._drop_replays()
                tidied = time.monotonic()

    async def _recover(self) -> None:
        """Take over what was read before and never settled, whoever read it."""
        after = b"0"
        while not self._stopping.is_set() and (
            entries := await streams.read_pending(self._store, self.shard, after, count=self._batch)
        ):
            after = entries[-1].id
            await self._take(entries)

    async def _reclaim(self) -> None:
        idle = streams.idle_pending(self._store, self.shard, idle_ms=_RECLAIM_IDLE_MS)
        unknown = [id async for id in idle if not self._assembler.knows(id)]
        for start in range(0, len(unknown), self._batch):
            ids = unknown[start : start + self._batch]
            entries = await streams.fetch(self._store, self.shard, ids)
            gone = set(ids).difference(entry.id for entry in entries)
            if gone:  # deleted by hand; nothing is left of them but the mark that they are pending
                await streams.drop(self._store, self.shard, list(gone))
            await self._take(entries)

    async def _drop_replays(self) -> None:
        """A record sent again after its exchange was settled waits for others that will never come."""
        idle = self._assembler.idle(time.monotonic() - _TIDY_SECONDS)
        if not idle:
            return
        for id, final in zip(idle, await self._ledger.final(idle), strict=True):
            if final:
                await streams.drop(self._store, self.shard, self._assembler.forget(id))

    async def _take(self, entries: Sequence[StreamEntry]) -> None:
        whole: list[Assembled] = []
        for entry in entries:
            try:
                assembled = self._assembler.add(entry, time.monotonic())
            except BadExchange as exc:
                await self._quarantine(exc.stream_ids, str(exc))
                continue
            except BadRecord as exc:
                await self._quarantine([entry.id], str(exc))
                continue
            if assembled is not None:
                whole.append(assembled)
        await self._settle(whole)

    async def _settle(self, whole: Sequence[Assembled]) -> None:
        batch: list[Settlement] = []
        for tail, stream_ids in whole:
            try:
                measured = measure(tail, self._gauge)
                settlement = Settlement(tail.id, measured.entry, stream_ids)
            except BadRecord as exc:
                await self._quarantine(stream_ids, str(exc))
            except Exception as exc:  # a bug in a reader must cost one exchange, not the whole shard
                log.exception("shard %d: exchange %s cannot be read", self.shard, tail.id)
                await self._quarantine(stream_ids, f"{type(exc).__name__}: {exc}")
            else:
                self._gauge.learn(measured)
                batch.append(settlement)
            await asyncio.sleep(0)  # counting takes its time; leases must be renewed meanwhile
        if not batch:
            return
        for settlement, verdict in zip(batch, await self._ledger.settle(batch), strict=True):
            if isinstance(verdict, StoreRefused):
                await self._quarantine(settlement.stream_ids, f"the settle script refuses it: {verdict}")
            elif isinstance(verdict, StoreError):
                raise verdict
            elif verdict is Verdict.CONFLICT:
                raise StoreUnavailable(f"exchange {settlement.id} was amended by another worker meanwhile")

    async def _quarantine(self, stream_ids: Sequence[bytes], reason: str) -> None:
        log.error("shard %d: quarantined %d records: %s", self.shard, len(stream_ids), reason)
        entries = await streams.fetch(self._store, self.shard, stream_ids)
        await quarantine.hold(self._store, self.shard, entries, reason)
