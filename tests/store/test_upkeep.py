"""The hourly duties of meters, on a real Redis with a disk of its own."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from services.meter.meter import Meter
from services.meter.settings import MeterSettings
from services.meter.upkeep import rewrite_append_only_file
from shared.books import totals
from shared.books.books import Books
from shared.contract import tail
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Outcome, Packed
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from tests.support.tails import KEY, records, send

HOURLY = MeterSettings(shards=1, aof_rewrite_hours=1)


def noise() -> bytes:
    """Bytes that packing leaves as they are, without a line end."""
    return os.urandom(2000).translate(None, b"\r\n")


def on_disk(folder: Path, secret: bytes) -> bool:
    """Whether any file holds these bytes."""
    found = False
    for path in folder.rglob("*"):
        if path.is_file():
            try:
                found = found or secret in path.read_bytes()
            except FileNotFoundError:  # a file that was replaced meanwhile
                continue
    return found


async def settled(redis: Store, count: int) -> None:
    meter = Meter(redis, HOURLY, round_seconds=0.1)
    running = asyncio.get_running_loop().create_task(meter.run())
    async with asyncio.timeout(60):
        while sum(int(row["requests"]) for row in (await totals.read(Books(redis, 1), [KEY]))[KEY]) < count:
            await asyncio.sleep(0.05)
    meter.stop()
    await running


async def test_settled_text_goes_from_the_disk(tmp_path: Path) -> None:
    text, request = noise(), noise()
    id = ExchangeId(new_boot(), 0, 0)
    fields = records(id)
    asked = b'{"messages": [{"role": "user", "content": "' + request + b'"}]}'
    body = b": " + text + b"\n\ndata: [DONE]\n\n"
    end = End(Outcome.COMPLETED, 200, "text/event-stream", "", 64, 5, 1, 2, "", Packed.pack(body), Packed.pack(asked))
    fields[-1] = tail.encode(id, len(fields) - 1, end)
    with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)) as url:
        redis = store.connect(url)
        await send(redis, id, fields)
        async with asyncio.timeout(60):
            while not (on_disk(tmp_path, text) and on_disk(tmp_path, request)):
                await asyncio.sleep(0.05)  # it is written within a second
        await settled(redis, 1)
        assert on_disk(tmp_path, text), "the file is append-only: what is deleted stays in it"
        await rewrite_append_only_file({"settings": HOURLY, "store": redis})
        async with asyncio.timeout(60):
            while on_disk(tmp_path, text) or on_disk(tmp_path, request):
                await asyncio.sleep(0.05)
        await redis.aclose()


@pytest.mark.parametrize(("hour", "every", "expected"), [(24, 24, 1), (25, 24, 0), (25, 1, 1), (24, 0, 0)])
async def test_the_file_is_rewritten_every_few_hours(hour: int, every: int, expected: int) -> None:
    redis = Recorded(hour)
    await rewrite_append_only_file({"settings": MeterSettings(aof_rewrite_hours=every), "store": redis})
    assert redis.rewrites == expected


async def test_a_redis_that_may_not_is_no_failure(
    redis: Store, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.acl_setuser("limited", enabled=True, nopass=True, categories=["+@all"], commands=["-bgrewriteaof"])
    limited = store.connect(redis_url)
    await limited.auth("any", username="limited")
    caplog.set_level(logging.INFO)
    await rewrite_append_only_file({"settings": HOURLY, "store": limited})
    assert "settled text stays in it longer" in caplog.text
    await limited.aclose()
    await redis.acl_deluser("limited")


class Recorded:
    """Redis at a given hour, as far as this duty uses it."""

    def __init__(self, hour: int) -> None:
        self.rewrites = 0
        self._hour = hour

    async def time(self) -> tuple[int, int]:
        return self._hour * 3600 + 5, 0

    async def bgrewriteaof(self, **_: Any) -> None:
        self.rewrites += 1
