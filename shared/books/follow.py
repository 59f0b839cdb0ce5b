"""Following the ledger: entries are handed to a sink in the order of settling, each at least once.

A sink keeps its own cursor for each shard and moves it in the same step in which it writes, or after. It knows an entry
by (`exchange_id`, `revision`): of two deliveries of one exchange the one with the higher (`epoch`, `revision`) counts,
and on equal ones the later.

The epoch is higher after every change of Redis's server. A server that took over may have lost its last seconds, and
the same exchanges are settled again, perhaps with fewer revisions: so the follower goes back, and what it delivers from
then on replaces what it delivered before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from shared.books import followers, ledger, streams
from shared.books.followers import Cursor, Gap
from shared.books.ledger import LedgerEntry, Page, order
from shared.runtime.errors import Overtaken
from shared.runtime.store import Store

_LOOK_SECONDS = 1.0
_NOTE_SECONDS = 5.0

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """The next entries of one shard, and the cursor before and behind them."""

    shard: int
    before: Cursor
    after: Cursor
    entries: Sequence[LedgerEntry]


class Sink(Protocol):
    """What a follower writes to. SinkError where it is away or refuses."""

    name: str
    cursor_in_redis: bool  # the hash that says how the follower does is its cursor, too

    async def cursors(self, shards: Collection[int]) -> dict[int, Cursor]:
        """Where it is in each of these shards; `Cursor()` where it has never written anything."""

    async def write(self, batches: Sequence[Batch]) -> None:
        """Write the entries, and move the cursors. Overtaken where one of them is not what it was before."""

    async def tend(self, now_ms: int) -> None:
        """What is due now and then, by Redis's clock: its retention. One process at a time does it."""

    async def close(self) -> None:
        """Give up what it holds open."""


