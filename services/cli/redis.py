"""Commands that only speak to Redis: connect, do the work, leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.books import boots
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from shared.runtime.store import Store

Work = Callable[[Store, Settings], Awaitable[None]]


def with_redis(work: Work) -> int:
    """Run `work` with the configured Redis, or the embedded one; the exit status."""
    settings = Settings.load()
    with embedded.redis_url(settings) as url:
        asyncio.run(_connected(url, settings, work))
    return 0


async def _connected(url: str, settings: Settings, work: Work) -> None:
    redis = store.connect(url)
    try:
        # As many shards as there really are, whatever this machine's settings say.
        shards = await boots.shards(redis, settings.shards)
        await work(redis, settings.model_copy(update={"shards": shards}))
    finally:
        await redis.aclose()
