"""A gateway's check of Redis: it passes once Redis has answered, and says why where it is unfit."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.gateway.redis_check import RedisCheck
from shared.access import keys
from shared.runtime import embedded, store
from shared.runtime.settings import Settings
from shared.runtime.store import Store

SETTINGS = Settings.model_validate({"key_pepper": "a pepper of the tests"})


async def test_it_waits_for_redis(tmp_path: Path) -> None:
    redis = store.connect(f"unix://{tmp_path}/valkey/valkey.sock")
    check = RedisCheck(redis, SETTINGS)
    assert not await check.look()
    assert not check.passed
    running = asyncio.get_running_loop().create_task(check.run())
    with embedded.redis_url(Settings(data_dir=tmp_path, redis_url=None)):
        await running
        assert (check.passed, check.unfit) == (True, None)
        await redis.aclose()


async def test_another_pepper_or_a_redis_that_evicts_is_unfit(redis: Store) -> None:
    check = RedisCheck(redis, SETTINGS)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await check.run()
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert "noeviction" in str(check.unfit)
    await keys.create(redis, b"another pepper", "me")
    check = RedisCheck(redis, SETTINGS)
    await check.run()
    assert "AROUTER_KEY_PEPPER" in str(check.unfit)
    assert not check.passed
