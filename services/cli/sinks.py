"""The sinks that are configured here, and `arouter follow`, which runs one of them alone."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from services.meter.limits import LimitSink
from services.sinks.settings import SinkSettings
from shared.books import version
from shared.books.follow import Sink
from shared.books.following import TIMING, Following, Timing
from shared.runtime import embedded, logs, store
from shared.runtime.errors import SettingsError
from shared.runtime.store import Store

_LIMITS = Timing(idle=0.25, tend=10.0)  # callers wait for what is reserved

if TYPE_CHECKING:
    from services.sinks.database import Database


def add_command(commands: Any) -> None:
    one = commands.add_parser("follow", help="run a follower of the ledger alone; meters run it beside them, too")
    one.add_argument("name", choices=sorted(_SINKS))
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Follow the ledger until SIGTERM."""
    settings = SinkSettings.load()
    logs.configure(settings.log_level, settings.log_format)
    sink = _SINKS[arguments.name](settings)
    if sink is None:
        raise SettingsError(f"AROUTER_DATABASE_URL: the follower {arguments.name} needs it")
    with embedded.redis_url(settings) as url:
        asyncio.run(_follow(url, settings, sink))
    return 0


async def _follow(url: str, settings: SinkSettings, sink: Sink) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    redis = store.connect(url)
    try:
        await version.check(redis)
        await _following(redis, settings, sink).run(stopping)
    finally:
        await redis.aclose()


def beside_meters(settings: SinkSettings) -> Callable[[Store], Sequence[Following]]:
    """The followers for the process of a meter: that of limits, and those of everything that is configured."""
    sinks = [sink for make in _SINKS.values() if (sink := make(settings)) is not None]

    def followings(redis: Store) -> Sequence[Following]:
        limits = LimitSink(redis, settings.shards)
        return [
            _following(redis, settings, limits, _LIMITS),
            *(_following(redis, settings, sink) for sink in sinks),
        ]

    return followings


def _following(redis: Store, settings: SinkSettings, sink: Sink, timing: Timing = TIMING) -> Following:
    return Following(redis, sink, shards=settings.shards, journal_keep=settings.journal_keep, timing=timing)


def database(settings: SinkSettings) -> Database | None:
    """The database that keeps the books; None where there is none."""
    if settings.database is None:
        return None
    # Imported where there is a database only: its libraries take memory, and a while.
    from services.sinks.database import Database  # noqa: PLC0415

    return Database(settings.database)


def _sql(settings: SinkSettings) -> Sink | None:
    found = database(settings)
    if found is None:
        return None
    from services.sinks.sql import SqlSink  # noqa: PLC0415

    return SqlSink(found, settings)


_SINKS: Mapping[str, Callable[[SinkSettings], Sink | None]] = {"sql": _sql}
