"""The gateway's writer and tap on a real Redis that comes and goes, with a real journal below them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from services.gateway.capture.tap import ExchangeTap, Tap
from services.gateway.capture.writer import RecordWriter
from shared.contract import names, tail
from shared.contract.dialects import Dialect
from shared.contract.ids import ExchangeId, ExchangeIds, new_boot
from shared.contract.tail import End, Fields, Open, Outcome, Packed, Segment
from shared.runtime import embedded, store
from shared.runtime.errors import JournalFailed
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from shared.runtime.tasks import Tasks
from tests.support.tails import KEY, OPENED_MS, records

ID = ExchangeId(new_boot(), 0, 0)
OPENED, SEGMENT, LAST = records(ID)
OPEN = Open(KEY, Dialect.OPENAI_CHAT, "openai", "gpt-4o", OPENED_MS, True, "/")
END = End(Outcome.COMPLETED, 200, "text/event-stream", "", 0, 2, 3, 4, "req", Packed(b""))


@asynccontextmanager
async def writing(redis: Store, folder: Path, memory: int = 1 << 20) -> AsyncIterator[tuple[RecordWriter, Journal]]:
    journal = Journal(folder, new_boot(), limit=1 << 24, keep=60)
    writer, tasks = RecordWriter(redis, journal, memory), Tasks()
    run = tasks.start(writer.run())
    yield writer, journal
    await writer.close(run, 5)
    journal.close(complete=False)


async def length(redis: Store, wanted: int) -> None:
    async with asyncio.timeout(10):
        while await redis.xlen(names.tail(0)) != wanted:
            await asyncio.sleep(0.02)


async def test_records_leave_by_themselves(redis: Store, tmp_path: Path) -> None:
    async with writing(redis, tmp_path) as (writer, _):
        for record in (OPENED, SEGMENT, LAST):
            writer.put(0, record)
        await length(redis, 3)
        assert writer.pending_bytes == 0


async def test_records_wait_for_redis_and_keep_their_order(tmp_path: Path) -> None:
    redis = store.connect(f"unix://{tmp_path}/valkey/valkey.sock", timeout=0.5)
    async with writing(redis, tmp_path / "journal") as (writer, _):
        for record in (OPENED, SEGMENT, LAST):
            writer.put(0, record)
        waited_from = writer.shipped
        await asyncio.sleep(0.2)
        assert not writer.available
        assert writer.shipped == waited_from
        with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
            await length(redis, 3)
            entries = await redis.xrange(names.tail(0))
            assert [fields[b"r"] for _, fields in entries] == [OPENED[b"r"], SEGMENT[b"r"], LAST[b"r"]]
            assert writer.shipped > waited_from
            await redis.aclose()


async def test_a_redis_that_refuses_writes_is_waited_for(redis: Store, tmp_path: Path) -> None:
    async with writing(redis, tmp_path) as (writer, _):
        await redis.config_set("maxmemory", "1kb")
        writer.put(0, OPENED)
        await asyncio.sleep(0.4)
        assert not writer.available
        assert writer.pending_bytes > 0
        await redis.config_set("maxmemory", "0")
        await length(redis, 1)


class Slow:
    """Appends records where they are few enough; where they are not, its reply is lost, and Redis has them."""

    def __init__(self, redis: Store, most: int) -> None:
        self.batches: list[int] = []
        self._redis = redis
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    def pipeline(self, *, transaction: bool) -> Any:
        pipeline = self._redis.pipeline(transaction=transaction)
        execute = pipeline.execute

        async def slow(**options: Any) -> Any:
            size = sum(len(part) for args, _ in pipeline.command_stack for part in args if isinstance(part, bytes))
            self.batches.append(size)
            replies = await execute(**options)
            if size > self._most:
                raise TimeoutError
            return replies

        pipeline.execute = slow  # type: ignore[method-assign,assignment]
        return pipeline


async def test_batches_are_bounded_in_bytes_and_shrink_while_replies_are_lost(redis: Store, tmp_path: Path) -> None:
    count, most = 300, 300_000
    body = tail.encode(ID, 1, Segment(Packed(os.urandom(60_000))))
    slow = Slow(redis, most)
    async with writing(cast("Store", slow), tmp_path, memory=1 << 30) as (writer, _):
        for number in range(count):
            writer.put(0, body | {b"s": b"%d" % (number + 1)})
        async with asyncio.timeout(60):
            while writer.pending_bytes:
                await asyncio.sleep(0.02)
    assert max(slow.batches) < 5 << 20
    sent_for_nothing = sum(size for size in slow.batches if size > most)
    assert sent_for_nothing < 2 * count * 60_000
    seqs = {fields[b"s"] for _, fields in await redis.xrange(names.tail(0))}
    assert seqs == {b"%d" % (number + 1) for number in range(count)}


async def test_what_memory_cannot_hold_waits_in_the_journal(redis: Store, tmp_path: Path) -> None:
    async with writing(redis, tmp_path, memory=1) as (writer, journal):
        tap = Tap(ExchangeIds(ID.boot, 1), writer, journal).open(OPEN)  # fills the memory
        tap.feed(b"data: {}\n\n")
        tap.cut()
        assert writer.left_to_journal is not None
        assert writer.shipped <= writer.left_to_journal
        tap.end(END, None)
        await length(redis, 1)
        journal.flush()
        assert [seq for seq, _ in _decoded(replay.records(journal.folder))] == [0, 1, 2]


def _decoded(records: object) -> list[tuple[int, tail.Record]]:
    assert hasattr(records, "__iter__")
    return [tail.decode(fields)[1:] for _, fields in records]


async def _fed(tap: ExchangeTap) -> None:
    tap.head(tail.Head(200, "text/event-stream", "gzip"))
    for number in range(3):
        tap.feed(b"data: %d\n\n" % number)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_journal_gives_back_the_records_the_tap_had_made(redis: Store, tmp_path: Path, ends: bool) -> None:
    async with writing(redis, tmp_path) as (writer, journal):
        taps = Tap(ExchangeIds(ID.boot, 1), writer, journal)
        tap = taps.open(OPEN)
        await _fed(tap)
        taps.tick()
        await _fed(tap)
        tap.cut()
        await _fed(tap)
        taps.tick()
        if ends:
            tap.end(END, None)
        while writer.pending_bytes:
            await asyncio.sleep(0.02)
        taken: list[Fields] = [fields for _, fields in await redis.xrange(names.tail(0))]
        replayed = _decoded(replay.records(journal.folder))
        assert replayed == _decoded([(0, fields) for fields in taken])
        assert not list(replay.orphaned_journals(tmp_path))  # it is ours, and we live
    [orphan] = replay.orphaned_journals(tmp_path)
    adopted = _decoded(orphan.records())
    assert adopted[: len(replayed)] == replayed
    if ends:
        assert len(adopted) == len(replayed)
    else:
        [(seq, rest)] = adopted[len(replayed) :]
        assert seq == len(replayed)
        assert isinstance(rest, Segment)
        assert rest.body.unpack() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    first = adopted[1][1]
    assert isinstance(first, Segment)
    assert first.head == tail.Head(200, "text/event-stream", "gzip")
    assert orphan.opened == {ID.boot: {0: 1}}
    orphan.close(complete=True)
    assert not list(replay.orphaned_journals(tmp_path))


@pytest.mark.parametrize("unkept", [False, True])
async def test_a_journal_that_is_full_refuses_unless_told_otherwise(
    redis: Store, tmp_path: Path, unkept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(redis, tmp_path) as (writer, journal):
        for number in range(2):  # sixteen megabytes are its limit
            journal.record(f"{new_boot()}.0.{number}", 1, bytes(9 << 20))
            journal.flush()
        taps = Tap(ExchangeIds(ID.boot, 1), writer, journal, unkept=(lambda: None) if unkept else None)
        if not unkept:
            with pytest.raises(JournalFailed):
                taps.open(OPEN)
            return
        taps.open(OPEN).end(END, None)
        assert "its usage may be lost" in caplog.text
        await length(redis, 2)
