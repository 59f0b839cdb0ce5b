"""The gateway's writer on a real Redis that comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.gateway.writer import RecordWriter
from shared import embedded, names, store
from shared.errors import StoreUnavailable
from shared.ids import ExchangeId, new_boot
from shared.settings import Settings
from shared.store import Store
from shared.tasks import Tasks
from tests.support.tails import records

ID = ExchangeId(new_boot(), 0, 0)
OPENED, SEGMENT, END = records(ID)


async def test_an_open_is_there_when_it_returns(redis: Store) -> None:
    writer, tasks = RecordWriter(redis), Tasks()
    run = tasks.start(writer.run())
    await writer.put_durable(0, OPENED, 5)
    assert await redis.xlen(names.tail(0)) == 1
    writer.put(0, SEGMENT)
    writer.put(0, END)
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
    writer.put(0, END)
    with embedded.redis_url(settings):
        async with asyncio.timeout(10):
            while await redis.xlen(names.tail(0)) < 2:
                await asyncio.sleep(0.05)
        entries = await redis.xrange(names.tail(0))
        assert [fields[b"r"] for _, fields in entries] == [SEGMENT[b"r"], END[b"r"]]  # the open was given up
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
