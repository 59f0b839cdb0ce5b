"""A sink in memory, which keeps rows as every sink must: the model that real ones are compared with."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shared.books.follow import Batch
from shared.books.followers import Cursor
from shared.books.ledger import LedgerEntry
from shared.runtime.errors import Overtaken, SinkUnavailable


class MemorySink:
    """Rows by exchange. `away`: it refuses what it is asked."""

    name = "memory"
    cursor_in_redis = False

    def __init__(self) -> None:
        self.at: dict[int, Cursor] = {}
        self.rows: dict[str, tuple[tuple[int, int], LedgerEntry]] = {}
        self.delivered: list[tuple[str, int]] = []
        self.away = False
        self.tended: list[int] = []
        self.closed = False

    async def cursors(self, shards: Collection[int]) -> dict[int, Cursor]:
        self._answer()
        return {shard: self.at.get(shard, Cursor()) for shard in shards}

    async def write(self, batches: Sequence[Batch]) -> None:
        self._answer()
        for batch in batches:
            if self.at.get(batch.shard, Cursor()) != batch.before:
                raise Overtaken(f"shard {batch.shard}")
        for batch in batches:
            self.at[batch.shard] = batch.after
            for entry in batch.entries:
                self._take(batch.after.epoch, entry)

    def _take(self, epoch: int, entry: LedgerEntry) -> None:
        self.delivered.append((entry.exchange_id, entry.revision))
        rank = (epoch, entry.revision)
        if entry.exchange_id not in self.rows or self.rows[entry.exchange_id][0] <= rank:
            self.rows[entry.exchange_id] = rank, entry

    async def tend(self, now_ms: int) -> None:
        self._answer()
        self.tended.append(now_ms)

    async def close(self) -> None:
        self.closed = True

    def _answer(self) -> None:
        if self.away:
            raise SinkUnavailable("the database is away")

    def amounts(self) -> dict[str, int | None]:
        """Input tokens by exchange."""
        return {id: entry.entry.input_tokens for id, (_, entry) in self.rows.items()}
