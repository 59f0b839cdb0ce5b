"""How many exchanges a second a follower writes into PostgreSQL, and what each costs, with few rows there and many.

`python -m bench.books [ROWS …]`
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg

from services.meter.settle import Ledger, Settlement
from services.sinks.database import Database
from services.sinks.settings import SinkSettings
from services.sinks.sql import SqlSink
from shared.books.follow import Follower
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from tests.support import postgres
from tests.support.entries import entry
from tests.support.postgres import Postgres

_SHARDS = 4
_EXCHANGES = 30_000
_KEYS = 500
_PREFILL = """
    INSERT INTO exchanges (opened_at, exchange_id, settled_at, shard, epoch, revision, final, key, provider, model,
        outcome, source, streamed, complete, drift, input_tokens, output_tokens, total_tokens,
        cost_nanousd, cost_microusd)
    SELECT at, md5(n::text) || '.0.' || n, at, 0, 1, 1, true, md5((n %% 500)::text), 'openai', 'gpt-4o',
        'completed', 'reported', true, true, false, 10, 20, 30, 5000, 5
    FROM (SELECT n, to_timestamp(%(now)s) - n * interval '300 days' / %(rows)s AS at
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) n) numbers
"""
_PIECE = 1_000_000


@dataclass(frozen=True, slots=True)
class Written:
    """What it took with so many rows in the database. CPU is the follower's process, without the server's."""

    rows: int
    per_second: float
    cpu_us: float
    server_cpu_us: float


def written(sizes: Iterator[int] | tuple[int, ...] = (0, 2_000_000)) -> list[Written]:
    """Measure with a database that holds so many rows already, one after the other. NoPostgres where there is none."""
    with postgres.running(safe=True) as server, tempfile.TemporaryDirectory(prefix="ar") as folder:
        database = Database(server.url)
        database.migrate()
        found, there = [], 0
        for size in sizes:
            _prefill(server, there, size)
            there = size
            with embedded.redis_url(Settings(data_dir=Path(folder), redis_url=None)) as url:
                found.append(asyncio.run(_measure(url, server, database, size)))
        database.close()
    return found


async def _measure(url: str, server: Postgres, database: Database, rows: int) -> Written:
    redis = store.connect(url)
    await redis.flushall()
    await _fill(redis)
    sink = SqlSink(database, SinkSettings(database_keep_days=0))
    follower = Follower(redis, sink, back_ms=60_000, count=500)
    await sink.cursors(range(_SHARDS))
    server_cpu, cpu, started = _cpu(server), time.process_time(), time.monotonic()
    while await follower.round(range(_SHARDS)):
        pass
    took, used, served = time.monotonic() - started, time.process_time() - cpu, _cpu(server) - server_cpu
    with database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM follower_cursors")
    await redis.aclose()
    return Written(rows, _EXCHANGES / took, used / _EXCHANGES * 1e6, served / _EXCHANGES * 1e6)


async def _fill(redis: Store) -> None:
    """Settle exchanges as they are: every field that a call of a chat model has."""
    ledger, boot, now_ms = Ledger(redis), new_boot(), time.time_ns() // 1_000_000
    for first in range(0, _EXCHANGES, 200):
        batch = []
        for number in range(first, first + 200):
            id = ExchangeId(boot, number % _SHARDS, number // _SHARDS)
            batch.append(Settlement(id, _entry(id, number, now_ms), []))
        await ledger.settle(batch)


def _entry(id: ExchangeId, number: int, now_ms: int) -> Entry:
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "prompt_tokens_details": {"cached": 0}}
    return msgspec.structs.replace(
        entry(id, key=f"{number % _KEYS:064x}", opened_ms=now_ms - number % 3_600_000, raw_usage=usage),
        cost_microusd=number,
        cost_nanousd=number * 1000,
        price_version="1",
        ended="whole",
        cost_source="book",
    )


def _prefill(server: Postgres, there: int, rows: int) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for month in range(-11, 2):
            connection.execute(_month(month))  # type: ignore[arg-type]
        for first in range(there + 1, rows + 1, _PIECE):
            last = min(first + _PIECE - 1, rows)
            connection.execute(_PREFILL, {"now": time.time(), "rows": max(rows, 1), "first": first, "last": last})
        connection.execute("VACUUM (ANALYZE)")  # else the server would do so while it is measured
        connection.execute("CHECKPOINT")


def _month(ahead: int) -> str:
    now = time.gmtime()
    months = now.tm_year * 12 + now.tm_mon - 1 + ahead
    this, after = (f"{m // 12}-{m % 12 + 1:02}" for m in (months, months + 1))
    return (
        f"CREATE TABLE IF NOT EXISTS exchanges_{this.replace('-', '')} PARTITION OF exchanges "
        f"FOR VALUES FROM ('{this}-01 00:00:00+00') TO ('{after}-01 00:00:00+00')"
    )


def _cpu(server: Postgres) -> float:
    """Seconds of CPU that the server's processes have used, those that have ended included."""
    ticks = 0
    for pid in server.pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += (
            int(fields[11]) + int(fields[12]) + (int(fields[13]) + int(fields[14]) if pid == server.process.pid else 0)
        )
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    for one in written(tuple(map(int, sys.argv[1:])) or (0, 2_000_000)):
        print(
            f"{one.rows:>12,} rows there: {one.per_second:,.0f}/s, {one.cpu_us:.0f} us of the follower's CPU, "
            f"{one.server_cpu_us:.0f} us of the server's",
            flush=True,
        )
