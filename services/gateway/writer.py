"""The one writer to Redis of a gateway process: records queue here and leave in pipelined batches.

While Redis is away records wait in memory and are sent again until they are taken. A reply that was lost means a
record is sent twice; (`exchange_id`, `seq`) makes that harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from shared import streams
from shared.errors import StoreError, StoreUnavailable
from shared.store import Store
from shared.tail import Fields

# Records wait this long for others to share their round trip; an open, for which a client waits, does not.
_GATHER_SECONDS = 0.025
_BATCH = 512
_PROBE_SECONDS = 1.0
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)

log = logging.getLogger(__name__)


class OpenUndecided(StoreUnavailable):
    """A record was given up on that may be in Redis, or may get there yet: it stays queued until it certainly is."""


class _Queued:
    __slots__ = ("fields", "sent", "shard", "size", "taken")

    def __init__(self, shard: int, fields: Fields, taken: asyncio.Future[None] | None) -> None:
        self.shard = shard
        self.fields = fields
        self.taken = taken
        self.sent = False  # at least once, with or without an answer
        self.size = len(fields[b"r"])


class RecordWriter:
    """Queue of tail records. `available` says whether Redis took the last batch."""

    def __init__(self, store: Store) -> None:
        self.available = False
        self.pending_bytes = 0
        self._store = store
        self._queue: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False

    def put(self, shard: int, fields: Fields) -> None:
        """Queue a record. Never waits, never fails."""
        self._push(_Queued(shard, fields, None))

    async def put_durable(self, shard: int, fields: Fields, timeout: float) -> None:
        """Queue a record and wait until Redis has it.

        StoreUnavailable at once where Redis took no records lately, and after `timeout` seconds; the record is then
        forgotten. But OpenUndecided where it was sent already: nobody can tell whether Redis has it, so it will be
        sent until it has.
        """
        if not self.available:
            raise StoreUnavailable("Redis takes no records")
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queued = _Queued(shard, fields, taken)
        self._push(queued)
        self._urgent.set()
        timer = asyncio.get_running_loop().call_later(timeout, self._give_up, queued)
        try:
            await taken
        finally:
            timer.cancel()

    def _give_up(self, queued: _Queued) -> None:
        if queued.taken is None or queued.taken.done():
            return
        if queued.sent:
            queued.taken.set_exception(OpenUndecided("Redis has not answered in time"))
            return
        self._queue.remove(queued)
        self.pending_bytes -= queued.size
        queued.taken.set_exception(StoreUnavailable("Redis takes no records"))

    def _push(self, queued: _Queued) -> None:
        self._queue.append(queued)
        self.pending_bytes += queued.size
        self._wake.set()

    async def run(self) -> None:
        """Send until `close`; then send what is left and return."""
        await self._probe()
        failures = 0
        while self._queue or not self._closing:
            if not self._queue:
                await self._idle()
                continue
            if not self._closing:
                await self._gather()
            failures = 0 if await self._send() else failures + 1
            if failures:
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    async def close(self, run: asyncio.Task[None], timeout: float) -> None:
        """Let `run` empty the queue, for at most `timeout` seconds."""
        self._closing = True
        self._wake.set()
        self._urgent.set()
        await asyncio.wait({run}, timeout=timeout)
        if not run.done():
            log.error("Redis is away at shutdown: %d records of usage were not delivered", len(self._queue))
            run.cancel()

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(_GATHER_SECONDS):
                await self._urgent.wait()
        except TimeoutError:
            pass
        self._urgent.clear()

    async def _idle(self) -> None:
        """Wait for a record; meanwhile look whether Redis is there."""
        self._wake.clear()
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            await self._probe()

    async def _probe(self) -> None:
        try:
            await streams.ping(self._store)
        except StoreError as exc:
            self._say(False, exc)
        else:
            self._say(True)

    async def _send(self) -> bool:
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        for queued in batch:
            queued.sent = True
        errors: Sequence[StoreError | None]
        try:
            errors = await streams.append(self._store, [(queued.shard, queued.fields) for queued in batch])
        except StoreError as exc:
            errors = [exc] * len(batch)
        except Exception as exc:  # a bug in the client library must not end the only writer
            log.exception("writing records failed in a way nobody expected")
            errors = [StoreUnavailable(f"{type(exc).__name__}: {exc}")] * len(batch)
        refused = [queued for queued, error in zip(batch, errors, strict=True) if error is not None]
        for queued, error in zip(batch, errors, strict=True):
            if error is None:
                self.pending_bytes -= queued.size
                if queued.taken is not None and not queued.taken.done():
                    queued.taken.set_result(None)
        self._queue.extendleft(reversed(refused))
        self._say(not refused, next((error for error in errors if error is not None), None))
        return not refused

    def _say(self, available: bool, error: StoreError | None = None) -> None:
        if available != self.available:
            if available:
                log.info("Redis takes records")
            else:
                log.warning("Redis takes no records, they wait: %s", error)
        self.available = available
