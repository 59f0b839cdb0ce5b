"""The check of Redis: its version, its settings, its keys. A gateway is not ready before Redis has passed it once."""

from __future__ import annotations

import asyncio
import logging

from shared.access import pepper
from shared.books import version
from shared.runtime import store
from shared.runtime.errors import SettingsError, StoreError
from shared.runtime.settings import Settings
from shared.runtime.store import Store

_AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


class RedisCheck:
    """The check of one process. `passed`: Redis has answered, and is fit; `unfit`: why it is not."""

    def __init__(self, redis: Store, settings: Settings) -> None:
        self.passed = False
        self.unfit: SettingsError | None = None
        self._redis = redis
        self._settings = settings

    async def look(self) -> bool:
        """Whether Redis is there and fit. SettingsError where it is unfit."""
        try:
            if not await version.check(self._redis):
                return False
            await pepper.check(self._redis, self._settings)
        except StoreError as exc:
            log.info("Redis does not answer yet: %s", exc)
            return False
        self.passed = True
        return True

    async def run(self) -> None:
        """Look until Redis is there, fit or unfit."""
        try:
            while not await self.look():
                await asyncio.sleep(_AGAIN_SECONDS)
        except SettingsError as exc:
            self.unfit = exc


async def look_once(redis_url: str, settings: Settings) -> None:
    """SettingsError where the Redis of a URL is unfit. One that is away passes; the connection is closed again."""
    redis = store.connect(redis_url)
    try:
        await RedisCheck(redis, settings).look()
    finally:
        await redis.aclose()
