"""Exchanges whose gateway is gone: booked provisionally, amended, made final; and what Redis knows of boots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.meter.consumer import ShardConsumer, Timing
from services.meter.estimator import TokenEstimator
from services.meter.metrics import MeterMetrics
from services.meter.prices import parse
from services.meter.settle import Ledger
from shared.books import audit, boots, ledger, quarantine, streams, totals
from shared.books.books import Books
from shared.books.boots import BootState
from shared.books.ledger import LedgerEntry
from shared.contract import names, tail
from shared.contract.entry import encode
from shared.contract.ids import ExchangeId, ExchangeIds, new_boot
from shared.contract.tail import Head, Packed, Segment
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.estimator import WordEstimator
from tests.support.tails import KEY, records, send

IMPATIENT = Timing(block_ms=50, tidy=0.1)
AT_ONCE = Timing(block_ms=50, tidy=-1.0)  # every exchange counts as left


async def booked(redis: Store) -> list[LedgerEntry]:
    return [entry async for entry in ledger.read(redis, 0)]


async def metered(redis: Store, until: Callable[[list[LedgerEntry]], bool]) -> list[LedgerEntry]:
    """Meter until the ledger meets the condition, and a little longer."""
    consumer = ShardConsumer(redis, Ledger(redis), 0, 100, WordEstimator(), MeterMetrics(), IMPATIENT)
    run = asyncio.get_running_loop().create_task(consumer.run())
    try:
        async with asyncio.timeout(20):
            while not until(await booked(redis)):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
    finally:
        consumer.stop()
        await run
    return await booked(redis)


async def test_an_orphan_is_amended_and_made_final(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened, _, end = records(id)
    said = b'data: {"choices":[{"index":0,"delta":{"content":"one two three"}}]}\n\n'
    segment = tail.encode(id, 1, Segment(Packed(said), Head(200, "text/event-stream")))
    await send(redis, id, [opened])
    first = await metered(redis, lambda entries: len(entries) == 1)
    assert [(entry.revision, entry.final) for entry in first] == [(1, False)]  # once, however often it is looked at
    assert (first[0].entry.outcome, first[0].entry.source) == ("gateway_lost", "partial")
    assert await redis.xlen(names.tail(0)) == 1  # nothing is deleted

    await send(redis, id, [segment])
    second = await metered(redis, lambda entries: len(entries) == 2)
    assert not second[1].final
    assert second[1].entry.response_bytes == len(said)
    assert (second[1].entry.output_tokens or 0) >= 3

    await send(redis, id, [end])  # the gateway was not dead after all
    third = await metered(redis, lambda entries: len(entries) == 3)
    assert (third[2].revision, third[2].final, third[2].entry.outcome) == (3, True, "completed")
    assert await redis.xlen(names.tail(0)) == 0
    found = await audit.audit(Books(redis, 1))
    assert [difference for difference in found.differences if "conservation" not in difference] == []


async def test_an_orphan_is_booked_on_who_answered(redis: Store) -> None:
    """The first candidate had failed, and the gateway died while the second one answered."""
    id = ExchangeId(new_boot(), 0, 0)
    said = b'data: {"choices":[{"index":0,"delta":{"content":"one two three"}}]}\n\n'
    head = Head(200, "text/event-stream", "", "azure", "gpt-4o", "spare", "openai/v1/chat/completions")
    await send(redis, id, [records(id)[0], tail.encode(id, 1, Segment(Packed(said), head))])
    [found] = await metered(redis, lambda entries: len(entries) == 1)
    assert (found.entry.outcome, found.final) == ("gateway_lost", False)
    assert (found.entry.provider, found.entry.model, found.entry.credential) == ("azure", "gpt-4o", "spare")


async def test_a_cost_is_amended_by_the_difference(redis: Store) -> None:
    estimator = WordEstimator()
    price = {"provider": "openai", "model": "*", "input": 2_000_000, "output": 10_000_000}
    estimator.prices = parse({"version": "1", "prices": [price]})
    id = ExchangeId(new_boot(), 0, 0)
    opened, *rest = records(id, prompt=100, answer=50)
    await send(redis, id, [opened])
    for expected, more in ((1, rest), (2, [])):
        consumer = ShardConsumer(redis, Ledger(redis), 0, 100, estimator, MeterMetrics(), IMPATIENT)
        run = asyncio.get_running_loop().create_task(consumer.run())
        async with asyncio.timeout(20):
            while len(await booked(redis)) < expected:
                await asyncio.sleep(0.01)
        consumer.stop()
        await run
        await send(redis, id, more)
    entries = await booked(redis)
    assert [entry.final for entry in entries] == [False, True]
    assert entries[0].entry.cost_microusd != entries[1].entry.cost_microusd == 100 * 2 + 50 * 10
    [row] = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    assert (row["cost_microusd"], row["unpriced_requests"], row["requests"]) == (700, 0, 1)
    assert [line for line in (await audit.audit(Books(redis, 1))).differences if "conservation" not in line] == []


async def test_age_alone_makes_final_at_the_second_sight(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened = records(id)[0]
    await redis.xadd(names.tail(0), opened, id="1-1")  # type: ignore[arg-type]  # by Redis's clock as it is now, half a century ago
    entries = await metered(redis, lambda entries: len(entries) == 2)
    assert [(entry.revision, entry.final) for entry in entries] == [(1, False), (2, True)]
    assert await redis.xlen(names.tail(0)) == 0


async def test_a_clock_that_jumps_makes_nothing_final_of_a_gateway_that_lives(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened, *rest = records(id)
    await redis.xadd(names.tail(0), opened, id="1-1")  # type: ignore[arg-type]
    consumer = ShardConsumer(redis, Ledger(redis), 0, 100, WordEstimator(), MeterMetrics(), IMPATIENT)
    run = asyncio.get_running_loop().create_task(consumer.run())
    async with asyncio.timeout(20):
        while not await booked(redis):
            await asyncio.sleep(0.01)
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.LIVE)  # its next beat
    await asyncio.sleep(0.5)
    await send(redis, id, rest)
    async with asyncio.timeout(20):
        while len(await booked(redis)) < 2:
            await asyncio.sleep(0.01)
    consumer.stop()
    await run
    entries = await booked(redis)
    assert [(entry.revision, entry.final) for entry in entries] == [(1, False), (2, True)]
    assert entries[1].entry.outcome == "completed"


async def test_it_is_final_once_its_boot_is_accounted_for(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened, segment, end = records(id)
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.ADOPTED)
    await send(redis, id, [opened, segment])
    [entry] = await metered(redis, lambda entries: len(entries) == 1)
    assert entry.final
    assert (await audit.audit(Books(redis, 1))).differences == []
    await send(redis, id, [segment, end])  # a replay changes nothing
    assert len(await metered(redis, lambda entries: len(entries) == 1)) == 1
    assert await redis.xlen(names.tail(0)) == 0


async def test_what_lives_is_left_alone(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.LIVE)
    await send(redis, id, records(id)[:1])
    assert await metered(redis, lambda _: True) == []
    found = await audit.conservation(Books(redis, 1))
    assert (found.opened, found.settled, found.in_flight, found.gap) == (1, 0, 1, 0)


async def test_without_an_open_it_is_quarantined_in_the_end(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.LEFT)
    await send(redis, id, records(id)[1:])
    await metered(redis, lambda _: True)
    [case] = await quarantine.cases(Books(redis, 1))
    assert case.id == str(id)
    assert (await audit.conservation(Books(redis, 1))).gap == 0
    await quarantine.drop(redis, case)
    assert (await audit.conservation(Books(redis, 1))).gap == 0


async def test_two_workers_that_disagree_come_to_one_result(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    await send(redis, id, records(id)[:2])
    await metered(redis, lambda entries: len(entries) == 1)
    await redis.hset(names.provisional(0), str(id), "7 1 10 5 0 0 0 15 0 1")  # type: ignore[misc]  # somebody else's
    await send(redis, id, records(id)[2:])
    entries = await metered(redis, lambda entries: entries[-1].final)
    assert entries[-1].revision == 8


async def test_states_and_counts_of_boots(redis: Store) -> None:
    ids = ExchangeIds("A" * 26, 3)
    for _ in range(4):
        ids.next()
    ids.give_back()
    ids.next()
    assert ids.opened() == {"A" * 26: {0: 2, 1: 1, 2: 1}}
    await boots.heartbeat(redis, ids.opened(), BootState.LIVE)
    await boots.heartbeat(redis, {"A" * 26: {0: 1}}, BootState.LIVE)  # an older count changes nothing
    found = await boots.find(redis, ["A" * 26, "B" * 26])
    assert found["A" * 26].state is BootState.LIVE
    assert found["A" * 26].opened == {0: 2, 1: 1, 2: 1}
    assert found["B" * 26].state is BootState.GONE
    await redis.zadd(names.BOOTS, {"A" * 26: 1})
    assert (await boots.find(redis, ["A" * 26]))["A" * 26].state is BootState.GONE
    await boots.heartbeat(redis, {"A" * 26: {}}, BootState.ADOPTED)
    await boots.heartbeat(redis, ids.opened(), BootState.LIVE)  # adopted is for good
    assert (await boots.known(redis))["A" * 26].accounted
    assert await boots.shards(redis, 2) == 3
    assert await boots.shards(redis, 16) == 16


async def reading(redis: Store, estimator: TokenEstimator | None = None) -> ShardConsumer:
    """A consumer that has read what there is, and is driven by hand from here on."""
    consumer = ShardConsumer(redis, Ledger(redis), 0, 100, estimator or WordEstimator(), MeterMetrics(), AT_ONCE)
    await streams.create_group(redis, 0)
    await consumer.take(await streams.read(redis, 0, count=100, block_ms=1))
    return consumer


async def test_nothing_is_final_before_everything_was_read(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened, segment, end = records(id)
    await send(redis, id, [opened, segment])
    consumer = await reading(redis)
    await send(redis, id, [end])  # in Redis, and not read yet, when its gateway leaves
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.LEFT)
    await consumer.sweep()
    [entry] = await booked(redis)
    assert (entry.final, entry.entry.outcome, entry.entry.source) == (True, "completed", "reported")


async def test_what_a_paused_worker_has_read_is_read_before_it_is_final(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened, segment, end = records(id)
    await send(redis, id, [opened, segment])
    consumer = await reading(redis)
    await send(redis, id, [end])
    assert len(await streams.read(redis, 0, count=100, block_ms=1)) == 1  # by another worker, which then sleeps
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.ADOPTED)
    await consumer.sweep()
    [entry] = await booked(redis)
    assert entry.entry.outcome == "completed"


async def test_a_damaged_orphan_costs_itself_alone(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    damaged = tail.encode(id, 1, Segment(Packed(b"no zstd at all", zstd=True)))
    await send(redis, id, [records(id)[0], damaged])
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.ADOPTED)
    consumer = await reading(redis)
    await consumer.sweep()
    [case] = await quarantine.cases(Books(redis, 1))
    assert case.id == str(id)
    assert await redis.xlen(names.tail(0)) == 0
    assert (await audit.conservation(Books(redis, 1))).gap == 0


async def test_an_orphan_is_booked_again_for_new_records_alone(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    said = b'data: {"choices":[{"index":0,"delta":{"content":"one two three"}}]}\n\n'
    segments = [tail.encode(id, seq, Segment(Packed(said), Head(200, "text/event-stream"))) for seq in (1, 2)]
    await send(redis, id, [records(id)[0], segments[0]])
    estimator = WordEstimator()
    consumer = await reading(redis, estimator)
    for factor in range(1, 6):  # what is counted changes, as it does when the estimator learns
        estimator.factor = factor
        await consumer.sweep()
    assert len(await booked(redis)) == 1
    await send(redis, id, segments[1:])
    await consumer.take(await streams.read(redis, 0, count=100, block_ms=1))
    await consumer.sweep()
    assert [entry.revision for entry in await booked(redis)] == [1, 2]


async def test_an_end_that_is_here_is_used_though_something_before_it_is_missing(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    opened, _, end = records(id)
    await send(redis, id, [opened, end])
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.ADOPTED)
    consumer = await reading(redis)
    await consumer.sweep()
    [entry] = await booked(redis)
    assert (entry.entry.outcome, entry.entry.source) == ("completed", "partial")
    assert entry.entry.lost_bytes > 0
    assert entry.entry.total_tokens == 30  # its usage is in the end's own bytes


async def test_a_window_of_the_ledger_ends_before_its_end(redis: Store) -> None:
    fields = {"x": "x", "revision": "1", "final": "1", "entry": encode(entry("x"))}
    for entry_id in ("1000-0", "1000-1", "1001-0"):
        await redis.xadd(names.ledger(0), fields, id=entry_id)  # type: ignore[arg-type]
    first = [entry.id async for entry in ledger.read(redis, 0, until_ms=1000)]
    second = [entry.id async for entry in ledger.read(redis, 0, since_ms=1000, until_ms=1001)]
    assert (first, second) == ([], ["1000-0", "1000-1"])


async def test_a_case_whose_exchange_was_settled_counts_once(redis: Store) -> None:
    id = ExchangeId(new_boot(), 0, 0)
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.LIVE)
    opened, segment, end = records(id)
    await send(redis, id, [opened, end | {b"r": b"\xff"}])
    await reading(redis)
    await send(redis, id, [segment, end])
    consumer = await reading(redis)
    await consumer.recover()
    assert len(await quarantine.cases(Books(redis, 1))) == 1
    found = await audit.conservation(Books(redis, 1))
    assert (found.opened, found.settled, found.quarantined, found.gap) == (1, 1, 0, 0)
