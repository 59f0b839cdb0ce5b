"""What a scope has used so far, from the totals, with the entry of each shard up to which that is so.

The totals of one key are read together with the end of the ledger, in one step. Of several keys each is read at a time
of its own, and the entries in between are added (decision 139).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from shared.books import ledger, limit_changes, scripted, totals
from shared.books.books import Books
from shared.books.ledger import order
from shared.books.scripted import Call
from shared.contract import booked, limits, names, scripts
from shared.contract.booked import BOOKED
from shared.contract.limits import Period
from shared.runtime.store import Store, translated

_AT_ONCE = 64  # keys of which all days are read in one pipeline


class Used(NamedTuple):
    """Nano-dollars and tokens."""

    nanousd: int = 0
    tokens: int = 0

    def plus(self, nanousd: int, tokens: int) -> Used:
        return Used(self.nanousd + nanousd, self.tokens + tokens)


class Snapshot(NamedTuple):
    """What an owner has used up to an entry of each shard: by pattern and period, as scripts spell periods."""

    cursors: dict[int, str]
    used: dict[str, dict[str, Used]]


async def take(books: Books, owner: str, patterns: Sequence[str], now_ms: int) -> Snapshot:
    """A snapshot. Days before this week and this month are only in what was used of all time."""
    found = Snapshot({}, {pattern: defaultdict(Used) for pattern in patterns})
    days = _days(limits.period(now_ms))
    for shard in range(books.shards):
        found.cursors[shard] = await _add(books.store, shard, owner, days, found.used)
    return found


def _days(now: Period) -> list[int]:
    """Today, the days before it in its week and month, and tomorrow, since clocks differ."""
    return [
        day
        for day in range(now.day - 31, now.day + 2)
        if (there := limits.period(day * limits.DAY_MS)).week >= now.week or there.month >= now.month
    ]


async def _add(store: Store, shard: int, owner: str, days: Sequence[int], used: Mapping[str, dict[str, Used]]) -> str:
    """Add what is booked in a shard; returns the id of its last entry that is in it."""
    kind, _, name = owner.partition(":")
    ever, daily = (names.team_totals, names.team_day) if kind == "team" else (names.totals, names.day)
    alone = owner != limits.EVERYTHING
    since = ledger.NOTHING if alone else (await ledger.extent(store, shard)).last
    places = [name] if alone else await _keys(store)
    read: dict[str, str] = {}  # by place, the last entry that its totals have
    for first in range(0, len(places), _AT_ONCE):
        batch = places[first : first + _AT_ONCE]
        stamps = [datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y%m%d") for day in days]
        calls: list[Call] = []
        for place in batch:
            keys = [names.ledger(shard), ever(shard, place), *(daily(shard, place, stamp) for stamp in stamps)]
            calls.append((scripts.LIMIT_SNAPSHOT, keys, []))
        for place, (id, *hashes) in zip(batch, await scripted.evaluate(store, calls), strict=True):
            read[place] = id.decode()
            _count(hashes, days, used)
    if alone:
        return read[name]
    return await _between(store, shard, since, read, used)


async def _keys(store: Store) -> list[str]:
    with translated():
        return [raw.decode() for raw in await store.zrange(names.KEYS, 0, -1)]


def _count(hashes: Iterable[list[bytes]], days: Sequence[int], used: Mapping[str, dict[str, Used]]) -> None:
    """Add hashes of totals: of all time first, then of each day."""
    for day, flat in zip((None, *days), hashes, strict=True):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        for (provider, model), counters in totals.parsed(fields).items():
            amounts = dict.fromkeys(BOOKED, 0) | counters
            for pattern, periods in used.items():
                if limits.matches(pattern, provider, model):
                    for field in ("e",) if day is None else _fields(limits.period(day * limits.DAY_MS))[:3]:
                        was = periods.get(field, Used())
                        periods[field] = was.plus(booked.cost_nanousd(amounts), amounts["total_tokens"])


def _fields(at: Period) -> tuple[str, str, str, str]:
    return f"d:{at.day}", f"w:{at.week}", f"m:{at.month}", "e"


async def _between(
    store: Store, shard: int, since: str, read: Mapping[str, str], used: Mapping[str, dict[str, Used]]
) -> str:
    """Add the entries that were settled while the totals of several keys were read. Returns the last of them."""
    until = since
    async for entry in ledger.read(store, shard, after=since):
        until = entry.id
        for change in limit_changes.changes(entry):
            if order(entry.id) <= order(read.get(change.key, since)):
                continue
            for pattern, periods in used.items():
                if limits.matches(pattern, change.provider, change.model):
                    for field in _fields(limits.period(entry.entry.opened_ms)):
                        periods[field] = periods.get(field, Used()).plus(change.nanousd, change.tokens)
    return until
