"""Journals of dead gateways on a disk: adopted, or left where they cannot be read."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from services.gateway.capture.journal import Journal
from services.gateway.capture.recovery import JournalRecovery
from services.gateway.capture.writer import RecordWriter
from shared.books import boots, streams
from shared.books.boots import BootState
from shared.contract import frames, tail
from shared.contract.ids import ExchangeId, ExchangeIds, new_boot
from shared.runtime.store import Store
from shared.runtime.tasks import Tasks
from tests.support.tails import records


def dead(root: Path, *, readable: bool) -> tuple[Path, ExchangeId]:
    """The journal of a gateway that died, with one open record, and perhaps a frame from the future behind it."""
    id = ExchangeId(new_boot(), 0, 0)
    journal = Journal(root, id.boot, limit=1 << 20, keep=60)
    journal.open(str(id), records(id)[0][b"r"])
    journal.close(complete=False)
    [path] = journal.folder.glob("*.journal")
    if not readable:
        frame = frames.encode([])
        payload = bytes([frames.VERSION + 1]) + frame[frames.OVERHEAD + 1 :]
        path.write_bytes(path.read_bytes() + frames.framed(payload))
    return journal.folder, id


async def test_a_journal_that_cannot_be_read_stays_and_is_no_hindrance(
    redis: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, _ = dead(tmp_path, readable=False)
    good, id = dead(tmp_path, readable=True)
    ids = ExchangeIds(new_boot(), 1)
    own = Journal(tmp_path, ids.boot, limit=1 << 20, keep=60)
    writer, tasks = RecordWriter(redis, own, 1 << 20), Tasks()
    writing = tasks.start(writer.run(), "writer")
    resending = tasks.start(JournalRecovery(redis, own, tmp_path, writer, ids).resend(), "resend")
    with caplog.at_level(logging.ERROR):
        async with asyncio.timeout(20):
            while good.exists():
                await asyncio.sleep(0.02)
    resending.cancel()
    await writer.close(writing, 5)
    own.close(complete=True)
    assert list(bad.glob("*.journal"))
    assert str(bad) in caplog.text
    assert (await boots.find(redis, [id.boot]))[id.boot].accounted
    packed = await streams.open_record(redis, id)
    assert packed is not None
    assert tail.decode_open(packed).key


async def test_an_emptied_redis_is_noticed_and_gets_again_what_is_in_the_journal(
    redis: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = ExchangeIds(new_boot(), 1)
    own = Journal(tmp_path, ids.boot, limit=1 << 20, keep=60)
    writer, tasks = RecordWriter(redis, own, 1 << 20), Tasks()
    recovery = JournalRecovery(redis, own, tmp_path, writer, ids)
    writing = tasks.start(writer.run(), "writer")
    recovering = [tasks.start(recovery.beat(), "beat"), tasks.start(recovery.resend(), "resend")]
    id = ids.next()
    opened = records(id)[0]
    own.open(str(id), opened[b"r"])
    writer.put(id.shard, opened)
    async with asyncio.timeout(60):
        for _ in range(2):
            while await streams.open_record(redis, id) is None or ids.boot not in await boots.known(redis):
                await asyncio.sleep(0.02)
            await redis.flushall()
        while await streams.open_record(redis, id) is None:
            await asyncio.sleep(0.02)
    for task in recovering:
        task.cancel()
    await writer.close(writing, 5)
    own.close(complete=True)
    assert caplog.text.count("Redis was emptied") == 2


async def test_a_heartbeat_says_whether_redis_knew_the_boot(redis: Store) -> None:
    boot = new_boot()
    said = [(await boots.heartbeat(redis, {boot: {0: 1}}, BootState.LIVE)).known for _ in range(3)]
    await redis.flushall()
    said += [(await boots.heartbeat(redis, {boot: {0: 1}}, BootState.LIVE)).known for _ in range(2)]
    assert said == [False, True, True, False, True]
