"""The audit of a database against Redis: it finds what is wrong, and nothing where all is right."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa

from services.meter.settle import Ledger, Settlement
from services.sinks.audit import Compared, compare
from services.sinks.database import Database
from services.sinks.settings import SinkSettings
from services.sinks.sql import SqlSink
from services.sinks.tables import EXCHANGES, USAGE
from shared.books import streams
from shared.books.books import Books
from shared.books.follow import Follower
from shared.contract import names
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.store import Store
from tests.support.entries import entry

BOOT = new_boot()


async def booked(redis: Store, count: int = 6) -> None:
    now_ms = await streams.now_ms(redis)
    for n in range(count):
        id = ExchangeId(BOOT, n % 2, n)
        one = entry(id, opened_ms=now_ms, cost_microusd=n, cost_nanousd=n * 1000)
        await Ledger(redis).settle([Settlement(id, one, [], final=n > 1)])


async def amended(redis: Store) -> None:
    """The first exchange is booked on another key and model."""
    id = ExchangeId(BOOT, 0, 0)
    [so_far] = await Ledger(redis).provisional(0, [id])
    [(_, fields)] = await redis.xrange(names.ledger(0), count=1)
    before = msgspec.json.decode(fields[b"entry"])
    one = entry(id, opened_ms=before["opened_ms"], key="b" * 64, model="other", input_tokens=77)
    await Ledger(redis).settle([Settlement(id, one, [], so_far=so_far)])


async def followed(redis: Store, database: Database) -> None:
    sink = SqlSink(database, SinkSettings(database_keep_days=0))
    follower = Follower(redis, sink, back_ms=60_000)
    while await follower.round([0, 1]):
        pass


async def compared(redis: Store, database: Database) -> Compared:
    return await compare(Books(redis, 2), database)


async def test_what_agrees_has_no_difference(redis: Store, database: Database) -> None:
    await booked(redis)
    await followed(redis, database)
    await amended(redis)
    found = await compared(redis, database)
    assert (found.exchanges, found.behind, found.differences) == (6, 1, [])
    await followed(redis, database)
    found = await compared(redis, database)
    assert (found.exchanges, found.behind, found.differences) == (6, 0, [])


@pytest.mark.parametrize("model", ["a\0b", "a\x1fb", "é" * 256])
async def test_no_name_of_a_model_is_a_difference(redis: Store, database: Database, model: str) -> None:
    """A caller could make every audit fail with one request: Redis and databases hold some texts otherwise."""
    id = ExchangeId(BOOT, 0, 0)
    one = entry(id, opened_ms=await streams.now_ms(redis), model=model)
    await Ledger(redis).settle([Settlement(id, one, [])])
    await followed(redis, database)
    assert (await compared(redis, database)).differences == []


async def test_a_row_that_is_missing_is_named(redis: Store, sqlite_database: Database) -> None:
    await booked(redis)
    await followed(redis, sqlite_database)
    with sqlite_database.begin() as connection:
        connection.execute(EXCHANGES.delete().where(EXCHANGES.c.exchange_id == f"{BOOT}.0.0"))
    differences = (await compared(redis, sqlite_database)).differences
    assert f"{BOOT}.0.0: the database has no row" in differences
    assert any("is not the sum of its rows" in line for line in differences)


@pytest.mark.parametrize("name", ["input_tokens", "cost_nanousd", "model", "cause"])
async def test_a_value_that_differs_is_named(redis: Store, sqlite_database: Database, name: str) -> None:
    await booked(redis)
    await followed(redis, sqlite_database)
    with sqlite_database.begin() as connection:
        changed = 5 if isinstance(EXCHANGES.c[name].type, sa.BigInteger) else "other"
        one = EXCHANGES.c.exchange_id == f"{BOOT}.1.1"
        connection.execute(EXCHANGES.update().where(one).values({name: changed}))
    assert any(
        line.startswith(f"{BOOT}.1.1: {name} is {changed!r} in the database,")
        for line in (await compared(redis, sqlite_database)).differences
    )


async def test_usage_that_differs_is_named_twice(redis: Store, sqlite_database: Database) -> None:
    await booked(redis)
    await followed(redis, sqlite_database)
    with sqlite_database.begin() as connection:
        connection.execute(USAGE.update().values(output_tokens=USAGE.c.output_tokens + 1))
    of_rows, of_days = (await compared(redis, sqlite_database)).differences
    assert of_rows.endswith("is not the sum of its rows")
    assert "output_tokens is 121 in the database, 120 in Redis" in of_days


async def test_a_row_that_redis_has_lost_is_named(redis: Store, sqlite_database: Database) -> None:
    await booked(redis)
    await followed(redis, sqlite_database)
    [*_, (last, _)] = await redis.xrange(names.ledger(0))
    await redis.xdel(names.ledger(0), last)
    differences = (await compared(redis, sqlite_database)).differences
    assert [line for line in differences if line.endswith("the ledger has no entry")] != []


async def test_what_was_trimmed_is_not_compared(redis: Store, database: Database) -> None:
    await booked(redis)
    await followed(redis, database)
    for shard in range(2):
        await redis.xtrim(names.ledger(shard), maxlen=1, approximate=False)
    found = await compared(redis, database)
    assert (found.exchanges, found.differences) == (2, [])
