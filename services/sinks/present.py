"""A sink that begins at the present: nobody wants to hear of a week that is over because he has been configured now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from shared.books import followers, ledger, streams
from shared.books.follow import Batch
from shared.books.followers import Cursor
from shared.runtime.errors import Overtaken
from shared.runtime.store import Store


class FromNow:
    """Its cursor is in Redis; without one it begins behind the newest entry."""

    cursor_in_redis = True

    def __init__(
        self,
        store: Store,
        name: str,
        handle: Callable[[Sequence[Batch]], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """`handle`: may get an entry again, after a crash between its end and the move of the cursor."""
        self.name = name
        self._store = store
        self._handle = handle
        self._close = close

    async def cursors(self, shards: Collection[int]) -> dict[int, Cursor]:
        found = await followers.cursors(self._store, self.name, shards)
        new = [shard for shard, cursor in found.items() if cursor == Cursor()]
        if not new:
            return found
        server, now_ms = await streams.server_id(self._store), await streams.now_ms(self._store)
        for shard in new:
            last = (await ledger.extent(self._store, shard)).last
            await followers.move(self._store, self.name, shard, Cursor(), Cursor(last, now_ms, server))
        return await followers.cursors(self._store, self.name, shards)

    async def write(self, batches: Sequence[Batch]) -> None:
        if any(batch.entries for batch in batches):
            await self._handle(batches)
        for batch in batches:
            if not await followers.move(self._store, self.name, batch.shard, batch.before, batch.after):
                raise Overtaken(f"another process follows shard {batch.shard} as {self.name}")

    async def tend(self, now_ms: int) -> None:
        """Nothing is due."""

    async def close(self) -> None:
        await self._close()
