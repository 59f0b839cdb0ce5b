"""Answers questions about the books from the database: in threads and connections of their own, which no writer waits
for, and within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from sqlalchemy.engine import Connection

from services.sinks import exporting, finding, summing
from services.sinks.database import Database
from shared.books.exchanges import Page, Place, Wanted
from shared.books.exporting import Charge, Settled, Usage
from shared.books.summing import Kept, Question, Sum
from shared.runtime.errors import SinkUnavailable

T = TypeVar("T")
_AT_ONCE = 2  # questions
_SECONDS = 10.0  # that one may take, once it has a connection
_WAIT_SECONDS = 25.0  # with connecting, and with those before it


class SqlArchive:
    """An `Archive` that a database answers for."""

    def __init__(self, url: str, *, seconds: float = _SECONDS) -> None:
        """No connection is made yet. `seconds`: that one question may take. SettingsError for a URL that is none."""
        self._database = Database(url, statement_seconds=seconds, connections=_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="archive")
        self._ready = False

    async def ready(self) -> bool:
        if not self._ready:
            self._ready = await self._run(self._database.has_tables)
        return self._ready

    async def find(self, wanted: Wanted, *, after: Place | None, limit: int) -> Page:
        return await self._ask(lambda connection: finding.find(connection, wanted, after, limit))

    async def sums(self, question: Question) -> list[Sum]:
        return await self._ask(lambda connection: summing.sums(connection, question))

    async def kept(self) -> Kept:
        return await self._ask(summing.kept)

    async def settled(
        self, after: tuple[datetime, str] | None, since: datetime | None, until: datetime, limit: int
    ) -> list[Settled]:
        return await self._ask(lambda connection: exporting.settled(connection, after, since, until, limit))

    async def usage(self, after: Usage | None, since: datetime | None, until: datetime, limit: int) -> list[Usage]:
        return await self._ask(lambda connection: exporting.usage(connection, after, since, until, limit))

    async def charges(self, since: datetime, until: datetime) -> list[Charge]:
        return await self._ask(lambda connection: exporting.charges(connection, since, until))

    async def first_opened(self) -> datetime | None:
        return await self._ask(exporting.first_opened)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._database.close()

    async def _ask(self, question: Callable[[Connection], T]) -> T:
        def answered() -> T:
            with self._database.ask() as connection:
                return question(connection)

        return await self._run(answered)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do this in one of the threads. SinkUnavailable where no answer comes in time."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        done, _ = await asyncio.wait({future}, timeout=_WAIT_SECONDS)
        if not done:
            future.cancel()
            future.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise SinkUnavailable("the database does not answer")
        return future.result()
