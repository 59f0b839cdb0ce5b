"""A record that kills its meters is held, and nobody else with it."""

from __future__ import annotations

import asyncio
import gzip
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.meter.consumer import ShardConsumer
from services.meter.measuring import DELIVERIES, TRIES, Measuring, measured
from services.meter.metrics import MeterMetrics
from services.meter.settle import Ledger
from services.meter.tails import Tail
from shared.books import quarantine, streams, totals
from shared.books.books import Books
from shared.contract import names
from shared.contract.dialects import Dialect
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Open, Outcome, Packed
from shared.runtime.errors import StoreError
from shared.runtime.store import Store
from tests.support.estimator import WordEstimator
from tests.support.tails import KEY, records, send

BOOT = new_boot()
POISON = ExchangeId(BOOT, 0, 7)
ALL = [ExchangeId(BOOT, 0, n) for n in range(20)]


@asynccontextmanager
async def metering(redis: Store) -> AsyncIterator[None]:
    consumer = ShardConsumer(redis, Ledger(redis), 0, 50, WordEstimator(), MeterMetrics())
    task = asyncio.get_running_loop().create_task(consumer.run())
    try:
        yield
    finally:
        consumer.stop()
        await task


async def settled(redis: Store) -> int:
    async with asyncio.timeout(20):
        while await redis.xlen(names.tail(0)):
            await asyncio.sleep(0.02)
    rows = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    return int(rows[0]["requests"]) if rows else 0


async def read_by_the_dead(redis: Store, times: int) -> None:
    """Meters read everything, and die before they have settled any of it."""
    await streams.create_group(redis, 0)
    for id in ALL:
        await send(redis, id, records(id))
    await streams.read(redis, 0, count=1000, block_ms=100)
    for _ in range(times - 1):
        assert len(await streams.read_pending(redis, 0, b"0", count=1000)) == 3 * len(ALL)


async def test_redis_counts_what_is_read_again(redis: Store) -> None:
    """XREADGROUP with an id counts as a delivery, so that XCLAIM is not needed; XRANGE does not."""
    await read_by_the_dead(redis, 3)
    ids = [id for id, _ in await streams.deliveries(redis, 0, b"0", count=5)]
    await streams.fetch(redis, 0, ids)
    assert {times for _, times in await streams.deliveries(redis, 0, b"0", count=1000)} == {3}
    assert [id for id, _ in await streams.deliveries(redis, 0, ids[2], count=2)] == ids[3:]


@pytest.mark.parametrize("times", [1, DELIVERIES, 10])
async def test_the_innocent_are_settled_however_often_they_were_read(redis: Store, times: int) -> None:
    await read_by_the_dead(redis, times)
    async with metering(redis):
        assert await settled(redis) == len(ALL)
    assert await quarantine.cases(Books(redis, 1)) == []
    assert await redis.hlen(names.tries(0)) == 0  # type: ignore[misc]


@pytest.mark.parametrize("died", [TRIES - 1, TRIES])
async def test_what_meters_die_over_is_held_by_the_next_one(redis: Store, died: int) -> None:
    await read_by_the_dead(redis, DELIVERIES + died)
    for _ in range(died):
        await streams.begin_try(redis, 0, POISON)
    async with metering(redis):
        assert await settled(redis) == len(ALL) - (died == TRIES)
    held = await quarantine.cases(Books(redis, 1))
    assert [case.id for case in held] == [str(POISON)] * (died == TRIES)
    assert all("meters have died" in case.reason for case in held)
    assert await redis.hlen(names.tries(0)) == 0  # type: ignore[misc]
    for case in held:  # after an upgrade, say: it begins anew
        await quarantine.retry(redis, case)
    async with metering(redis):
        assert await settled(redis) == len(ALL)


async def test_a_try_that_ended_here_is_no_death_though_redis_was_not_told(redis: Store) -> None:
    suspects = Measuring(redis, 0, WordEstimator())
    for _ in range(2 * TRIES):
        suspects.add([b"1-1"])
        with pytest.raises(StoreError):
            async with suspects.trying(POISON, [b"1-1"]):
                await redis.rename(names.tries(0), "elsewhere")
                await redis.set(names.tries(0), "it cannot be noted that the try is over")
        await redis.rename("elsewhere", names.tries(0))
    suspects.add([b"1-1"])
    async with suspects.trying(POISON, [b"1-1"]):
        assert await redis.hget(names.tries(0), str(POISON)) == b"1"  # type: ignore[misc]


async def test_suspects_are_tried_one_at_a_time(redis: Store) -> None:
    """In one process, whatever their shards: while one of them kills it, no other one is under suspicion."""
    estimator, running = WordEstimator(), 0

    async def one(shard: int, n: int) -> None:
        nonlocal running
        suspects, id = Measuring(redis, shard, estimator), ExchangeId(BOOT, shard, n)
        suspects.add([b"1-1"])
        async with suspects.trying(id, [b"1-1"]):
            running += 1
            noted = [await redis.hlen(names.tries(shard)) for shard in range(4)]  # type: ignore[misc]
            assert (running, sum(noted)) == (1, 1)
            running -= 1

    await asyncio.gather(*(one(n % 4, n) for n in range(12)))


async def test_what_was_never_a_suspect_costs_redis_nothing(redis: Store) -> None:
    suspects = Measuring(redis, 0, WordEstimator())
    await streams.begin_try(redis, 0, POISON)
    for _ in range(TRIES + 1):
        async with suspects.trying(POISON, [b"1-1"]):
            assert await redis.hget(names.tries(0), str(POISON)) == b"1"  # type: ignore[misc]
    for _ in range(TRIES):
        await streams.begin_try(redis, 0, POISON)
    suspects.add([b"1-1"])
    with pytest.raises(BadRecord, match="died"):
        async with suspects.trying(POISON, [b"1-1"]):
            pytest.fail("it is tried again")


class Where(WordEstimator):
    """Notes in which thread it is asked."""

    def count(self, text: str, model: str) -> int:
        self.thread = threading.get_ident()
        return super().count(text, model)


@pytest.mark.parametrize(
    ("size", "encoding", "apart"),
    [(100, "", False), (100, "identity", False), (400_000, "", True), (100, "gzip", False), (400_000, "gzip", True)],
)
async def test_what_may_take_long_is_measured_beside_the_loop(size: int, encoding: str, apart: bool) -> None:
    text = random.Random(1).randbytes(size).hex().encode()
    body = b'data: {"choices":[{"delta":{"content":"' + text + b'"}}]}\n\n'
    packed = Packed.pack(gzip.compress(body) if encoding == "gzip" else body)
    opened = Open(KEY, Dialect.OPENAI_CHAT, "p", "m", 1, True, "/")
    end = End(Outcome.COMPLETED, 200, "text/event-stream", encoding, len(body), 5, 1, 2, "", packed)
    estimator = Where()
    assert (await measured(Tail(POISON, opened, [], end), estimator)).entry.output_tokens
    assert (estimator.thread != threading.get_ident()) == apart
