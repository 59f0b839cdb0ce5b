"""A shard's consumer on a real Redis: takeovers, replays, poison, and a Redis that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.meter.consumer import TIMING, ShardConsumer, Timing
from services.meter.metrics import MeterMetrics
from services.meter.settle import Ledger
from shared.books import quarantine, streams, totals
from shared.books.books import Books
from shared.contract import names, tail
from shared.contract.dialects import Dialect
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Fields, Open, Segment
from shared.runtime.store import Store
from tests.support.estimator import WordEstimator
from tests.support.tails import KEY, OPENED_MS, records, send

BOOT = new_boot()


@asynccontextmanager
async def metering(redis: Store, timing: Timing = TIMING) -> AsyncIterator[None]:
    consumer = ShardConsumer(redis, Ledger(redis), 0, 50, WordEstimator(), MeterMetrics(), timing)
    task = asyncio.get_running_loop().create_task(consumer.run())
    try:
        yield
    finally:
        consumer.stop()
        await task


async def requests(redis: Store) -> int:
    rows = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    return int(rows[0]["requests"]) if rows else 0


async def until(redis: Store, count: int) -> None:
    async with asyncio.timeout(20):
        while await requests(redis) < count or await redis.xlen(names.tail(0)):
            await asyncio.sleep(0.02)


async def test_records_in_any_order_and_twice(redis: Store) -> None:
    fields = [record for n in range(20) for record in records(ExchangeId(BOOT, 0, n), segments=3)]
    await send(redis, ExchangeId(BOOT, 0, 0), fields[::-1] + fields[::3])
    async with metering(redis, Timing(tidy=0.1)):
        await until(redis, 20)
    assert await requests(redis) == 20
    assert await redis.xlen(names.ledger(0)) == 20


async def test_what_was_read_before_a_clock_stepped_back_is_not_left_lying(redis: Store) -> None:
    """A reader that stops reads once more after its successor has begun; then Redis's clock goes back by a day."""
    back_ms = 0

    async def clock(store: Store) -> int:
        return await streams.now_ms(store) - back_ms

    id = ExchangeId(BOOT, 0, 0)
    async with metering(redis, Timing(tidy=0.2, now_ms=clock)):
        await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            while True:  # a record that the consumer itself does not get
                await send(redis, id, records(id)[:1])
                if await redis.xreadgroup(names.GROUP, names.GROUP, {names.tail(0): ">"}):
                    break
        await asyncio.sleep(0.5)
        await send(redis, id, records(id)[1:])
        await asyncio.sleep(0.5)
        back_ms = 86_400_000
        await until(redis, 1)


async def test_what_another_worker_read_and_never_settled_is_taken_over(redis: Store) -> None:
    id = ExchangeId(BOOT, 0, 0)
    await streams.create_group(redis, 0)
    await send(redis, id, records(id)[:2])
    assert len(await streams.read(redis, 0, count=10, block_ms=100)) == 2  # … and that worker dies
    async with metering(redis):
        await send(redis, id, records(id)[2:])
        await until(redis, 1)
    assert await requests(redis) == 1


async def test_what_went_to_a_paused_worker_is_reclaimed(redis: Store) -> None:
    id = ExchangeId(BOOT, 0, 0)
    async with metering(redis, Timing(tidy=0.2, reclaim_idle_ms=100)):
        await asyncio.sleep(0.3)
        pipeline = redis.pipeline(transaction=True)  # so that the consumer cannot be the one who reads them
        for record in records(id):
            pipeline.xadd(names.tail(0), record)  # type: ignore[arg-type]
        pipeline.xreadgroup(names.GROUP, names.GROUP, {names.tail(0): b">"})
        await pipeline.execute()
        await until(redis, 1)
    assert await requests(redis) == 1


async def test_replays_of_settled_exchanges_are_dropped(redis: Store) -> None:
    id = ExchangeId(BOOT, 0, 0)
    async with metering(redis, Timing(tidy=0.1)):
        await send(redis, id, records(id))
        await until(redis, 1)
        await send(redis, id, records(id)[1:2])
        await until(redis, 1)
    assert await requests(redis) == 1
    assert (await redis.xpending(names.tail(0), names.GROUP))["pending"] == 0


