"""The control API's own connections to Redis, so that neither it nor the relay waits for the other, and its limit on
reports that run at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from shared.access import pepper
from shared.access.keyring import KeyRing
from shared.access.keys import KeyRecord
from shared.books import followers, running, streams, version
from shared.books.archive import FOLLOWER, Archive
from shared.books.audit import unsettled
from shared.books.books import Books
from shared.books.followers import Coverage
from shared.books.provider_health import CredentialHealth, merged
from shared.books.reports import Between
from shared.runtime import store
from shared.runtime.errors import Refused, SettingsError, StoreUnavailable
from shared.runtime.settings import Settings
from shared.runtime.store import Store

_REPORTS = 2  # at once; more of them wait
_WAIT_SECONDS = 10.0
_REPORT_SECONDS = 30.0


class ControlPlane:
    """One per process."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        providers: frozenset[str],
        archive: Callable[[], Archive] | None = None,
    ) -> None:
        """`archive` is called with the first question for it: a database's libraries take memory, and a while."""
        self.settings = settings
        self._make_archive = archive
        self._archive: asyncio.Future[Archive] | None = None
        self.providers = providers
        self.store: Store = store.connect(redis_url)
        self.keyring = KeyRing(self.store, settings)
        self._reports = asyncio.Semaphore(_REPORTS)

    async def books(self) -> Books:
        """The books, with as many shards as there are now."""
        return await Books.find(self.store, self.settings.shards)

    async def pepper(self) -> bytes:
        return await pepper.load(self.store, self.settings)

    async def healths(self) -> list[CredentialHealth]:
        """The health of every credential that a running gateway has."""
        return merged(await running.gateways(self.store))

    async def check(self) -> None:
        """SettingsError where this Redis is unfit, StoreError where it does not answer."""
        if not await version.check(self.store):
            raise StoreUnavailable("Redis does not answer")
        await pepper.check(self.store, self.settings)

    async def now(self) -> datetime:
        """By Redis's clock, which all gateways share."""
        return datetime.fromtimestamp(await streams.now_ms(self.store) / 1000, UTC)

    async def pending(self, key: KeyRecord | None) -> int:
        """How many exchanges are open or wait to be settled, and so are not in any total: of one key, or of all."""
        found = 0
        for shard in range((await self.books()).shards):
            ids = await streams.exchanges(self.store, shard, key.hash if key else "")
            found += len(await unsettled(self.store, ids)) if ids else 0
        return found

    @asynccontextmanager
    async def report(self, request: Request) -> AsyncIterator[Between]:
        """Room for one report; Refused with 503 where none comes free in time. The report awaits the yielded function
        between two steps, which ends it where it takes too long or its caller has left."""
        deadline = time.monotonic() + _REPORT_SECONDS
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._reports.acquire()
        except TimeoutError:
            raise Refused(503, "other reports are running; try again") from None

        async def between() -> None:
            if time.monotonic() > deadline:
                raise Refused(503, "the report takes too long; ask for a shorter range, or for one key")
            if await request.is_disconnected():
                raise Refused(503, "the caller of the report has left")

        try:
            yield between
        finally:
            self._reports.release()

    async def archive(self) -> Archive | None:
        """The database that keeps the books; None where there is none, or no follower has begun to fill it.

        SinkError where it does not answer, SettingsError where its URL is wrong."""
        if self._make_archive is None:
            return None
        if self._archive is None:
            self._archive = asyncio.ensure_future(asyncio.to_thread(self._make_archive))
        found = await asyncio.shield(self._archive)
        return found if await found.ready() else None

    async def coverage(self, now: datetime) -> Coverage | None:
        """What the database has; None where Redis knows no follower that writes it."""
        return await followers.coverage(await self.books(), FOLLOWER, int(now.timestamp() * 1000))

    async def close(self) -> None:
        if self._archive is not None:
            with suppress(SettingsError):
                await (await self._archive).close()
        await self.store.aclose()


def _plane(request: Request) -> ControlPlane:
    plane: ControlPlane = request.app.state.control
    return plane


Plane = Annotated[ControlPlane, Depends(_plane)]
