"""Exports, page by page: nothing is left out, and what is exported adds up to what the rows say."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from services.meter.settle import Ledger, Settlement
from services.sinks.database import Database
from shared.books.archive import Archive
from shared.books.exporting import Settled, Usage
from shared.contract import names
from shared.contract.ids import ExchangeId
from shared.runtime.store import Store
from tests.support.booked import NOW, followed, settled
from tests.support.entries import entry

LATER = datetime(2999, 1, 1, tzinfo=UTC)


async def all_settled(archive: Archive, after: tuple[datetime, str] | None = None) -> list[Settled]:
    found: list[Settled] = []
    while page := await archive.settled(after, None, LATER, 7):
        found += page
        after = page[-1].settled_at, page[-1].exchange.exchange_id
    return found


async def all_usage(archive: Archive, since: datetime | None = None, until: datetime = LATER) -> list[Usage]:
    found: list[Usage] = []
    while page := await archive.usage(found[-1] if found else None, since, until, 7):
        found += page
    return found


async def test_exchanges_come_once_and_again_when_they_are_amended(
    redis: Store, database: Database, archive: Archive
) -> None:
    everything = await settled(redis, random.Random(1), 60)
    await followed(redis, database)
    found = await all_settled(archive)
    assert sorted(one.exchange.exchange_id for one in found) == sorted(one.exchange_id for one in everything)
    assert {one.exchange.exchange_id: one.exchange for one in found} == {one.exchange_id: one for one in everything}
    assert [one.settled_at for one in found] == sorted(one.settled_at for one in found)
    last = found[-1].settled_at, found[-1].exchange.exchange_id
    assert await all_settled(archive, last) == []
    id = ExchangeId.parse(everything[0].exchange_id)
    new = ExchangeId(id.boot, id.shard, id.n + 1000)
    first = entry(new, opened_ms=int(NOW.timestamp() * 1000), key=everything[0].key, output_tokens=1)
    books = Ledger(redis)
    await books.settle([Settlement(new, first, [], final=False)])
    await followed(redis, database)
    [one] = await all_settled(archive, last)
    assert (one.exchange.exchange_id, one.exchange.final) == (str(new), False)
    cursor = one.settled_at, one.exchange.exchange_id
    so_far = await redis.hget(names.provisional(new.shard), str(new))  # type: ignore[misc]
    assert so_far is not None
    await books.settle([Settlement(new, first, [], so_far=so_far.decode())])
    await followed(redis, database)
    [again] = await all_settled(archive, cursor)
    assert (again.exchange.exchange_id, again.exchange.final, again.exchange.revision) == (str(new), True, 2)


async def test_hours_of_usage_come_in_parts_that_meet(redis: Store, database: Database, archive: Archive) -> None:
    everything = await settled(redis, random.Random(2), 80)
    await followed(redis, database)
    whole = await all_usage(archive)
    assert sum(one.counters["requests"] for one in whole) == len(everything)
    cut = (NOW - timedelta(days=4)).replace(minute=0)
    parts = [*await all_usage(archive, until=cut), *await all_usage(archive, since=cut)]
    assert parts == whole
    assert len({(one.hour, one.group) for one in whole}) == len(whole)


async def test_charges_are_what_exchanges_with_a_price_have_cost(
    redis: Store, database: Database, archive: Archive
) -> None:
    everything = await settled(redis, random.Random(3), 80)
    await followed(redis, database)
    day = (await archive.first_opened() or NOW).replace(hour=0)
    found = []
    while day < NOW:
        found += await archive.charges(day, day + timedelta(days=1))
        day += timedelta(days=1)
    costs: Counter[str] = Counter()
    for one in everything:
        costs[one.model] += one.cost_nanousd or 0
    by_model: Counter[str] = Counter()
    for charge in found:
        by_model[charge.model] += charge.cost_nanousd
        assert charge.priced or not charge.cost_nanousd
    assert by_model == costs
    unpriced = sum(charge.requests for charge in found if not charge.priced)
    assert unpriced == sum(one.cost_nanousd is None for one in everything) > 0
