"""The one writer to Redis of a gateway process: records queue here and leave in pipelined batches.

While Redis is away, records wait in memory and are sent again until Redis takes them. Where a reply is lost, records
are sent twice; (`exchange_id`, `seq`) makes that harmless. Records that memory cannot hold wait in the journal alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from services.gateway.capture.journal import Journal
from shared.books import streams
from shared.contract.tail import Fields
from shared.runtime.errors import StoreError, StoreUnavailable
from shared.runtime.store import Store

_GATHER_SECONDS = 0.025  # records wait this long for others to share their round trip
_BATCH = 512
# The most bytes of a batch. It is halved while Redis does not answer, which may be for the size of it: else the same
# megabytes are sent again and again, and Redis takes them each time.
_BATCH_BYTES = 4 * 1024 * 1024
_FEWEST_BYTES = 64 * 1024
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)

log = logging.getLogger(__name__)


class _Queued(NamedTuple):
    shard: int
    fields: Fields
    size: int
    at: float  # monotonic


class RecordWriter:
    """The queue of tail records. `available`: whether Redis took the last batch."""

    def __init__(self, store: Store, journal: Journal, memory: int) -> None:
        """`memory`: the most bytes of records that may wait here."""
        self.available = True
        self.pending_bytes = 0
        self.left_to_journal: float | None = None  # since when records wait in the journal alone, monotonic
        self._store = store
        self._journal = journal
        self._memory = memory
        self._queue: deque[_Queued] = deque()
        self._batch_bytes = _BATCH_BYTES
        self._sending: float | None = None  # the time of the oldest record on its way
        self._wake = asyncio.Event()
        self._closing = False

    @property
    def full(self) -> bool:
        return self.pending_bytes >= self._memory

    @property
    def shipped(self) -> float:
        """Redis has every record from before this monotonic time."""
        return self.queued_since if self.left_to_journal is None else min(self.queued_since, self.left_to_journal)

    @property
    def queued_since(self) -> float:
        """Redis has every record that was queued before this monotonic time."""
        if self._sending is not None:
            return self._sending
        return self._queue[0].at if self._queue else time.monotonic()

    def put(self, shard: int, fields: Fields) -> None:
        """Queue a record. Never waits, never fails."""
        size = len(fields[b"r"])
        if self.full:
            self._journal.flush()  # to know whether the journal has it
        if self.full and not self._journal.failed:
            if self.left_to_journal is None:
                log.warning("records fill their memory while Redis is away: further ones wait in the journal alone")
                self.left_to_journal = time.monotonic()
            return
        self._queue.append(_Queued(shard, fields, size, time.monotonic()))
        self.pending_bytes += size
        self._wake.set()

    async def put_again(self, shard: int, fields: Fields) -> None:
        """Queue a record of a journal, once there is room for it."""
        while self.pending_bytes >= self._memory / 2:
            await asyncio.sleep(_GATHER_SECONDS)
        self.put(shard, fields)

    async def run(self) -> None:
        """Send until `close`; then send the rest and return."""
        failures = 0
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            if not self._closing:
                await asyncio.sleep(_GATHER_SECONDS)
            if self._queue:
                failures = 0 if await self._send() else failures + 1
            if failures:
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    async def close(self, run: asyncio.Task[None], timeout: float) -> bool:
        """Let `run` empty the queue, for at most `timeout` seconds. Returns whether Redis has every record."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({run}, timeout=timeout)
        if run.done():
            return not self._queue and self._sending is None and self.left_to_journal is None
        log.error("Redis is away at shutdown: %d records stay in the journal", len(self._queue))
        run.cancel()
        return False

    async def _send(self) -> bool:
        self._journal.flush()  # written ahead
        batch = self._next_batch()
        self._sending = batch[0].at
        errors: Sequence[StoreError | None]
        try:
            errors = await streams.append(self._store, [(queued.shard, queued.fields) for queued in batch])
        except StoreError as exc:
            errors = [exc] * len(batch)
        except Exception as exc:  # a bug in the client library must not end the only writer
            log.exception("writing records failed unexpectedly")
            errors = [StoreUnavailable(f"{type(exc).__name__}: {exc}")] * len(batch)
        refused = [queued for queued, error in zip(batch, errors, strict=True) if error is not None]
        self.pending_bytes -= sum(queued.size for queued in batch) - sum(queued.size for queued in refused)
        self._queue.extendleft(reversed(refused))
        self._sending = None
        smaller, larger = self._batch_bytes // 2, self._batch_bytes + _FEWEST_BYTES
        self._batch_bytes = max(_FEWEST_BYTES, smaller) if refused else min(_BATCH_BYTES, larger)
        self.say(not refused, next((error for error in errors if error is not None), None))
        return not refused

    def _next_batch(self) -> list[_Queued]:
        """The oldest records: at least one, and no more than are sent at once."""
        batch = [self._queue.popleft()]
        size = batch[0].size
        while self._queue and len(batch) < _BATCH and size + self._queue[0].size <= self._batch_bytes:
            batch.append(self._queue.popleft())
            size += batch[-1].size
        return batch

    def say(self, available: bool, error: StoreError | None = None) -> None:
        """Note whether Redis takes records."""
        if available != self.available:
            if available:
                log.info("Redis takes records")
            else:
                log.warning("Redis does not take records, they wait: %s", error)
        self.available = available
