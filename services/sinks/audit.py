"""Compares the database with Redis, for what both have: rows with the ledger, usage with rows and with the days."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.sinks import merge, postgres, sqlite
from services.sinks.database import Database
from services.sinks.rows import COLUMNS, row, stored
from services.sinks.sql import NAME
from services.sinks.tables import CURSORS, EXCHANGES, GROUP, KEPT, USAGE
from shared.books import ledger, reports
from shared.books.books import Books
from shared.books.ledger import Extent, LedgerEntry, order
from shared.books.periods import DAY, Range
from shared.contract import names
from shared.contract.booked import BOOKED

Counts = dict[str, int]
Group = tuple[str, str, str, str]  # day, key, provider, model

# What is compared of a row. JSON is left out, because a database may write it in its own way.
_COMPARED = ("revision", "final", *(c.name for c in EXCHANGES.columns if isinstance(c.type, (sa.Text, sa.BigInteger))))
_LEFT_OUT = ("epoch",)
_NAMES = tuple(name for name in dict.fromkeys(_COMPARED) if name not in _LEFT_OUT)
_PLACES = [COLUMNS.index(name) for name in _NAMES]
_MOST = 50  # differences of one kind that are named


@dataclass(slots=True)
class Compared:
    """`behind`: entries that the follower has not read yet; they are not compared."""

    exchanges: int = 0
    behind: int = 0
    differences: list[str] = field(default_factory=list)


class _Snapshot(NamedTuple):
    """What the database says at one moment."""

    positions: Mapping[int, str]
    since: str  # rows of exchanges that were opened before are gone; "" where none are
    rows: Mapping[str, tuple[int, str, tuple[Any, ...]]]  # by exchange: shard, when settled, and what is compared
    days: Mapping[Group, Counts]
    first_day: datetime | None  # of the first settlement that there is a row of
    unequal: list[str]  # groups whose usage is not the sum of their rows


async def compare(books: Books, database: Database) -> Compared:
    """Compare now. Running traffic is no difference: what the follower has not read is left out."""
    found = Compared()
    extents = {shard: await ledger.extent(books.store, shard) for shard in range(books.shards)}
    oldest = min((order(e.first)[0] for e in extents.values() if e.first != ledger.NOTHING), default=0)
    said = await asyncio.to_thread(_read, database, oldest)
    found.differences += [f"usage_hourly {group} is not the sum of its rows" for group in said.unequal[:_MOST]]
    days = await _days(books, said, complete=not any(extent.trimmed for extent in extents.values()))
    unread: set[tuple[str, str]] = set()
    for shard, extent in extents.items():
        await _compare_shard(books, shard, extent, said, found, unread)
    found.differences += _unequal_days(days, said.days, unread)
    return found


async def _compare_shard(
    books: Books, shard: int, extent: Extent, said: _Snapshot, found: Compared, unread: set[tuple[str, str]]
) -> None:
    position = order(said.positions.get(shard, ""))
    latest: dict[str, LedgerEntry] = {}
    async for entry in ledger.read(books.store, shard):
        if order(entry.id) > position:
            found.behind += 1
            day = f"{datetime.fromtimestamp(entry.entry.opened_ms / 1000, UTC):%Y-%m-%d}"
            unread.update((day, key) for key in (entry.entry.key, entry.moved.key if entry.moved else entry.entry.key))
        else:
            latest[entry.exchange_id] = entry
    differences: list[str] = []
    for id, entry in latest.items():
        wanted = row(entry, 0)
        if wanted[0] < said.since:
            continue
        found.exchanges += 1
        there = said.rows.get(id)
        differences += [f"{id}: the database has no row"] if there is None else _differences(id, wanted, there[2])
    first = _text_of(order(extent.first)[0])
    for id, (where, settled_at, _) in said.rows.items():
        if where == shard and id not in latest and settled_at > first and extent.first != ledger.NOTHING:
            differences.append(f"{id}: the database has a row, the ledger has no entry")
    found.differences += differences[:_MOST]


def _differences(id: str, wanted: tuple[Any, ...], there: tuple[Any, ...]) -> Iterator[str]:
    for name, place, held in zip(_NAMES, _PLACES, there, strict=True):
        if held != wanted[place]:
            yield f"{id}: {name} is {held!r} in the database, {wanted[place]!r} in the ledger"


def _text_of(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S.%f}"


def _read(database: Database, oldest_ms: int) -> _Snapshot:
    with database.read() as connection:
        dialect: Any = postgres if database.postgres else sqlite
        since = connection.scalar(sa.select(KEPT.c.since).where(KEPT.c.what == "exchanges"))
        first = connection.scalar(sa.select(sa.func.min(EXCHANGES.c.settled_at)))
        return _Snapshot(
            {one.shard: one.position for one in connection.execute(sa.select(CURSORS).where(CURSORS.c.name == NAME))},
            "" if since is None else f"{since:%Y-%m-%d %H:%M:%S.%f}",
            _rows(connection, datetime.fromtimestamp(oldest_ms / 1000, UTC)),
            _usage_by_day(connection),
            None if first is None else first.replace(tzinfo=UTC),
            _not_the_sum(connection, dialect.HOUR, since),
        )


def _rows(connection: Connection, oldest: datetime) -> dict[str, tuple[int, str, tuple[Any, ...]]]:
    columns = [EXCHANGES.c[name] for name in ("exchange_id", "shard", "settled_at", *_NAMES)]
    query = sa.select(*columns).where(EXCHANGES.c.settled_at >= oldest)
    return {
        one[0]: (one[1], f"{one[2]:%Y-%m-%d %H:%M:%S.%f}", tuple(one[3:]))
        for one in connection.execute(query.execution_options(yield_per=5000))
    }


def _usage_by_day(connection: Connection) -> dict[Group, Counts]:
    found: dict[Group, Counts] = defaultdict(lambda: dict.fromkeys(BOOKED, 0))
    for one in connection.execute(sa.select(USAGE)).mappings():
        counts = found[_group(f"{one['hour']:%Y-%m-%d}", one["key"], one["provider"], one["model"])]
        reports.add(counts, {name: int(one[name]) for name in BOOKED})
    return found


def _group(day: str, key: str, provider: str, model: str) -> Group:
    """As it is compared: callers choose names of models, and either side has some that it holds in another way."""
    return day, key, stored("provider", provider), stored("model", model.replace(names.FIELD_SEPARATOR, " "))


def _not_the_sum(connection: Connection, hour: str, since: datetime | None) -> list[str]:
    """Groups of usage that the rows do not add up to, from the first hour on whose rows are all there."""
    group = ("hour", *GROUP)
    sums = {
        tuple(one[name] for name in group): one for one in connection.exec_driver_sql(merge.summed(hour)).mappings()
    }
    wanted = {(str(key[0])[:19], *key[1:]): [int(one[name]) for name in BOOKED] for key, one in sums.items()}
    stored = {
        (f"{one['hour']:%Y-%m-%d %H:%M:%S}", *(one[name] for name in GROUP)): [int(one[name]) for name in BOOKED]
        for one in connection.execute(sa.select(USAGE)).mappings()
    }
    whole = "" if since is None else f"{since + timedelta(hours=1):%Y-%m-%d %H:%M:%S}"
    nothing = [0] * len(BOOKED)
    return [
        " ".join(key)
        for key in sorted(stored.keys() | wanted.keys())
        if key[0] >= whole and stored.get(key, nothing) != wanted.get(key, nothing)
    ]


async def _days(books: Books, said: _Snapshot, *, complete: bool) -> dict[Group, Counts]:
    """The totals of Redis by day, from the first day on that the database has all of."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    oldest = today - timedelta(seconds=names.DAY_TTL_S) + DAY
    known = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day, *_ in said.days]
    first = min(known, default=today) if complete else None
    if first is None and said.first_day is not None:
        first = said.first_day.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    found: dict[Group, Counts] = defaultdict(reports.no_counters)
    if first is None:
        return found
    buckets = Range(max(first, oldest), today + 2 * DAY, daily=True).buckets()
    async for line in reports.lines(books, None, buckets):
        day = f"{line.bucket.start:%Y-%m-%d}"
        reports.add(found[_group(day, line.key, line.provider, line.model)], line.counters)
    begun = f"{max(first, oldest):%Y-%m-%d}"
    for group in said.days:
        if group[0] >= begun:
            found.setdefault(group, reports.no_counters())
    return found


def _unequal_days(
    days: Mapping[Group, Counts], usage: Mapping[Group, Counts], unread: Iterable[tuple[str, str]]
) -> Iterator[str]:
    skipped = set(unread)
    for group, counts in sorted(days.items()):
        there = usage.get(group, reports.no_counters())
        differing = [name for name in BOOKED if counts[name] != there[name] and not _of_old(name, counts)]
        if differing and group[:2] not in skipped:
            name = differing[0]
            yield f"{' '.join(group)}: {name} is {there[name]} in the database, {counts[name]} in Redis"


def _of_old(name: str, counts: Counts) -> bool:
    """Billionths were not booked by earlier meters; millionths are compared."""
    return name == "cost_nanousd" and counts["cost_nanousd"] != counts["cost_microusd"] * 1000
