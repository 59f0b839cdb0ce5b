"""Connecting to Redis for a command that needs nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.books.books import Books
from shared.runtime import embedded, store
from shared.runtime.settings import Settings

Work = Callable[[Books], Awaitable[None]]


def with_redis(work: Work) -> int:
    """Run `work` with the configured Redis, or the embedded one; the exit status."""
    settings = Settings.load()
    with embedded.redis_url(settings) as url:
        asyncio.run(_connected(url, settings, work))
    return 0


async def _connected(url: str, settings: Settings, work: Work) -> None:
    redis = store.connect(url)
    try:
        # Gateways may use more shards than the settings of this machine say (decision 18).
        await work(await Books.find(redis, settings.shards))
    finally:
        await redis.aclose()
