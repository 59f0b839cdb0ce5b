"""The border to the settle script: totals, ledger and the mark of an exchange change in one atomic step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum

from redis.exceptions import NoScriptError, RedisError

from shared.contract import booked, names, scripts
from shared.contract.booked import BOOKED, Provisional
from shared.contract.entry import Entry, encode
from shared.contract.ids import ExchangeId
from shared.runtime.errors import StoreError
from shared.runtime.store import Store, translate, translated

_DAY_SECONDS = 86_400
_NAMES = " ".join(BOOKED)


class Verdict(IntEnum):
    """What the script did."""

    CONFLICT = -1  # another worker has amended the provisional value: read it again
    DUPLICATE = 0  # was final already; the records are dropped
    SETTLED = 1
    AMENDED = 2


class Settlement:
    """An exchange to settle, with the stream entries that are done with it if that is for good.

    `so_far` is the provisional value this one replaces, "" for none. What the script will be given is made here, so
    that an entry that cannot be written fails alone.
    """

    def __init__(
        self, id: ExchangeId, entry: Entry, stream_ids: Sequence[bytes], *, final: bool = True, so_far: str = ""
    ) -> None:
        """BadRecord where the value it replaces cannot be read."""
        self.id = id
        self.entry = entry
        self.stream_ids = stream_ids
        self.final = final
        self.values = " ".join(map(str, booked.booked(entry)))
        self._so_far = so_far
        self._group = booked.group(entry.provider, entry.model)
        self._moved_from = self._other_place()
        self.keys = _keys(id, entry, self._moved_from)
        self._json = encode(entry)

    def arguments(self, kept: int) -> list[str | int | bytes]:
        """What the script is given. `kept`: seconds a ledger entry stays."""
        return [
            names.GROUP,
            self.id.n,
            str(self.id),
            "1" if self.final else "0",
            self._so_far,
            self._group,
            _NAMES,
            self.values,
            self._json,
            names.FINAL_TTL_S,
            names.HOUR_TTL_S,
            names.DAY_TTL_S,
            kept + _DAY_SECONDS,
            int(self.entry.drift),
            self.entry.key,
            self._moved_from.group if self._moved_from else "",
            *(self.stream_ids if self.final else ()),
        ]

    def replacing(self, so_far: str) -> Settlement:
        """The same, in place of another provisional value."""
        return Settlement(self.id, self.entry, self.stream_ids, final=self.final, so_far=so_far)

    @property
    def changes(self) -> bool:
        """Whether it books anything that is not booked so far."""
        if self.final or not self._so_far or self._moved_from:
            return True
        return Provisional.decode(self._so_far).values != booked.booked(self.entry)

    def _other_place(self) -> Provisional | None:
        """The value it replaces, where that is booked on another key or group. One that does not say is on this."""
        so_far = Provisional.decode(self._so_far) if self._so_far else None
        moved = so_far is not None and so_far.key and (so_far.key, so_far.group) != (self.entry.key, self._group)
        return so_far if moved else None


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
        self._sha = await self._store.script_load(scripts.SETTLE)
        return self._sha

    async def _evaluate(self, sha: str, batch: Sequence[Settlement]) -> list[list[int] | RedisError]:
        pipeline = self._store.pipeline(transaction=False)
        for settlement in batch:
            keys = settlement.keys
            # Not `evalsha`, which redis-py keeps out of a cluster's pipelines; all keys are in one slot.
            pipeline.execute_command("EVALSHA", sha, len(keys), *keys, *settlement.arguments(self._keep))
        return await pipeline.execute(raise_on_error=False)


def _keys(id: ExchangeId, entry: Entry, moved_from: Provisional | None) -> list[str]:
    hour = datetime.fromtimestamp(entry.opened_ms / 1000, UTC).strftime("%Y%m%d%H")
    return [
        names.tail(id.shard),
        names.final(id.shard, id.boot),
        names.provisional(id.shard),
        *_totals(id.shard, entry.key, hour),
        names.ledger(id.shard),
        names.stats(id.shard),
        names.entries(id.shard, id.boot, id.n),
        names.active(id.shard, hour[:8]),
        *(_totals(id.shard, moved_from.key, hour) if moved_from else ()),
    ]


def _totals(shard: int, key: str, hour: str) -> tuple[str, str, str]:
    """Where an exchange is added up: hour, day, since ever."""
    return names.hour(shard, key, hour), names.day(shard, key, hour[:8]), names.totals(shard, key)
