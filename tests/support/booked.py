"""Exchanges in the ledger of a real Redis, with every field that they are found and added up by, and in a database."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from services.meter.settle import Ledger, Settlement
from services.sinks.database import Database
from services.sinks.settings import SinkSettings
from services.sinks.sql import SqlSink
from shared.books import followers, ledger
from shared.books.exchanges import Exchange, of_entry
from shared.books.follow import Follower
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.store import Store
from tests.support.entries import entry

SHARDS = 3
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
VALUES: dict[str, list[str]] = {
    "key": ["a" * 64, "b" * 64],
    "team": ["", "red", "blue"],
    "user": ["", "u1", "u2"],
    "provider": ["openai", "anthropic"],
    "model": ["gpt-4o", "claude", "o3"],
    "ended": ["whole", "whole", "cut", "error", ""],
    "cause": ["", "client_gone", "idle_timeout"],
    "request_id": ["", "req-1", "req-2"],
    "response_id": ["", "chatcmpl-1"],
    "credential": ["main", "spare"],
    "source": ["reported", "estimated", "partial"],
}


async def settled(redis: Store, rng: random.Random, count: int) -> list[Exchange]:
    """Settle so many exchanges of the last ten days, some of them twice; as they are now."""
    boot, books = new_boot(), Ledger(redis)
    for number in range(count):
        id = ExchangeId(boot, number % SHARDS, number // SHARDS)
        opened = NOW - timedelta(seconds=rng.randint(0, 10 * 86_400) // 3600 * 3600)  # many at the same time
        said: dict[str, Any] = {name: rng.choice(values) for name, values in VALUES.items()}
        cost = rng.choice([None, 0, 7_000, 12_345_678])
        said |= {"tags": rng.choice([(), ("x",), ("x", "y")]), "input_tokens": rng.choice([None, 0, 11])}
        said |= {
            "price_version": "1",
            "cost_nanousd": cost,
            "cost_microusd": None if cost is None else round(cost / 1000),
        }
        one = entry(id, opened_ms=int(opened.timestamp() * 1000), **said)
        for final in (False, True) if number % 5 == 0 else (True,):
            await books.settle([Settlement(id, one, [], final=final)])
    found: dict[str, Exchange] = {}
    for shard in range(SHARDS):
        async for line in ledger.read(redis, shard):
            found[line.exchange_id] = of_entry(line)
    return sorted(found.values(), key=lambda one: one.place, reverse=True)


async def followed(redis: Store, database: Database) -> None:
    sink = SqlSink(database, SinkSettings(database_keep_days=0))
    await followers.register(redis, sink.name)
    follower = Follower(redis, sink, back_ms=60_000, count=500)
    while await follower.round(range(SHARDS)):
        pass
    await sink.close()
