"""A pepper that does not fit the keys in Redis is noticed, and one that fits is never refused."""

from __future__ import annotations

import pytest

from shared.access import keys, pepper
from shared.access.keyring import KeyRing
from shared.contract import names
from shared.runtime.errors import Refused, SettingsError
from shared.runtime.settings import Settings
from shared.runtime.store import Store

MINE, OTHER = b"a pepper of the tests", b"another pepper of the tests"


def settings(given: bytes | None) -> Settings:
    return Settings.model_validate({"key_pepper": given.decode() if given else None})


async def test_another_pepper_than_that_of_the_keys_is_refused_in_one_line(redis: Store) -> None:
    await pepper.check(redis, settings(OTHER))  # there is no key yet
    await keys.create(redis, MINE, "me")
    await pepper.check(redis, settings(MINE))
    assert await pepper.load(redis, settings(MINE)) == MINE
    for given in (OTHER, None):
        with pytest.raises(SettingsError, match="AROUTER_KEY_PEPPER") as refused:
            await pepper.check(redis, settings(given))
        assert "\n" not in str(refused.value)
        assert MINE.decode() not in str(refused.value)
        with pytest.raises(SettingsError):
            await pepper.load(redis, settings(given))
    assert await redis.get(names.PEPPER) is None


async def test_a_pepper_that_redis_keeps_fits(redis: Store) -> None:
    made = await pepper.load(redis, settings(None))
    await keys.create(redis, made, "me")
    await pepper.check(redis, settings(None))
    assert await pepper.load(redis, settings(None)) == made
    with pytest.raises(SettingsError, match="not the pepper"):
        await pepper.check(redis, settings(OTHER))


async def test_keys_of_an_earlier_version_are_claimed_by_the_pepper_that_finds_one(redis: Store) -> None:
    key, _ = await keys.create(redis, MINE, "me")
    await redis.delete(names.PEPPER_FINGERPRINT)
    with pytest.raises(Refused):
        await KeyRing(redis, settings(OTHER)).authenticate(key)
    assert await redis.get(names.PEPPER_FINGERPRINT) is None
    await KeyRing(redis, settings(MINE)).authenticate(key)
    with pytest.raises(SettingsError):
        await pepper.check(redis, settings(OTHER))


async def test_in_an_emptied_redis_every_pepper_fits(redis: Store) -> None:
    await keys.create(redis, MINE, "me")
    await redis.flushall()
    await pepper.check(redis, settings(OTHER))
