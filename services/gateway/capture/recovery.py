"""Journal recovery: keeps the journal's promise.

It tells Redis that this boot lives, sends again the records that Redis may have lost, adopts the journals of dead
gateways (decision 16), and deletes files that are no longer needed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from services.gateway.capture.replay import OrphanedJournal
from services.gateway.capture.writer import RecordWriter
from shared.books import boots, streams
from shared.books.boots import BootState, Heard
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeIds
from shared.contract.tail import Fields
from shared.runtime.errors import StoreError
from shared.runtime.store import Store

_ROUND_SECONDS = 1.0
_ADOPT_SECONDS = 10.0
_YIELD_RECORDS = 50  # then the event loop gets a turn

log = logging.getLogger(__name__)


class Bulletin(Protocol):
    """What heartbeats take along, and bring back."""

    def said(self) -> bytes:
        """What this gateway says of itself; nothing where that is not new."""

    async def heard(self, heard: Heard) -> None:
        """What a heartbeat brings back."""


class JournalRecovery:
    """Two loops beside the writer: one sends heartbeats, the other sends records again, which may take long."""

    def __init__(
        self,
        store: Store,
        own: Journal,
        root: Path,
        writer: RecordWriter,
        ids: ExchangeIds,
        bulletin: Bulletin | None = None,
    ) -> None:
        self._store = store
        self._journal = own
        self._root = root
        self._writer = writer
        self._ids = ids
        self._bulletin = bulletin
        self._server: str | None = None
        self._known = False  # Redis has heard of this boot
        self._to_send_again = False
        self._sent_again = 0.0  # when records were last queued again, monotonic
        self._looked: float | None = None  # for orphaned journals, monotonic
        self._unreadable: set[str] = set()  # orphaned journals of later versions, for others to adopt

    async def beat(self) -> None:
        """Send heartbeats, and notice another server; for as long as the process lives."""
        while True:
            await self._guarded(self._beat)
            await asyncio.sleep(_ROUND_SECONDS)

    async def resend(self) -> None:
        """Send again the records that Redis may have lost, and those of dead gateways, while the process lives."""
        while True:
            await self._guarded(self._resend)
            await asyncio.sleep(_ROUND_SECONDS)

    async def leave(self, *, complete: bool) -> bool:
        """Tell Redis that the process ends. `complete`: Redis has every record. Returns whether the boot is accounted
        for, so that its journal is not needed any more."""
        if not complete or self._to_send_again:
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
            log.warning("journals cannot be read: %s", exc)
        except Exception:  # a bug, here or in the client library, must not make a living gateway look dead
            log.exception("the journal recovery failed unexpectedly")

    async def _beat(self) -> None:
        server = await streams.server_id(self._store)
        if self._server not in (None, server):
            log.warning("Redis is another server, or has restarted: sending again the records that it may have lost")
            self._to_send_again = True
        self._server = server
        self._writer.say(True)
        bulletin = self._bulletin
        said = {self._ids.boot: bulletin.said()} if bulletin is not None else None
        heard = await boots.heartbeat(self._store, self._ids.opened(), BootState.LIVE, said)
        if self._known and not heard.known:
            log.error(
                "Redis was emptied: sending again the records that are in the journal; what is older is lost there"
            )
            self._to_send_again = True
        self._known = True
        shipped = self._writer.shipped
        # Records that are sent again are only in the queue for a while, and their files are old enough to be deleted.
        if not self._to_send_again and shipped > self._sent_again:
            self._journal.tidy(shipped)
        if bulletin is not None:
            await bulletin.heard(heard)

    async def _resend(self) -> None:
        if self._writer.left_to_journal is not None and not self._writer.full and self._writer.available:
            self._to_send_again = True
        if self._to_send_again:
            self._journal.flush()
            self._writer.left_to_journal = None
            server = self._server
            await self._send_again(replay.records(self._journal.folder))
            self._to_send_again = self._server != server  # the server may have changed again meanwhile
        if self._to_send_again or self._writer.left_to_journal is not None or not self._writer.available:
            return
        if self._looked is None or time.monotonic() - self._looked > _ADOPT_SECONDS:
            self._looked = time.monotonic()
            for orphan in replay.orphaned_journals(self._root, but=self._unreadable):
                await self._adopt(orphan)

    async def _adopt(self, orphan: OrphanedJournal) -> None:
        complete = False
        server = await streams.server_id(self._store)
        try:
            sent = await self._send_again(orphan.records())
            log.warning("adopted the journal of a gateway that died: %s, %d records", orphan.folder.name, sent)
            queued = time.monotonic()
            while self._writer.queued_since <= queued:
                await asyncio.sleep(0.05)
            if await streams.server_id(self._store) != server or self._writer.left_to_journal is not None:
                return  # some records may be lost, or wait here: the journal is adopted again
            await boots.heartbeat(self._store, orphan.opened, BootState.ADOPTED)
            complete = await streams.server_id(self._store) == server
        except BadRecord as exc:
            self._unreadable.add(orphan.folder.name)
            log.error("the journal of a gateway that died cannot be read and stays: %s: %s", orphan.folder, exc)  # noqa: TRY400  # a traceback would add nothing
        finally:
            orphan.close(complete=complete)

    async def _send_again(self, records: Iterator[tuple[int, Fields]]) -> int:
        """Queue records of a journal; returns how many. Meters recognise those that they have."""
        sent = 0
        for shard, fields in records:
            await self._writer.put_again(shard, fields)
            sent += 1
            if sent % _YIELD_RECORDS == 0:
                await asyncio.sleep(0)
        self._sent_again = time.monotonic()
        return sent
