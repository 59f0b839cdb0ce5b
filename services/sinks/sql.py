"""The sink that keeps the books in a database: rows, usage by hour and cursors change in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.sinks import postgres, sqlite
from services.sinks.database import Database
from services.sinks.rows import latest, row
from services.sinks.settings import SinkSettings
from services.sinks.tables import CURSORS, KEPT, USAGE
from shared.books.archive import FOLLOWER
from shared.books.follow import Batch
from shared.books.followers import Cursor
from shared.runtime.errors import Overtaken, SinkUnavailable

T = TypeVar("T")
NAME = FOLLOWER
_WRITE_SECONDS = 30.0
_TEND_SECONDS = 600.0
_ABORT_SECONDS = 5.0


class SqlSink:
    """Keeps one row per exchange, its latest revision."""

    name = NAME
    cursor_in_redis = False

    def __init__(self, database: Database, settings: SinkSettings, patience: float = _WRITE_SECONDS) -> None:
        """`patience`: seconds that a transaction may take."""
        self._database = database
        self._settings = settings
        self._patience = patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._ready = False
        self._dialect = postgres.Postgres() if database.postgres else sqlite.Sqlite()

    async def cursors(self, shards: Collection[int]) -> dict[int, Cursor]:
        await self._begin()
        return await self._run(lambda: self._cursors(shards), self._patience)

    async def write(self, batches: Sequence[Batch]) -> None:
        await self._begin()
        await self._run(lambda: self._write(batches), self._patience)

    async def tend(self, now_ms: int) -> None:
        await self._begin()
        await self._run(lambda: self._tend(datetime.fromtimestamp(now_ms / 1000, UTC)), _TEND_SECONDS)

    async def close(self) -> None:
        self._thread.shutdown(wait=False)
        self._database.close()

    async def _begin(self) -> None:
        """Bring the tables to this version, the first time."""
        if not self._ready:
            await self._run(self._database.migrate, _TEND_SECONDS)
            self._ready = True

    async def _run(self, work: Callable[[], T], patience: float) -> T:
        """Do this in the sink's thread. SinkUnavailable where the database does not answer in time."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        done, _ = await asyncio.wait({future}, timeout=patience)
        if not done:
            self._database.abort()
            done, _ = await asyncio.wait({future}, timeout=_ABORT_SECONDS)
        if not done:
            future.add_done_callback(lambda late: late.exception())  # whatever becomes of it, the cursor says
            raise SinkUnavailable("the database does not answer")
        return future.result()

    def _cursors(self, shards: Collection[int]) -> dict[int, Cursor]:
        with self._database.begin() as connection:
            return _read(connection, shards)

    def _write(self, batches: Sequence[Batch]) -> None:
        with self._database.begin() as connection:
            for batch in batches:
                _move(connection, batch)
            since = self._dialect.text(_since(connection, "exchanges"))
            rows = [row(entry, batch.after.epoch) for batch in batches for entry in latest(batch.entries)]
            kept = [one for one in rows if one[0] >= since]  # the rows of older ones are gone, and cannot be amended
            if kept:
                self._dialect.merge(connection, kept)

    def _tend(self, now: datetime) -> None:
        with self._database.begin() as connection:
            self._dialect.prepare(connection, now)
        settings = self._settings
        if settings.database_keep_days:
            until = self._dialect.horizon(now - timedelta(days=settings.database_keep_days))
            with self._database.begin() as connection:
                _keep_since(connection, "exchanges", until)
            while self._more(until):
                pass
        if settings.database_keep_usage_days:
            until = now - timedelta(days=settings.database_keep_usage_days)
            with self._database.begin() as connection:
                if connection.execute(USAGE.delete().where(USAGE.c.hour < until)).rowcount:
                    _keep_since(connection, "usage_hourly", until)

    def _more(self, until: datetime) -> bool:
        """Take some of the rows away that were opened before. Returns whether there may be more."""
        with self._database.begin() as connection:
            return self._dialect.forget(connection, until)


def _read(connection: Connection, shards: Collection[int]) -> dict[int, Cursor]:
    query = sa.select(CURSORS).where(CURSORS.c.name == NAME, CURSORS.c.shard.in_(list(shards)))
    known = {one.shard: Cursor(one.position, one.epoch, one.server) for one in connection.execute(query)}
    return {shard: known.get(shard, Cursor()) for shard in shards}


def _move(connection: Connection, batch: Batch) -> None:
    """Move a cursor. Overtaken where it is not what it was before."""
    values = batch.after._asdict()
    if batch.before == Cursor():
        known = _read(connection, [batch.shard])[batch.shard]
        if known != Cursor():
            raise Overtaken(f"another process has begun to follow shard {batch.shard}")
        connection.execute(CURSORS.insert().values(name=NAME, shard=batch.shard, **values))
        return
    moved = connection.execute(
        CURSORS.update()
        .where(CURSORS.c.name == NAME, CURSORS.c.shard == batch.shard)
        .where(CURSORS.c.position == batch.before.position, CURSORS.c.epoch == batch.before.epoch)
        .values(**values)
    )
    if moved.rowcount != 1:
        raise Overtaken(f"another process follows shard {batch.shard}")


def _since(connection: Connection, table: str) -> datetime | None:
    since: datetime | None = connection.scalar(sa.select(KEPT.c.since).where(KEPT.c.what == table))
    return since


def _keep_since(connection: Connection, table: str, until: datetime) -> None:
    """Note that what is from before is gone. It never goes back: what was taken away does not come back."""
    before = _since(connection, table)
    if before is None:
        connection.execute(KEPT.insert().values(what=table, since=until))
    elif before.replace(tzinfo=UTC) < until:
        connection.execute(KEPT.update().where(KEPT.c.what == table).values(since=until))
