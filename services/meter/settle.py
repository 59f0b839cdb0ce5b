"""The border to the settle script, which changes totals, ledger and the mark of an exchange in one atomic step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache

from redis.exceptions import NoScriptError, RedisError

from shared.contract import booked, names, scripts
from shared.contract.booked import BOOKED, Provisional
from shared.contract.entry import Entry, encode
from shared.contract.ids import ExchangeId
from shared.runtime.errors import StoreError
from shared.runtime.store import Store, translate, translated

_DAY_SECONDS = 86_400
_HOUR_MS = 3_600_000
_NAMES = " ".join(BOOKED)


class Verdict(IntEnum):
    """The answer of the script."""

    CONFLICT = -1  # another meter has amended the provisional value: read it again
    DUPLICATE = 0  # it was final already; its records are dropped
    SETTLED = 1
    AMENDED = 2


class Settlement:
    """An exchange to settle, with its stream entries, which a final settlement deletes.

    `so_far`: the provisional value that it replaces, "" for none. The script's arguments are made here, so that an
    entry that cannot be encoded fails alone.
    """

    def __init__(
        self,
        id: ExchangeId,
        entry: Entry,
        stream_ids: Sequence[bytes],
        *,
        final: bool = True,
        so_far: str = "",
        first: tuple[str, str] | None = None,
        held: str = "",
    ) -> None:
        """`first`: key and group of the open, on which meters of 1.0 have booked it, whoever answered. `held`: why its
        records go into quarantine, "" where they do not. BadRecord where the value it replaces cannot be read."""
        self.id = id
        self.entry = entry
        self.stream_ids = stream_ids
        self.final = final
        self.held = held
        self.values = " ".join(map(str, booked.booked(entry)))
        self._so_far = so_far
        self._first = first
        self._group = booked.group(entry.provider, entry.model)
        self._moved_from = self._other_place()
        self.keys = _keys(id, entry, self._moved_from)
        self._json = encode(entry)

    def arguments(self, kept: int) -> list[str | int | bytes]:
        """The arguments of the script. `kept`: seconds that a ledger entry stays."""
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
            self.entry.team,
            self._moved_from.team if self._moved_from else "",
            *(self.stream_ids if self.final else ()),
        ]

    def replacing(self, so_far: str) -> Settlement:
        """The same, in place of another provisional value."""
        return Settlement(
            self.id,
            self.entry,
            self.stream_ids,
            final=self.final,
            so_far=so_far,
            first=self._first,
            held=self.held,
        )

    @property
    def changes(self) -> bool:
        """Whether it books anything new."""
        if self.final or not self._so_far or self._moved_from:
            return True
        return Provisional.decode(self._so_far).values[: len(BOOKED)] != booked.booked(self.entry)

    def _other_place(self) -> Provisional | None:
        """The value that it replaces, where that is booked on another key, group or team; else None. Meters of contract
        1.0 do not say where: they book on the key and group of the open."""
        if not self._so_far:
            return None
        so_far = Provisional.decode(self._so_far)
        if not so_far.key and self._first is not None:
            so_far = so_far._replace(key=self._first[0], group=self._first[1])
        moved = so_far.key and so_far[2:] != (self.entry.key, self._group, self.entry.team)
        return so_far if moved else None


class Ledger:
    """Settles batches of exchanges of one shard."""

    def __init__(self, store: Store, keep: int = 7 * _DAY_SECONDS) -> None:
        """`keep`: seconds that a ledger entry stays."""
        self._store = store
        self._keep = keep
        self._sha: str | None = None

    async def settle(self, batch: Sequence[Settlement]) -> list[Verdict | StoreError]:
        """Settle each; the verdicts are in order. Settling again changes nothing.

        StoreUnavailable where no reply came: any part of the batch may be settled.
        """
        with translated():
            sha = self._sha or await self._load()
            replies = await self._evaluate(sha, batch)
            if any(isinstance(reply, NoScriptError) for reply in replies):  # SCRIPT FLUSH, or a restarted server
                replies = await self._evaluate(await self._load(), batch)
        return [translate(reply) if isinstance(reply, Exception) else Verdict(int(reply[0])) for reply in replies]

    async def final(self, ids: Sequence[ExchangeId]) -> list[bool]:
        """Whether each of these is settled for good."""
        with translated():
            pipeline = self._store.pipeline(transaction=False)
            for id in ids:
                pipeline.getbit(names.final(id.shard, id.boot), id.n)
            return [bool(bit) for bit in await pipeline.execute()]

    async def provisional(self, shard: int, ids: Sequence[ExchangeId]) -> list[str]:
        """The provisional values of these exchanges, encoded; "" where nothing is booked."""
        if not ids:
            return []
        with translated():
            values = await self._store.hmget(names.provisional(shard), list(map(str, ids)))  # type: ignore[misc]
        return [(value or b"").decode() for value in values]

    async def keep_marks(self, shards: int, boots: Iterable[str]) -> None:
        """Extend the life of the marks of final exchanges, for boots that are known."""
        with translated():
            pipeline = self._store.pipeline(transaction=False)
            for boot in boots:
                for shard in range(shards):
                    pipeline.expire(names.final(shard, boot), names.FINAL_TTL_S)
            if len(pipeline):
                await pipeline.execute()

    async def trim(self, bounds: Mapping[int, str]) -> None:
        """Drop the ledger entries of each shard that are below this id."""
        with translated():
            pipeline = self._store.pipeline(transaction=False)
            for shard, bound in bounds.items():
                pipeline.xtrim(names.ledger(shard), minid=bound, approximate=True)
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
    hour = _hour(entry.opened_ms // _HOUR_MS)
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
        *(_team_totals(id.shard, entry.team, hour) if entry.team else ()),
        *(_team_totals(id.shard, moved_from.team, hour) if moved_from and moved_from.team else ()),
    ]


@lru_cache(64)
def _hour(since_epoch: int) -> str:
    """An hour (UTC) as keys spell it."""
    return datetime.fromtimestamp(since_epoch * _HOUR_MS / 1000, UTC).strftime("%Y%m%d%H")


def totals_of(shard: int, entry: Entry) -> tuple[str, ...]:
    """The keys of the totals that an entry is booked in: hour, day, all time; where it has a team, day and all time of
    that."""
    hour = _hour(entry.opened_ms // _HOUR_MS)
    return _totals(shard, entry.key, hour) + (_team_totals(shard, entry.team, hour) if entry.team else ())


def _totals(shard: int, key: str, hour: str) -> tuple[str, str, str]:
    """The keys of the totals of an exchange: hour, day, all time."""
    return names.hour(shard, key, hour), names.day(shard, key, hour[:8]), names.totals(shard, key)


def _team_totals(shard: int, team: str, hour: str) -> tuple[str, str]:
    """The keys of a team's totals of an exchange: day, all time."""
    return names.team_day(shard, team, hour[:8]), names.team_totals(shard, team)
