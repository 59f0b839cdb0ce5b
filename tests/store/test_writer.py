"""The gateway's writer on a real Redis that comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.gateway.tap import Tap
from services.gateway.writer import OpenUndecided, RecordWriter
from shared import embedded, names, store, tail
from shared.dialects import Dialect
from shared.errors import StoreUnavailable
from shared.ids import ExchangeId, new_boot
from shared.settings import Settings
from shared.store import Store
from shared.tail import End, Open, Outcome
from shared.tasks import Tasks
from tests.support.tails import KEY, OPENED_MS, records

ID = ExchangeId(new_boot(), 0, 0)
OPENED, SEGMENT, LAST = records(ID)


async def started(writer: RecordWriter, tasks: Tasks) -> asyncio.Task[None]:
    run = tasks.start(writer.run())
    async with asyncio.timeout(5):
        while not writer.available:
            await asyncio.sleep(0.01)
    return run


async def test_an_open_is_there_when_it_returns(redis: Store) -> None:
    writer, tasks = RecordWriter(redis), Tasks()
    run = await started(writer, tasks)
    await writer.put_durable(0, OPENED, 5)
    assert await redis.xlen(names.tail(0)) == 1
    writer.put(0, SEGMENT)
    writer.put(0, LAST)
    await writer.close(run, 5)
    assert await redis.xlen(names.tail(0)) == 3
    assert writer.pending_bytes == 0


async def test_records_wait_for_redis_and_keep_their_order(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=None)
    redis = store.connect(f"unix://{tmp_path}/valkey/valkey.sock", timeout=0.5)
    writer, tasks = RecordWriter(redis), Tasks()
    run = tasks.start(writer.run())
    with pytest.raises(StoreUnavailable):
        await writer.put_durable(0, OPENED, 0.3)
    assert not writer.available
    writer.put(0, SEGMENT)
    writer.put(0, LAST)
    with embedded.redis_url(settings):
        async with asyncio.timeout(10):
            while await redis.xlen(names.tail(0)) < 2:
                await asyncio.sleep(0.05)
        entries = await redis.xrange(names.tail(0))
        assert [fields[b"r"] for _, fields in entries] == [SEGMENT[b"r"], LAST[b"r"]]  # the open was given up
        await writer.close(run, 5)
        await redis.aclose()


async def test_a_redis_that_refuses_writes_is_waited_for(redis: Store) -> None:
    writer, tasks = RecordWriter(redis), Tasks()
    run = tasks.start(writer.run())
    await redis.config_set("maxmemory", "1kb")
    writer.put(0, OPENED)
    await asyncio.sleep(0.4)
    assert not writer.available
    assert writer.pending_bytes > 0
    await redis.config_set("maxmemory", "0")
    await writer.close(run, 5)
    assert await redis.xlen(names.tail(0)) == 1


async def test_an_open_that_was_given_up_but_may_be_there_gets_its_end(redis: Store) -> None:
    writer, tasks = RecordWriter(redis), Tasks()
    tap, run = Tap(writer, 1 << 20), await started(writer, tasks)
    opened = Open(KEY, Dialect.OPENAI_CHAT, "openai", "gpt-4o", OPENED_MS, True, "/")
    await redis.client_pause(600)
    with pytest.raises(OpenUndecided):
        await tap.open(ID, opened, 0.2)
    async with asyncio.timeout(10):
        while await redis.xlen(names.tail(0)) < 2:
            await asyncio.sleep(0.05)
    decoded = [tail.decode(fields) for _, fields in await redis.xrange(names.tail(0))]
    assert {(id, seq) for id, seq, _ in decoded} == {(ID, 0), (ID, 1)}
    end = decoded[-1][2]
    assert isinstance(end, End)
    assert (end.outcome, end.response_bytes) == (Outcome.UPSTREAM_FAILED, 0)
    assert len(tap) == 0
    await writer.close(run, 5)


async def test_an_open_that_is_cancelled_gets_its_end_too(redis: Store) -> None:
    writer, tasks = RecordWriter(redis), Tasks()
    tap, run = Tap(writer, 1 << 20), await started(writer, tasks)
    opened = Open(KEY, Dialect.OPENAI_CHAT, "openai", "gpt-4o", OPENED_MS, True, "/")
    opening = asyncio.get_running_loop().create_task(tap.open(ID, opened, 5))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await writer.close(run, 5)
    assert len({fields[b"s"] for _, fields in await redis.xrange(names.tail(0))}) == 2
