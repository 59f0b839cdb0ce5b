"""Sealed exchanges on a real Redis: booked with their key, held without it, and booked once it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from services.meter.consumer import TIMING, ShardConsumer, Timing
from services.meter.give_up import give_up
from services.meter.metrics import MeterMetrics
from services.meter.settle import Ledger
from shared.books import boots, ledger, quarantine
from shared.books.audit import audit
from shared.books.books import Books
from shared.books.boots import BootState
from shared.books.ledger import LedgerEntry
from shared.contract import names, seals, tail
from shared.contract.entry import Ended
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Fields, Open
from shared.runtime.seal_keys import NO_KEYS, SealKeys
from shared.runtime.store import Store
from tests.store.test_consumer import requests
from tests.support.estimator import WordEstimator
from tests.support.tails import records, send

KEY = b"k" * 32
KEYS = SealKeys((KEY,))
OTHERS = SealKeys((b"o" * 32,))
REASON = f"sealed with the key {seals.key_id(KEY)}, which AROUTER_SEAL_KEYS_FILE does not have here"


def sealed(id: ExchangeId) -> list[Fields]:
    """The records of an exchange, sealed."""
    sealer = KEYS.sealer()
    assert sealer is not None
    found = []
    for fields in records(id):
        _, seq, record = tail.decode(fields)
        if not isinstance(record, Open):
            body = sealer.seal(str(id), seals.place(seq, record), record.body)
            record = msgspec.structs.replace(record, body=body)
        found.append(tail.encode(id, seq, record))
    return found


@asynccontextmanager
async def metering(redis: Store, keys: SealKeys, timing: Timing = TIMING) -> AsyncIterator[None]:
    consumer = ShardConsumer(redis, Ledger(redis), 0, 50, WordEstimator(), MeterMetrics(), timing, keys)
    task = asyncio.get_running_loop().create_task(consumer.run())
    try:
        yield
    finally:
        consumer.stop()
        await task


async def booked(redis: Store, id: ExchangeId, *, final: bool) -> LedgerEntry:
    async with asyncio.timeout(20):
        while (found := await ledger.find(redis, id)) is None or found.final != final:
            await asyncio.sleep(0.02)
    return found


async def held(redis: Store) -> quarantine.Case:
    async with asyncio.timeout(20):
        while not (cases := await quarantine.cases(Books(redis, 1))) or await redis.xlen(names.tail(0)):
            await asyncio.sleep(0.02)
    [case] = cases
    return case


async def opened(redis: Store) -> ExchangeId:
    """An exchange whose gateway lives, and has said that it opened it."""
    id = ExchangeId(new_boot(), 0, 0)
    await redis.hset(names.opened(0), id.boot, "1")  # type: ignore[misc]
    return id


async def test_with_the_key_it_is_booked_as_ever(redis: Store) -> None:
    id = await opened(redis)
    fields = sealed(id)
    assert b"completion_tokens" not in b"".join(one[b"r"] for one in fields)
    await send(redis, id, fields)
    async with metering(redis, KEYS):
        found = await booked(redis, id, final=True)
    assert (found.entry.ended, found.entry.input_tokens, found.entry.output_tokens) == (Ended.WHOLE, 10, 20)
    assert await quarantine.cases(Books(redis, 1)) == []


async def test_without_the_key_it_is_held_and_booked_as_unknown_and_a_retry_with_it_amends_that(redis: Store) -> None:
    id = await opened(redis)
    await send(redis, id, sealed(id))
    async with metering(redis, OTHERS):
        case = await held(redis)
        found = await booked(redis, id, final=False)
    assert (case.id, case.reason, len(case.entries)) == (str(id), REASON, 3)
    assert (found.entry.ended, found.entry.input_tokens, found.entry.cost_nanousd) == (Ended.UNREADABLE, None, None)
    assert await requests(redis) == 1
    assert (await audit(Books(redis, 1))).differences == []
    async with metering(redis, NO_KEYS):  # no better: nothing is booked twice
        await quarantine.retry(redis, case)
        case = await held(redis)
    async with metering(redis, KEYS):
        await quarantine.retry(redis, case)
        found = await booked(redis, id, final=True)
    assert (found.revision, found.entry.ended, found.entry.output_tokens) == (2, Ended.WHOLE, 20)
    assert (await requests(redis), await quarantine.cases(Books(redis, 1))) == (1, [])
    assert (await audit(Books(redis, 1))).differences == []


async def test_a_key_that_is_gone_for_good_leaves_an_exchange_of_unknown_usage(redis: Store) -> None:
    id = await opened(redis)
    await send(redis, id, sealed(id))
    async with metering(redis, NO_KEYS):
        case = await held(redis)
        await give_up(redis, id)
        await quarantine.drop(redis, case)
        found = await booked(redis, id, final=True)
    assert (found.entry.ended, found.entry.total_tokens) == (Ended.UNREADABLE, None)
    assert await requests(redis) == 1
    assert (await audit(Books(redis, 1))).differences == []


async def test_an_orphan_without_its_key_is_held_once_its_boot_is_accounted_for(redis: Store) -> None:
    id = await opened(redis)
    await send(redis, id, sealed(id)[:-1])
    await boots.heartbeat(redis, {id.boot: {0: 1}}, BootState.ADOPTED)
    async with metering(redis, OTHERS, Timing(tidy=0.1)):
        case = await held(redis)
        found = await booked(redis, id, final=False)
    assert case.reason == REASON
    assert (found.entry.outcome, found.entry.ended) == ("gateway_lost", Ended.UNREADABLE)
    assert found.entry.input_tokens is None
    async with metering(redis, KEYS, Timing(tidy=0.1)):
        await quarantine.retry(redis, case)
        found = await booked(redis, id, final=True)
    assert found.entry.ended == Ended.CUT
    assert await requests(redis) == 1


async def test_what_was_settled_and_comes_again_without_its_key_is_no_case(redis: Store) -> None:
    """A journal is sent again after its key was thrown away."""
    id = await opened(redis)
    await send(redis, id, sealed(id))
    async with metering(redis, KEYS):
        await booked(redis, id, final=True)
    await send(redis, id, sealed(id))
    async with metering(redis, OTHERS), asyncio.timeout(20):
        while await redis.xlen(names.tail(0)):
            await asyncio.sleep(0.02)
    assert await quarantine.cases(Books(redis, 1)) == []
    assert await requests(redis) == 1
    found = await booked(redis, id, final=True)
    assert (found.revision, found.entry.output_tokens) == (1, 20)
