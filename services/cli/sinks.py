"""The sinks that are configured here, and `arouter follow`, which runs one of them alone."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from services.meter.limits import LimitSink
from services.sinks.settings import SinkSettings
from shared.books import version
from shared.books.archive import Archive
from shared.books.follow import Sink
from shared.books.following import TIMING, Following, Timing
from shared.runtime import embedded, logs, store
from shared.runtime.errors import SettingsError
from shared.runtime.store import Store

_LIMITS = Timing(idle=0.25, tend=10.0)  # callers wait for what is reserved

if TYPE_CHECKING:
    from services.sinks.database import Database


def add_commands(commands: Any) -> None:
    one = commands.add_parser("follow", help="run a follower of the ledger alone; meters run it beside them, too")
    one.add_argument("name", choices=sorted(_FOLLOWERS))
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Follow the ledger until SIGTERM."""
    settings = SinkSettings.load()
    logs.configure(settings.log_level, settings.log_format)
    make = _FOLLOWERS[arguments.name].make(settings)
    if make is None:
        raise SettingsError(f"{_FOLLOWERS[arguments.name].setting}: the follower {arguments.name} needs it")
    with embedded.redis_url(settings) as url:
        asyncio.run(_follow(url, make))
    return 0


async def _follow(url: str, make: Make) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    redis = store.connect(url)
    try:
        await version.check(redis)
        async with asyncio.TaskGroup() as group:
            for one in make(redis):
                group.create_task(one.run(stopping))
    finally:
        await redis.aclose()


def beside_meters(settings: SinkSettings) -> Make:
    """The followers for the process of a meter: that of limits, and those of everything that is configured."""
    makes = [made for one in _FOLLOWERS.values() if (made := one.make(settings)) is not None]

    def loops(redis: Store) -> Sequence[Loop]:
        limits = _following(redis, settings, LimitSink(redis, settings.shards), _LIMITS)
        return [limits, *(loop for make in makes for loop in make(redis))]

    return loops


class Loop(Protocol):
    """A part of a follower that runs until it is stopped."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping`."""


Make = Callable[[Store], Sequence[Loop]]


class _Follower(NamedTuple):
    """How a follower is made of the settings: None where they have none. `setting`: the one that it needs."""

    setting: str
    make: Callable[[SinkSettings], Make | None]


def _following(redis: Store, settings: SinkSettings, sink: Sink, timing: Timing = TIMING) -> Following:
    return Following(redis, sink, shards=settings.shards, journal_keep=settings.journal_keep, timing=timing)


def database(settings: SinkSettings) -> Database | None:
    """The database that keeps the books; None where there is none."""
    if settings.database is None:
        return None
    # Imported where there is a database only: its libraries take memory, and a while.
    from services.sinks.database import Database  # noqa: PLC0415

    return Database(settings.database)


def archive(settings: SinkSettings) -> Callable[[], Archive] | None:
    """Makes what answers questions from the database; None where there is none."""
    url = settings.database
    if url is None:
        return None

    def make() -> Archive:
        from services.sinks.reading import SqlArchive  # noqa: PLC0415

        return SqlArchive(url)

    return make


@asynccontextmanager
async def asking(settings: SinkSettings) -> AsyncIterator[Callable[[], Awaitable[Archive | None]]]:
    """While the block runs: what answers questions from the database, opened when it is first asked for; None where
    there is none, or no follower has begun to fill it."""
    make = archive(settings)
    opened: list[Archive] = []

    async def open_() -> Archive | None:
        if make is not None and not opened:
            opened.append(make())
        return opened[0] if opened and await opened[0].ready() else None

    try:
        yield open_
    finally:
        for one in opened:
            await one.close()


def _sql(settings: SinkSettings) -> Make | None:
    found = database(settings)
    if found is None:
        return None
    from services.sinks.sql import SqlSink  # noqa: PLC0415

    return lambda redis: [_following(redis, settings, SqlSink(found, settings))]


def _webhook(settings: SinkSettings) -> Make | None:
    if not settings.webhooks:
        return None
    from services.sinks.webhooks import follower  # noqa: PLC0415  # as above

    def make(redis: Store) -> Sequence[Loop]:
        sink = follower.sink(redis, settings.webhooks)
        return [_following(redis, settings, sink), follower.Deliveries(redis, settings.webhooks)]

    for webhook in settings.webhooks:
        _ = webhook.keys  # a secret that cannot be read stops the start
    return make


def _otlp(settings: SinkSettings) -> Make | None:
    if settings.otlp_endpoint is None:
        return None
    try:
        from services.sinks.otlp import exporter  # noqa: PLC0415  # as above
    except ImportError:
        raise SettingsError("AROUTER_OTLP_ENDPOINT: needs opentelemetry-proto: pip install arouter[otlp]") from None
    endpoint = settings.otlp_endpoint.get_secret_value()
    headers = exporter.headers(settings.otlp_headers.get_secret_value() if settings.otlp_headers else "")
    return lambda redis: [_following(redis, settings, exporter.sink(redis, endpoint, headers))]


_FOLLOWERS: Mapping[str, _Follower] = {
    "sql": _Follower("AROUTER_DATABASE_URL", _sql),
    "otlp": _Follower("AROUTER_OTLP_ENDPOINT", _otlp),
    "webhook": _Follower("AROUTER_WEBHOOKS", _webhook),
}
