"""The border to the settle script: totals, ledger and the mark of an exchange change in one atomic step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from importlib.resources import files

from redis.exceptions import NoScriptError, RedisError

from shared.books import totals
from shared.contract import names
from shared.contract.entry import Entry, encode
from shared.contract.ids import ExchangeId
from shared.contract.usage import COUNTERS, Source
from shared.runtime.errors import StoreError
from shared.runtime.store import Store, translate, translated

_SCRIPT = files("shared.contract").joinpath("lua", "settle.lua").read_text()
_DAY_SECONDS = 86_400
_BOOKED = " ".join(totals.BOOKED)


class Verdict(IntEnum):
    """What the script did."""

    CONFLICT = -1  # another worker has amended the provisional value: read it again
    DUPLICATE = 0  # was final already; the records are dropped
    SETTLED = 1
    AMENDED = 2


class Settlement:
    """An exchange to settle, with the stream entries that are done with it if that is for good.

    `booked` is the provisional value this one replaces, "" for none. What the script will be given is made here, so
    that an entry that cannot be written fails alone.
    """

    def __init__(
        self, id: ExchangeId, entry: Entry, stream_ids: Sequence[bytes], *, final: bool = True, booked: str = ""
    ) -> None:
        self.id = id
        self.entry = entry
        self.stream_ids = stream_ids
        self.final = final
        self.values = " ".join(map(str, _values(entry)))
        self.keys = _keys(id, entry)
        self._booked = booked
        self._group = totals.group(entry.provider, entry.model)
        self._json = encode(entry)

    def arguments(self, kept: int) -> list[str | int | bytes]:
        """What the script is given. `kept`: seconds a ledger entry stays."""
        return [
            names.GROUP,
            self.id.n,
            str(self.id),
            "1" if self.final else "0",
            self._booked,
            self._group,
            _BOOKED,
            self.values,
            self._json,
            names.FINAL_TTL_S,
            names.HOUR_TTL_S,
            names.DAY_TTL_S,
            kept + _DAY_SECONDS,
            int(self.entry.drift),
            self.entry.key,
            *(self.stream_ids if self.final else ()),
        ]

    def replacing(self, booked: str) -> Settlement:
        """The same, in place of another provisional value."""
        return Settlement(self.id, self.entry, self.stream_ids, final=self.final, booked=booked)

    def changes(self, booked: str) -> bool:
        """Whether it would book anything new over that provisional value."""
        return self.final or booked.partition(" ")[2] != self.values


class Ledger:
    """Settles batches of exchanges of one shard."""

    def __init__(self, store: Store, keep: int = 7 * _DAY_SECONDS) -> None:
        """`keep`: seconds an entry stays."""
        self._store = store
        self._keep = keep
        self._sha: str | None = None

    async def settle(self, batch: Sequence[Settlement]) -> list[Verdict | StoreError]:
        """Settle each; the answers are in order. Settling again what was settled changes nothing.

        StoreUnavailable where no reply came: any part of the batch may have been settled.
        """
        with translated():
            sha = self._sha or await self._load()
            replies = await self._evaluate(sha, batch)
            if any(isinstance(reply, NoScriptError) for reply in replies):  # SCRIPT FLUSH, or a restarted server
                replies = await self._evaluate(await self._load(), batch)
        return [translate(reply) if isinstance(reply, Exception) else Verdict(int(reply[0])) for reply in replies]

    async def final(self, ids: Sequence[ExchangeId]) -> list[bool]:
        """Which of these are settled for good."""
        with translated():
            pipeline = self._store.pipeline(transaction=False)
            for id in ids:
                pipeline.getbit(names.final(id.shard, id.boot), id.n)
            return [bool(bit) for bit in await pipeline.execute()]

    async def provisional(self, shard: int, ids: Sequence[ExchangeId]) -> list[str]:
        """What is booked for these exchanges so far, in the script's own notation; "" for nothing."""
        if not ids:
            return []
        with translated():
            values = await self._store.hmget(names.provisional(shard), list(map(str, ids)))  # type: ignore[misc]
        return [(value or b"").decode() for value in values]

    async def keep_marks(self, shards: int, boots: Iterable[str]) -> None:
        """Let the marks of final exchanges live as long as their boots are known."""
        with translated():
            pipeline = self._store.pipeline(transaction=False)
            for boot in boots:
                for shard in range(shards):
                    pipeline.expire(names.final(shard, boot), names.FINAL_TTL_S)
            if len(pipeline):
                await pipeline.execute()

    async def trim(self, shards: int, older_than_ms: int) -> None:
        """Drop ledger entries from before this time (UTC, milliseconds)."""
        with translated():
            pipeline = self._store.pipeline(transaction=False)
            for shard in range(shards):
                pipeline.xtrim(names.ledger(shard), minid=older_than_ms, approximate=True)
            await pipeline.execute()

    async def _load(self) -> str:
        self._sha = await self._store.script_load(_SCRIPT)
        return self._sha

    async def _evaluate(self, sha: str, batch: Sequence[Settlement]) -> list[list[int] | RedisError]:
        pipeline = self._store.pipeline(transaction=False)
        for settlement in batch:
            keys = settlement.keys
            # Not `evalsha`, which redis-py keeps out of a cluster's pipelines; all keys are in one slot.
            pipeline.execute_command("EVALSHA", sha, len(keys), *keys, *settlement.arguments(self._keep))
        return await pipeline.execute(raise_on_error=False)


def _keys(id: ExchangeId, entry: Entry) -> list[str]:
    hour = datetime.fromtimestamp(entry.opened_ms / 1000, UTC).strftime("%Y%m%d%H")
    day = hour[:8]
    return [
        names.tail(id.shard),
        names.final(id.shard, id.boot),
        names.provisional(id.shard),
        names.hour(id.shard, entry.key, hour),
        names.day(id.shard, entry.key, day),
        names.totals(id.shard, entry.key),
        names.ledger(id.shard),
        names.stats(id.shard),
        names.entries(id.shard, id.boot, id.n),
        names.active(id.shard, day),
    ]


def _values(entry: Entry) -> list[int]:
    """In the order of `totals.BOOKED`; what is unknown adds nothing."""
    counters = [getattr(entry, name) or 0 for name in COUNTERS]
    sources = [int(entry.source == source) for source in (Source.ESTIMATED, Source.PARTIAL)]
    return [1, *counters, *sources, int(entry.cost_microusd is None), entry.cost_microusd or 0]
