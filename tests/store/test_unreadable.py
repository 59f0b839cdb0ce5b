"""Answers of which nothing can be read, on a real Redis: held with their bytes, and in the ledger all the while."""

from __future__ import annotations

import asyncio

from services.meter.give_up import give_up
from services.meter.settle import Ledger
from shared.books import ledger, quarantine
from shared.books.audit import audit
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.contract import names, tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Ended
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Fields, Open, Outcome, Packed, StreamEntry
from shared.runtime.store import Store
from tests.store.test_consumer import BOOT, metering, requests
from tests.support.tails import KEY, OPENED_MS, records, send

ID = ExchangeId(BOOT, 0, 0)
PAGE = b"<html><body>Please sign in</body></html>"


def unreadable(id: ExchangeId) -> list[Fields]:
    opened = Open(KEY, Dialect.OPENAI_CHAT, "openai", "gpt-4o", OPENED_MS, True, "/v1/chat/completions")
    end = End(Outcome.COMPLETED, 200, "text/html", "", len(PAGE), 5, 1, 2, "req", Packed.pack(PAGE))
    return [tail.encode(id, 0, opened), tail.encode(id, 1, end)]


async def held(redis: Store, number: int = 1) -> list[quarantine.Case]:
    async with asyncio.timeout(20):
        while len(cases := await quarantine.cases(Books(redis, 1))) != number or await redis.xlen(names.tail(0)):
            await asyncio.sleep(0.02)
    return cases


async def booked(redis: Store) -> LedgerEntry:
    found = await ledger.find(redis, ID)
    assert found is not None
    return found


async def test_it_is_held_with_its_bytes_and_booked_as_unknown(redis: Store) -> None:
    await redis.hset(names.opened(0), BOOT, "1")  # type: ignore[misc]
    await send(redis, ID, unreadable(ID))
    async with metering(redis):
        [case] = await held(redis)
    assert (case.id, case.reason) == (str(ID), "its answer cannot be read")
    assert PAGE in b"".join(entry.fields[b"r"] for entry in case.entries)
    found = await booked(redis)
    assert (found.final, found.revision, found.entry.ended) == (False, 1, Ended.UNREADABLE)
    assert (found.entry.input_tokens, found.entry.cost_microusd) == (None, None)
    assert await requests(redis) == 1
    assert (await audit(Books(redis, 1))).differences == []


async def test_a_retry_that_is_no_better_books_nothing_again(redis: Store) -> None:
    await send(redis, ID, unreadable(ID))
    async with metering(redis):
        [case] = await held(redis)
        await quarantine.retry(redis, case)
        [again] = await held(redis)
    assert len(again.entries) == len(case.entries)
    assert ((await booked(redis)).revision, await requests(redis)) == (1, 1)


async def test_a_retry_that_can_read_it_amends_it(redis: Store) -> None:
    await send(redis, ID, unreadable(ID))
    opened, _, end = records(ID)
    async with metering(redis):
        [case] = await held(redis)
        fields = (opened, end | {b"s": b"1"})
        entries = tuple(map(StreamEntry, [entry.id for entry in case.entries], fields))
        await quarantine.retry(redis, quarantine.Case(case.id, 0, case.reason, entries))
        async with asyncio.timeout(20):
            while not (found := await booked(redis)).final:
                await asyncio.sleep(0.02)
    assert (found.revision, found.entry.ended) == (2, Ended.WHOLE)
    assert (found.entry.input_tokens, found.entry.output_tokens) == (10, 20)
    assert await requests(redis) == 1
    assert await quarantine.cases(Books(redis, 1)) == []


async def test_giving_it_up_makes_it_final(redis: Store) -> None:
    await redis.hset(names.opened(0), BOOT, "1")  # type: ignore[misc]
    await send(redis, ID, unreadable(ID))
    async with metering(redis):
        [case] = await held(redis)
    assert await give_up(redis, ID)
    await quarantine.drop(redis, case)
    found = await booked(redis)
    assert (found.final, found.revision, found.entry.ended) == (True, 2, Ended.UNREADABLE)
    assert (await Ledger(redis).final([ID]), await requests(redis)) == ([True], 1)
    assert not await redis.exists(names.provisional(0))
    assert await give_up(redis, ID) is False
    assert (await audit(Books(redis, 1))).differences == []


async def test_what_has_left_the_ledger_can_be_dropped(redis: Store) -> None:
    await send(redis, ID, unreadable(ID))
    async with metering(redis):
        [case] = await held(redis)
    await redis.xtrim(names.ledger(0), maxlen=0)
    assert await give_up(redis, ID) is False
    await quarantine.drop(redis, case)
    assert await Ledger(redis).final([ID]) == [True]
    assert not await redis.exists(names.provisional(0))


async def test_many_do_not_hold_up_the_others(redis: Store) -> None:
    good = ExchangeId(BOOT, 0, 9)
    for n in range(5):
        await send(redis, ExchangeId(BOOT, 0, n), unreadable(ExchangeId(BOOT, 0, n)))
    await send(redis, good, records(good))
    async with metering(redis):
        await held(redis, 5)
    assert await requests(redis) == 6
    assert await Ledger(redis).final([good]) == [True]
