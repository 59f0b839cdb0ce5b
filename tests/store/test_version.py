"""Which versions of the contract may share a Redis."""

from __future__ import annotations

import asyncio

import pytest

from shared.books import version
from shared.contract import names
from shared.contract.version import CURRENT, Version
from shared.runtime import store
from shared.runtime.errors import SettingsError
from shared.runtime.store import Store

NEXT_MINOR = Version(CURRENT.major, CURRENT.minor + 1)
NEXT_MAJOR = Version(CURRENT.major + 1, 0)


async def there(redis: Store) -> str | None:
    stored = await redis.get(names.CONTRACT)
    return stored.decode() if stored else None


@pytest.mark.parametrize(
    ("before", "mine", "after"),
    [
        (None, CURRENT, CURRENT),
        (CURRENT, CURRENT, CURRENT),
        (Version(CURRENT.major, 0), CURRENT, CURRENT),
        (NEXT_MINOR, CURRENT, NEXT_MINOR),  # a roll-out, or one that was taken back
        (CURRENT, NEXT_MINOR, NEXT_MINOR),
        (Version(1, 9), Version(1, 10), Version(1, 10)),  # numbers, not texts
    ],
)
async def test_minors_mix_and_the_newest_is_left_there(
    redis: Store, before: Version | None, mine: Version, after: Version
) -> None:
    if before is not None:
        await redis.set(names.CONTRACT, str(before))
    await version.check(redis, mine)
    assert await there(redis) == str(after)


@pytest.mark.parametrize("other", [NEXT_MAJOR, Version(CURRENT.major - 1, 9)])
async def test_another_major_stops_a_process_in_one_line(redis: Store, other: Version) -> None:
    await redis.set(names.CONTRACT, str(other))
    with pytest.raises(SettingsError, match=f"version {other}.*{CURRENT}") as stopped:
        await version.check(redis)
    assert "\n" not in str(stopped.value)
    assert await there(redis) == str(other)


async def test_of_two_majors_that_start_at_once_one_goes_on(redis: Store) -> None:
    await asyncio.gather(redis.ping(), redis.ping())  # two connections: neither is late for having to make one
    starts = [version.check(redis, NEXT_MAJOR), version.check(redis, CURRENT)]
    ended = await asyncio.gather(*starts, return_exceptions=True)
    assert [type(one) for one in ended if isinstance(one, Exception)] == [SettingsError]


async def test_something_else_under_its_name_stops_a_process(redis: Store) -> None:
    await redis.set(names.CONTRACT, "yes")
    with pytest.raises(SettingsError, match="yes"):
        await version.check(redis)


async def test_a_redis_that_is_away_or_full_passes(redis: Store) -> None:
    await version.check(store.connect("redis://127.0.0.1:9"))
    await redis.config_set("maxmemory", "1kb")
    try:
        await version.check(redis)
        assert await there(redis) is None
    finally:
        await redis.config_set("maxmemory", "0")
    await redis.set(names.CONTRACT, str(NEXT_MAJOR))
    await redis.config_set("maxmemory", "1kb")
    try:
        with pytest.raises(SettingsError):
            await version.check(redis)
    finally:
        await redis.config_set("maxmemory", "0")


async def test_a_redis_that_evicts_is_refused_as_before(redis: Store) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(SettingsError, match="noeviction"):
            await version.check(redis)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
