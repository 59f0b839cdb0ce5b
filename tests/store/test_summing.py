"""Usage by groups: Redis and the database give the same sums, and those of the entries, by whatever is asked for."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import combinations
from typing import Any

import pytest

from services.meter.settle import Ledger, Settlement
from services.sinks.database import Database
from services.sinks.reading import SqlArchive
from services.sinks.settings import SinkSettings
from services.sinks.sql import SqlSink
from shared.books import followers, ledger, periods, reports, summing
from shared.books.archive import FOLLOWER, Archive
from shared.books.books import Books
from shared.books.followers import Coverage
from shared.books.periods import BadRange
from shared.books.reports import no_counters
from shared.books.summing import TIMES, Answer, Asked, Group, Sum
from shared.contract import names
from shared.contract.booked import BOOKED, booked
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.errors import SinkUnavailable
from shared.runtime.store import Store
from tests.support.booked import NOW, SHARDS, VALUES, followed, settled
from tests.support.entries import entry

IN_REDIS = (Group.KEY, Group.PROVIDER, Group.MODEL, Group.HOUR, Group.DAY, Group.MONTH)
LATER = NOW + timedelta(minutes=5)


def asking(start: datetime | None, by: tuple[Group, ...], **only: str) -> Asked:
    return Asked(start, None, summing.granularity(by), by, {Group(name): value for name, value in only.items()})


class Opened(summing.Database):
    """A database that is there, or is not."""

    def __init__(self, archive: Archive | None, covered: Callable[[], Awaitable[Coverage | None]]) -> None:
        async def opened() -> Archive | None:
            return archive

        super().__init__(opened, covered)


async def answered(redis: Store, archive: Archive | None, asked: Asked) -> Answer:
    books = Books(redis, SHARDS)
    now_ms = int(LATER.timestamp() * 1000)
    covered = partial(followers.coverage, books, FOLLOWER, now_ms)
    return await summing.answer(books, Opened(archive, covered), asked, LATER)


async def entries_of(redis: Store) -> list[Entry]:
    found = {}
    for shard in range(SHARDS):
        async for one in ledger.read(redis, shard):
            found[one.exchange_id] = one.entry
    return list(found.values())


def value_of(one: Entry, group: Group) -> list[str]:
    """The groups that an exchange is in."""
    if group is Group.TAG:
        return list(one.tags) or [""]
    if group in TIMES:
        at = datetime.fromtimestamp(one.opened_ms / 1000, NOW.tzinfo).replace(minute=0, second=0, microsecond=0)
        return [summing.stamp(periods.data_point(at, TIMES[group]))]
    return [str(getattr(one, group))]


def added(entries: list[Entry], asked: Asked, answer: Answer) -> list[Sum]:
    """What the answer must be."""
    sums: dict[tuple[str, ...], dict[str, int]] = defaultdict(no_counters)
    for one in entries:
        at = datetime.fromtimestamp(one.opened_ms / 1000, NOW.tzinfo)
        if not answer.range.start <= at < answer.range.end:
            continue
        tags = [{Group.TAG: tag} for tag in value_of(one, Group.TAG)]
        for chosen in tags if Group.TAG in {*asked.by, *asked.only} else tags[:1]:
            values = {group: value_of(one, group)[0] for group in Group} | chosen
            if all(values[group] == value for group, value in asked.only.items()):
                counters = dict(zip(BOOKED, booked(one), strict=True))
                reports.add(sums[tuple(values[group] for group in asked.by)], counters)
    return sorted(Sum(group, counters) for group, counters in sums.items())


async def test_redis_database_and_entries_say_the_same(redis: Store, database: Database, archive: Archive) -> None:
    rng = random.Random(1)
    await settled(redis, rng, 100)
    await followed(redis, database)
    entries = await entries_of(redis)
    start = NOW - timedelta(days=11)
    for by in [(), *((group,) for group in Group), *rng.sample(list(combinations(Group, 2)), 12)]:
        asked = asking(start, by)
        found = await answered(redis, archive, asked)
        assert found.sums == added(entries, asked, found), by
        if set(by) <= set(IN_REDIS):
            assert (await answered(redis, None, asked)).sums == found.sums, by
    for _ in range(15):
        filters = rng.sample(["key", "provider", "model", "team", "user", "credential"], 2)
        only: dict[str, Any] = {name: rng.choice(VALUES[name]) for name in filters}
        asked = asking(NOW - timedelta(hours=rng.randint(50, 250)), tuple(rng.sample(list(Group), 2)), **only)
        found = await answered(redis, archive, asked)
        assert found.sums == added(entries, asked, found), asked
        if set(filters) | set(asked.by) <= set(IN_REDIS):
            assert (await answered(redis, None, asked)).sums == found.sums, asked


async def test_recent_days_are_answered_from_redis_as_they_are_now(
    redis: Store, database: Database, archive: Archive
) -> None:
    await settled(redis, random.Random(3), 20)
    await followed(redis, database)
    id = ExchangeId(new_boot(), 0, 0)
    await Ledger(redis).settle([Settlement(id, entry(id, opened_ms=int(NOW.timestamp() * 1000)), [])])
    recent = await answered(redis, archive, asking(NOW - timedelta(hours=3), (Group.PROVIDER,)))
    assert sum(one.counters["requests"] for one in recent.sums) >= 1
    assert recent.as_of == LATER


async def test_what_nobody_has_is_an_error_and_no_zero(redis: Store, database: Database, archive: Archive) -> None:
    await settled(redis, random.Random(4), 20)
    old = NOW - timedelta(days=500)
    with pytest.raises(BadRange, match="group_by: teams, users, tags and credentials are in the database"):
        await answered(redis, None, asking(None, (Group.TEAM,)))
    with pytest.raises(BadRange, match="start_time: days are kept for 400 days"):
        await answered(redis, None, asking(old, (Group.KEY,)))
    with pytest.raises(BadRange, match="start_time: hours are kept for 35 days"):
        await answered(redis, None, asking(NOW - timedelta(days=40), (Group.HOUR,)))
    await followed(redis, database)
    for by in ((Group.TEAM,), (Group.KEY,), (Group.HOUR, Group.TAG)):
        assert (await answered(redis, archive, asking(old, by))).sums


async def test_a_database_that_began_late_says_since_when(redis: Store, database: Database, archive: Archive) -> None:
    everything = await settled(redis, random.Random(5), 60)
    for shard in range(SHARDS):
        await redis.xtrim(names.ledger(shard), maxlen=10, approximate=False)
    await followed(redis, database)
    by_key = asking(NOW - timedelta(days=11), (Group.KEY,))
    found = await answered(redis, archive, by_key)  # from Redis, which has them all
    assert sum(one.counters["requests"] for one in found.sums) == len(everything)
    with pytest.raises(BadRange, match="start_time: the database has team since"):
        await answered(redis, archive, asking(NOW - timedelta(days=11), (Group.TEAM,)))
    state = await followers.coverage(Books(redis, SHARDS), FOLLOWER, 0)
    assert state is not None and state.since is not None


async def test_what_retention_took_away_is_an_error(redis: Store, database: Database, archive: Archive) -> None:
    await settled(redis, random.Random(6), 60)
    await followed(redis, database)
    sink = SqlSink(database, SinkSettings(database_keep_days=40, database_keep_usage_days=60))
    for days, group, fits in ((45, Group.TAG, False), (45, Group.TEAM, True), (70, Group.TEAM, False)):
        await sink.tend(int((NOW + timedelta(days=days)).timestamp() * 1000))
        asked = asking(NOW - timedelta(days=11), (group,))
        if fits:
            assert (await answered(redis, archive, asked)).sums
        else:
            with pytest.raises(BadRange, match=f"the database has {group} since"):
                await answered(redis, archive, asked)
    await sink.close()


async def test_a_database_that_is_behind_is_asked_for_what_redis_cannot_say_alone(
    redis: Store, database: Database, archive: Archive
) -> None:
    await settled(redis, random.Random(7), 30)
    await followed(redis, database)
    behind = Coverage(None, LATER - timedelta(hours=1))

    async def covered() -> Coverage:
        return behind

    books = Books(redis, SHARDS)
    for by, as_of in (((Group.KEY,), LATER), ((Group.TEAM,), behind.as_of)):
        asked = asking(NOW - timedelta(days=11), by)
        assert (await summing.answer(books, Opened(archive, covered), asked, LATER)).as_of == as_of


async def test_a_database_that_is_away_is_missed_only_where_redis_does_not_have_it(redis: Store) -> None:
    everything = await settled(redis, random.Random(9), 20)
    away = SqlArchive("postgresql://nobody@127.0.0.1:1/none")

    async def opened() -> Archive | None:
        return away if await away.ready() else None

    async def covered() -> Coverage | None:
        return None

    database = summing.Database(opened, covered)
    books, start = Books(redis, SHARDS), NOW - timedelta(days=11)
    found = await summing.answer(books, database, asking(start, (Group.KEY,)), LATER)
    assert sum(one.counters["requests"] for one in found.sums) == len(everything)
    with pytest.raises(SinkUnavailable):
        await summing.answer(books, database, asking(start, (Group.TEAM,)), LATER)
    await away.close()


async def test_keys_that_were_not_used_are_not_read(redis: Store) -> None:
    """Pages of the key list looked through a hash for each key, day and shard."""
    await settled(redis, random.Random(8), 9)
    unused = [f"{number:064x}" for number in range(100)]
    before = int((await redis.info("commandstats")).get("cmdstat_hgetall", {}).get("calls", 0))
    found = await reports.key_usage(Books(redis, SHARDS), [*unused, *VALUES["key"]], NOW)
    read = int((await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]) - before
    assert read <= 9 + 102 * SHARDS  # days on which something was booked, and the totals of all time
    assert sum(one.ever for one in found.values()) > 0
    assert found[unused[0]].ever == 0