class InRedis:
    """A sink that writes to Redis: its cursor is there, and moves once everything of a batch is handled."""

    cursor_in_redis = True

    def __init__(self, store: Store, name: str, handle: Callable[[Batch], Awaitable[None]]) -> None:
        """`handle`: may get an entry again, after a crash between its end and the move of the cursor."""
        self.name = name
        self._store = store
        self._handle = handle

    async def cursors(self, shards: Collection[int]) -> dict[int, Cursor]:
        return await followers.cursors(self._store, self.name, shards)

    async def write(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            await self._handle(batch)
            if not await followers.move(self._store, self.name, batch.shard, batch.before, batch.after):
                raise Overtaken(f"another process follows shard {batch.shard} as {self.name}")

    async def tend(self, now_ms: int) -> None:
        """Nothing is due."""

    async def close(self) -> None:
        """Its Redis is the caller's."""


class Follower:
    """Reads the ledger for one sink. `round` is called again and again, by one task."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        *,
        back_ms: int,
        count: int = 200,
        now_ms: Callable[[Store], Awaitable[int]] = streams.now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`back_ms`: how far it goes back after a change of the server; `count`: most entries of a shard at once;
        `now_ms`: Redis's clock."""
        self._store = store
        self._sink = sink
        self._back_ms = back_ms
        self._count = count
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._cursors: dict[int, Cursor] = {}
        self._server = ""
        self._looked: float | None = None
        self._noted: dict[int, float] = {}

    def forget(self) -> None:
        """Read the cursors anew: another process may have moved them."""
        self._cursors.clear()
        self._looked = None

    async def round(self, shards: Collection[int]) -> int:
        """Read and write once, in these shards. Returns how many entries were read.

        StoreError or SinkError where Redis or the sink is away; then `forget`, and try again.
        """
        self._cursors = {shard: cursor for shard, cursor in self._cursors.items() if shard in shards}
        missing = [shard for shard in shards if shard not in self._cursors]
        if missing:
            self._cursors |= await self._sink.cursors(missing)
        await self._look()
        pages = await ledger.pages(self._store, {s: c.position for s, c in self._cursors.items()}, self._count)
        batches = []
        for shard, page in pages.items():
            before = self._cursors[shard]
            if not page.last or page.last == before.position:
                if not page.there and before.position and await self._ahead(shard, before):
                    await self._go_back([shard])  # a Redis without its data, whoever took it away
                continue
            await self._notice(shard, before, page)
            batches.append(Batch(shard, before, before._replace(position=page.last), page.entries))
            await asyncio.sleep(0)  # other tasks of the process go on
        if batches:
            await self._write(batches)
        await self._note({batch.shard for batch in batches})
        return sum(len(batch.entries) for batch in batches)

    async def _write(self, batches: Sequence[Batch]) -> None:
        await self._sink.write(batches)
        self._cursors |= {batch.shard: batch.after for batch in batches}

    async def _look(self) -> None:
        """Find out whether the server has changed, and go back in the shards that were read from another one."""
        now = self._monotonic()
        if self._looked is None or now - self._looked >= _LOOK_SECONDS:
            self._server = await streams.server_id(self._store)
            self._looked = now
        await self._go_back([shard for shard, cursor in self._cursors.items() if cursor.server != self._server])

    async def _go_back(self, shards: Collection[int]) -> None:
        batches = []
        for shard in shards:
            cursor, extent = self._cursors[shard], await ledger.extent(self._store, shard)
            epoch = max(cursor.epoch + 1, await self._now_ms(self._store))
            position = cursor.position
            if position:
                if extent.trimmed and order(extent.first) > order(position) and "-" in position:
                    await self._lost(shard, position, extent.first)
                newest = min(order(position)[0], order(extent.last)[0])
                position = str(max(0, newest - self._back_ms))
                log.info("%s: shard %d is read again from %s on: Redis has changed", self._sink.name, shard, position)
            elif extent.trimmed:
                await followers.begun(self._store, self._sink.name, shard, order(extent.first)[0])
            batches.append(Batch(shard, cursor, Cursor(position, epoch, self._server), []))
        if batches:
            await self._write(batches)

    async def _ahead(self, shard: int, cursor: Cursor) -> bool:
        """Whether a cursor is beyond everything that Redis has ever had. A time is not the id of an entry."""
        last = (await ledger.extent(self._store, shard)).last
        return "-" in cursor.position and order(cursor.position) > order(last)

    async def _notice(self, shard: int, before: Cursor, page: Page) -> None:
        """Say what this sink will never get: entries that were trimmed before it read them, or that nobody can read."""
        if "-" in before.position and not page.there:
            extent = await ledger.extent(self._store, shard)
            if extent.trimmed and order(extent.first) > order(before.position):
                await self._lost(shard, before.position, extent.first)
        for id in page.unreadable:
            log.error("%s: the ledger's entry %s of shard %d cannot be read", self._sink.name, id, shard)
        if page.unreadable:
            await followers.skipped(self._store, self._sink.name, shard, len(page.unreadable))

    async def _lost(self, shard: int, position: str, first: str) -> None:
        gap = Gap(order(position)[0], order(first)[0])
        log.error(
            "%s: the ledger of shard %d was trimmed before it was read: what was settled from %d to %d (ms) is missing",
            *(self._sink.name, shard, *gap),
        )
        await followers.lost(self._store, self._sink.name, shard, gap)

    async def _note(self, moved: Collection[int]) -> None:
        """Say in Redis how far it is: after every move, and now and then."""
        now = self._monotonic()
        due: Mapping[int, Cursor] = {
            shard: cursor
            for shard, cursor in self._cursors.items()
            if shard in moved or now - self._noted.get(shard, float("-inf")) >= _NOTE_SECONDS
        }
        if due:
            await followers.note(
                self._store, self._sink.name, due, await self._now_ms(self._store), move=not self._sink.cursor_in_redis
            )
            self._noted |= dict.fromkeys(due, now)
