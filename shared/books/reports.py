"""Usage reports: totals of a range of time and of some keys, by key, provider and model."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from shared.books import totals
from shared.books.books import Books
from shared.books.periods import Bucket, Range
from shared.contract import names
from shared.contract.booked import BOOKED
from shared.runtime.store import translated

_AT_ONCE = 256  # hashes; other tasks run between two batches


class Line(NamedTuple):
    """The counters of one key, provider and model in one hour or day and one shard."""

    key: str
    bucket: Bucket
    provider: str
    model: str
    counters: dict[str, int]


class KeyUsage(NamedTuple):
    """Tokens of one key: of all time, and of the current day, week and month in UTC."""

    ever: int
    daily: int
    weekly: int
    monthly: int


Between = Callable[[], Awaitable[None]]


def no_counters() -> dict[str, int]:
    return dict.fromkeys(BOOKED, 0)


def add(counters: dict[str, int], more: dict[str, int]) -> None:
    """Add `more` to `counters`."""
    for name, value in more.items():
        counters[name] += value


async def lines(
    books: Books, keys: Sequence[str] | None, buckets: Iterable[Bucket], between: Between | None = None
) -> AsyncIterator[Line]:
    """All lines of these buckets. `keys`: hashes; None for every key on which something was booked.

    `between` is awaited between two batches; an exception of it ends the report.
    """
    for bucket in buckets:
        places = await _active(books, bucket, keys)
        while batch := list(islice(places, _AT_ONCE)):
            with translated():
                pipeline = books.store.pipeline(transaction=False)
                for key, at, shard in batch:
                    name = names.day if at.whole_day else names.hour
                    pipeline.hgetall(name(shard, key, at.stamp))
                replies = await pipeline.execute()
            for (key, at, _), fields in zip(batch, replies, strict=True):
                for (provider, model), counters in totals.parsed(fields).items():
                    yield Line(key, at, provider, model, counters)
            await (between() if between is not None else asyncio.sleep(0))


async def _active(books: Books, bucket: Bucket, keys: Sequence[str] | None) -> Iterator[tuple[str, Bucket, int]]:
    """Where there is something to read: of many keys, most are used on few days, and some on few shards."""
    with translated():
        pipeline = books.store.pipeline(transaction=False)
        for shard in range(books.shards):
            day = names.active(shard, bucket.start.strftime("%Y%m%d"))
            if keys is None:
                pipeline.smembers(day)
            elif keys:
                pipeline.smismember(day, list(keys))
        replies = await pipeline.execute()
    if keys is None:
        return ((key.decode(), bucket, shard) for shard, active in enumerate(replies) for key in sorted(active))
    return (
        (key, bucket, shard)
        for shard, said in enumerate(replies)
        for key, active in zip(keys, said, strict=True)
        if active
    )


async def key_usage(
    books: Books, keys: Sequence[str], now: datetime, between: Between | None = None
) -> dict[str, KeyUsage]:
    """Tokens of each of these keys. `between` as in `lines`."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday, first = today - timedelta(days=today.weekday()), today.replace(day=1)
    since = Range(min(monday, first), today + timedelta(days=1), daily=True)
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    async for line in lines(books, keys, since.buckets(), between):
        for place, start in enumerate((today, monday, first)):
            if line.bucket.start >= start:
                sums[line.key][place] += line.counters.get("total_tokens", 0)
    ever = await totals.read(books, keys)
    return {key: KeyUsage(sum(int(row["total_tokens"]) for row in ever[key]), *sums[key]) for key in keys}