async def test_poison_is_quarantined_and_holds_nobody_up(redis: Store) -> None:
    good, strange = ExchangeId(BOOT, 0, 0), ExchangeId(BOOT, 0, 1)
    negative = ExchangeId(BOOT, 0, 2)
    opened = Open(KEY, Dialect.OPENAI_CHAT, "p", "m", OPENED_MS, True, "/")
    unreadable = tail.encode(strange, 0, opened) | {b"r": b"\xff\x00"}
    await send(redis, good, [{b"garbage": b"1", b"r": b""}, unreadable, *records(negative, prompt=-3), *records(good)])
    async with metering(redis):
        await until(redis, 1)
    assert await requests(redis) == 1
    held = await quarantine.cases(Books(redis, 1))
    assert len(held) == 3
    assert next(case.reason for case in held if case.id == str(negative)).endswith("prompt_tokens is -3")
    assert sum(len(case.entries) for case in held) == 5


async def test_what_is_quarantined_can_be_retried_and_dropped(redis: Store) -> None:
    id = ExchangeId(BOOT, 0, 0)
    opened, segment, end = records(id)
    await send(redis, id, [opened, end | {b"r": b"\xff"}, segment])
    async with metering(redis):
        async with asyncio.timeout(20):
            while not (held := await quarantine.cases(Books(redis, 1))):
                await asyncio.sleep(0.02)
        [case] = held
        assert (case.id, len(case.entries)) == (str(id), 1)
        await quarantine.retry(redis, case)
        async with asyncio.timeout(20):
            while not (again := await quarantine.cases(Books(redis, 1))):  # it is no better now
                await asyncio.sleep(0.02)
        await quarantine.drop(redis, again[0])
        await send(redis, id, [end])
        await until(redis, 1)
    assert await requests(redis) == 1
    with pytest.raises(quarantine.NotQuarantined):
        await quarantine.find(Books(redis, 1), str(id))


def contradictions() -> dict[str, list[Fields]]:
    id, elsewhere = ExchangeId(BOOT, 0, 0), ExchangeId(BOOT, 1, 0)
    opened, segment, end = records(id)
    return {
        "a record beyond the end": [opened, tail.encode(id, 9, Segment(tail.Packed(b"late"))), end],
        "no open": [segment, end, tail.encode(id, 3, Segment(tail.Packed(b"x")))],
        "an open of no time": [
            tail.encode(id, 0, Open(KEY, Dialect.GEMINI, "p", "m", 10**18, True, "/")),
            segment,
            end,
        ],
        "another shard's": records(elsewhere),
    }


@pytest.mark.parametrize("what", contradictions())
async def test_records_that_contradict_each_other_are_quarantined_whole(redis: Store, what: str) -> None:
    given = contradictions()[what]
    neighbour = ExchangeId(BOOT, 0, 7)
    await send(redis, ExchangeId(BOOT, 0, 0), given)
    await send(redis, neighbour, records(neighbour))
    async with metering(redis):
        await until(redis, 1)
        await until(redis, 1)
    assert await redis.xlen(names.tail(0)) == 0
    assert sum(len(case.entries) for case in await quarantine.cases(Books(redis, 1))) == len(given)


async def test_an_end_counts_over_a_segment_of_its_number(redis: Store) -> None:
    id = ExchangeId(BOOT, 0, 0)
    opened, segment, end = records(id)
    await send(redis, id, [opened, tail.encode(id, 2, Segment(tail.Packed(b"the end's bytes, alone"))), end, segment])
    async with metering(redis):
        await until(redis, 1)
    assert await quarantine.cases(Books(redis, 1)) == []


async def test_an_empty_redis_is_survived(redis: Store) -> None:
    id = ExchangeId(BOOT, 0, 0)
    async with metering(redis):
        await asyncio.sleep(0.1)
        await redis.flushall()  # the group is gone with the stream
        await send(redis, id, records(id))
        await until(redis, 1)
    assert await requests(redis) == 1


async def test_large_records_are_read_a_few_at_once(redis: Store) -> None:
    await redis.config_set("slowlog-log-slower-than", 0)
    await redis.config_set("slowlog-max-len", 2000)
    await redis.slowlog_reset()
    ids = [ExchangeId(BOOT, 0, n) for n in range(6)]
    async with metering(redis):
        for id in ids:
            opened, _, end = records(id)
            large = tail.encode(id, 1, Segment(tail.Packed(b":" * (2 << 20))))
            await send(redis, id, [opened, large, end])
        await until(redis, len(ids))
    await redis.config_set("slowlog-log-slower-than", 10_000)
    asked = [bytes(entry["command"]).split() for entry in await redis.slowlog_get(2000)]
    counts = {int(words[words.index(b"COUNT") + 1]) for words in asked if words[0] == b"XREADGROUP"}
    assert (min(counts), max(counts)) == (3, 50)
