"""The end of a process that follows the ledger: what is there is read, and nobody waits for a sink that is away."""

from __future__ import annotations

import asyncio

import pytest

from services.meter.settle import Ledger, Settlement
from shared.books.following import Following, Timing
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.sinks import MemorySink

BOOT = new_boot()
AT_ONCE = Timing(leases=0, idle=3600, again=0.01, most=0.02, last=3600)


async def book(redis: Store, n: int) -> None:
    id = ExchangeId(BOOT, 0, n)
    await Ledger(redis).settle([Settlement(id, entry(id), [], final=True)])


async def test_what_was_settled_before_the_end_is_read_before_the_end(redis: Store) -> None:
    sink = MemorySink()
    stopping = asyncio.Event()
    waits = Following(redis, sink, shards=1, journal_keep=60, count=2, timing=AT_ONCE)
    running = asyncio.get_running_loop().create_task(waits.run(stopping))
    await book(redis, 0)
    async with asyncio.timeout(30):
        while not sink.tended:  # and it has read what there was
            await asyncio.sleep(0.01)
    for n in range(1, 6):
        await book(redis, n)
    stopping.set()
    await running
    assert len(sink.rows) == 6
    assert sink.closed


async def test_the_end_does_not_wait_for_a_sink_that_is_away(redis: Store, caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()
    stopping = asyncio.Event()
    following = Following(redis, sink, shards=1, journal_keep=60, timing=AT_ONCE)
    running = asyncio.get_running_loop().create_task(following.run(stopping))
    async with asyncio.timeout(30):
        while not sink.tended:  # and it has read what there was
            await asyncio.sleep(0.01)
    await book(redis, 0)
    sink.away = True
    stopping.set()
    await running
    assert sink.rows == {}
    assert "has not read all that is there" in caplog.text
