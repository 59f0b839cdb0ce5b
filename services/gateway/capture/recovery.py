"""Keeps the journal's promise: tells Redis that this boot lives, sends again what a Redis that is
another one now may have lost, ships what dead gateways left, and deletes what is no longer needed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from services.gateway.capture.replay import OrphanedJournal
from services.gateway.capture.writer import RecordWriter
from shared.books import boots, streams
from shared.books.boots import BootState
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeIds
from shared.contract.tail import Fields
from shared.runtime.errors import StoreError
from shared.runtime.store import Store

_ROUND_SECONDS = 1.0
_ADOPT_SECONDS = 10.0
_YIELD_RECORDS = 50  # then the event loop gets a turn

log = logging.getLogger(__name__)


class JournalRecovery:
    """Two loops beside the writer: one tells Redis that the boot lives, the other sends again, which may take long."""

    def __init__(self, store: Store, own: Journal, root: Path, writer: RecordWriter, ids: ExchangeIds) -> None:
        self._store = store
        self._journal = own
        self._root = root
        self._writer = writer
        self._ids = ids
        self._server: str | None = None
        self._to_send_again = False
        self._sent_again = 0.0  # when the last such records were queued, monotonic
        self._looked: float | None = None
        self._unreadable: set[str] = set()  # orphaned journals of later versions, for others to adopt

    async def beat(self) -> None:
        """Tell that the boot lives, and look who listens; for as long as the process lives."""
        while True:
            await self._guarded(self._beat)
            await asyncio.sleep(_ROUND_SECONDS)

    async def resend(self) -> None:
        """Send again what Redis may have lost, and what dead gateways left; for as long as the process lives."""
        while True:
            await self._guarded(self._resend)
            await asyncio.sleep(_ROUND_SECONDS)

    async def leave(self, *, shipped: bool) -> bool:
        """The process ends. Whether its exchanges are accounted for: everything is in Redis, which has been told."""
        if not shipped or self._to_send_again:
            return False
        try:
            await boots.heartbeat(self._store, self._ids.opened(), BootState.LEFT)
        except StoreError:
            return False
        return True

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StoreError as exc:
            self._writer.say(False, exc)
        except OSError as exc:
            log.warning("journals cannot be looked after: %s", exc)
        except Exception:  # a bug, here or in the client library, must not make a living gateway look dead
            log.exception("the journal recovery failed in a way nobody expected")

    async def _beat(self) -> None:
        server = await streams.server_id(self._store)
        if self._server not in (None, server):
            log.warning("Redis is another server, or has started anew: sending again what it may have lost")
            self._to_send_again = True
        self._server = server
        self._writer.say(True)
        await boots.heartbeat(self._store, self._ids.opened(), BootState.LIVE)
        shipped = self._writer.shipped
        # What is sent again is only in the queue for a while, and its files are old enough to be deleted.
        if not self._to_send_again and shipped > self._sent_again:
            self._journal.tidy(shipped)

    async def _resend(self) -> None:
        if self._writer.left_to_journal is not None and not self._writer.full and self._writer.available:
            self._to_send_again = True
        if self._to_send_again:
            self._journal.flush()
            self._writer.left_to_journal = None
            server = self._server
            await self._send_again(replay.records(self._journal.folder))
            self._to_send_again = self._server != server  # it may have gone again meanwhile
        if self._to_send_again or self._writer.left_to_journal is not None or not self._writer.available:
            return
        if self._looked is None or time.monotonic() - self._looked > _ADOPT_SECONDS:
            self._looked = time.monotonic()
            for orphan in replay.orphaned_journals(self._root, but=self._unreadable):
                await self._adopt(orphan)

    async def _adopt(self, orphan: OrphanedJournal) -> None:
        shipped = False
        server = await streams.server_id(self._store)
        try:
            sent = await self._send_again(orphan.records())
            log.warning("adopted the journal of a gateway that died: %s, %d records", orphan.folder.name, sent)
            queued = time.monotonic()
            while self._writer.queued_since <= queued:
                await asyncio.sleep(0.05)
            if await streams.server_id(self._store) != server or self._writer.left_to_journal is not None:
                return  # some of it may be lost, or wait here: it is adopted again
            await boots.heartbeat(self._store, orphan.opened, BootState.ADOPTED)
            shipped = await streams.server_id(self._store) == server
        except BadRecord as exc:
            self._unreadable.add(orphan.folder.name)
            log.error("the journal of a gateway that died cannot be read and stays: %s: %s", orphan.folder, exc)  # noqa: TRY400  # the reason is all there is to say
        finally:
            orphan.close(shipped=shipped)

    async def _send_again(self, records: Iterator[tuple[int, Fields]]) -> int:
        """Queue records out of a journal; how many. Meters know which of them they have."""
        sent = 0
        for shard, fields in records:
            await self._writer.put_again(shard, fields)
            sent += 1
            if sent % _YIELD_RECORDS == 0:
                await asyncio.sleep(0)
        self._sent_again = time.monotonic()
        return sent
