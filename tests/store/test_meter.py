"""The meter of a process, its leases and consumers together, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as LostConnection

from services.meter.meter import Meter
from services.meter.settings import MeterSettings
from shared.books import totals
from shared.books.books import Books
from shared.contract import names
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime import store
from shared.runtime.store import Store
from tests.support.tails import KEY, records, send

SHARDS = 4
BOOT = new_boot()


def metering(redis: Store) -> Meter:
    return Meter(redis, MeterSettings(shards=SHARDS), round_seconds=0.1)


@asynccontextmanager
async def running(redis: Store) -> AsyncIterator[Meter]:
    meter = metering(redis)
    task = asyncio.get_running_loop().create_task(meter.run())
    try:
        yield meter
    finally:
        meter.stop()
        await task


async def expect_settled(redis: Store, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(int(row["requests"]) for row in (await totals.read(Books(redis, SHARDS), [KEY]))[KEY]) < count:
            await asyncio.sleep(0.05)


async def give(redis: Store, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        id = ExchangeId(BOOT, n % SHARDS, n)
        await send(redis, id, records(id))


async def test_every_shard_is_metered_and_given_up_in_the_end(redis: Store) -> None:
    async with running(redis):
        await give(redis, 40)
        await expect_settled(redis, 40)
    assert not await redis.exists(*(names.lease(shard) for shard in range(SHARDS)))
    assert await redis.zcard(names.METERS) == 0


async def test_two_meters_share_and_one_takes_over(redis: Store) -> None:
    async with running(redis):
        async with running(redis):
            async with asyncio.timeout(20):
                while len({await redis.get(names.lease(shard)) for shard in range(SHARDS)}) < 2:
                    await asyncio.sleep(0.05)
            await give(redis, 40)
            await expect_settled(redis, 40)
        await give(redis, 40, first=40)
        await expect_settled(redis, 80)


async def test_a_full_redis_is_drained_by_a_meter_that_starts(redis: Store) -> None:
    await give(redis, 40)
    await redis.config_set("maxmemory", "1kb")
    try:
        async with running(redis):
            await expect_settled(redis, 40)
    finally:
        await redis.config_set("maxmemory", "0")


class Spoiled(Redis):
    """A client that carries out each command, and then may fail."""

    failure: Callable[[str], Exception | None]  # is given the command's words, and says how it fails, if it does

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's own
        failure = self.failure(" ".join(map(str, args)))
        if failure is not None:
            raise failure
        return answer


def spoiled_by(url: str, failure: Callable[[str], Exception | None]) -> Spoiled:
    client = cast("Spoiled", Spoiled.from_pool(store.connect(url).connection_pool))
    client.failure = failure
    return client


async def test_a_lost_reply_strands_no_shard(redis: Store, redis_url: str) -> None:
    lost = iter([False, True, False, True])

    def failure(command: str) -> Exception | None:
        asks_for_a_lease = command.startswith("EVALSHA") and any(names.lease(n) in command for n in range(SHARDS))
        return LostConnection("the reply is lost") if asks_for_a_lease and next(lost, False) else None

    async with spoiled_by(redis_url, failure) as spoiled, running(spoiled):
        await give(redis, 40)
        await expect_settled(redis, 40)
    assert next(lost, None) is None


async def test_a_consumer_that_fails_ends_the_meter(redis: Store, redis_url: str) -> None:
    def failure(command: str) -> Exception | None:
        return RuntimeError("a bug") if command.startswith("XREADGROUP") else None

    async with spoiled_by(redis_url, failure) as spoiled:
        with pytest.raises(RuntimeError, match="a bug"):
            async with asyncio.timeout(10):
                await metering(spoiled).run()
    assert not await redis.exists(*(names.lease(shard) for shard in range(SHARDS)))


async def test_redis_may_be_away_at_the_start(redis: Store, redis_url: str) -> None:
    away = store.connect("redis://127.0.0.1:9")
    meter = metering(away)
    task = asyncio.get_running_loop().create_task(meter.run())
    await asyncio.sleep(0.3)
    assert not task.done()
    away.connection_pool = store.connect(redis_url, connections=SHARDS + 16).connection_pool
    await give(redis, 8)
    await expect_settled(redis, 8)
    meter.stop()
    await task
    await away.connection_pool.disconnect()
