"""Keys and totals on a real Redis."""

from __future__ import annotations

import pytest

from shared.access import keys, pepper
from shared.access.key_format import hash_key
from shared.access.keyring import KeyRing
from shared.access.keys import NoSuchKey
from shared.contract import names
from shared.runtime import store
from shared.runtime.errors import Refused, SettingsError
from shared.runtime.settings import Settings
from shared.runtime.store import Store

PEPPER = b"a pepper of the tests"
SETTINGS = Settings.model_validate({"key_pepper": PEPPER.decode()})


async def test_a_key_is_kept_as_its_hash_alone(redis: Store) -> None:
    key, record = await keys.create(redis, PEPPER, "me")
    assert record.hash == hash_key(PEPPER, key)
    assert await keys.find(redis, record.hash) == record
    dump = [await redis.dump(name) for name in await redis.keys()]
    assert not any(key.encode() in value for value in dump if value)


async def test_keys_are_listed_and_revoked_by_the_beginning_of_their_hash(redis: Store) -> None:
    made = [(await keys.create(redis, PEPPER, str(n)))[1] for n in range(5)]
    assert {record.hash for record in await keys.find_all(redis)} == {record.hash for record in made}
    revoked = await keys.revoke(redis, made[2].hash[:20])
    assert revoked.hash == made[2].hash
    assert revoked.revoked_at is not None
    for unclear in ("", "zz", made[2].hash + "0"):
        with pytest.raises(NoSuchKey):
            await keys.revoke(redis, unclear)


async def test_a_record_that_is_gone_stays_gone(redis: Store) -> None:
    _, record = await keys.create(redis, PEPPER, "me", allowed_models=("x",), disabled=True)
    await redis.delete(names.key(record.hash))
    await keys.touch(redis, record.hash)
    assert await keys.find(redis, record.hash) is None
    with pytest.raises(NoSuchKey):
        await keys.update(redis, record.hash, {"name": "again"})
    assert await keys.find(redis, record.hash) is None


async def test_what_is_changed_is_what_is_found(redis: Store) -> None:
    _, record = await keys.create(redis, PEPPER, "me", allowed_models=("x",))
    changed = await keys.update(redis, record.hash, {"allowed_models": None, "disabled": True, "expires_at": 5})
    assert (changed.allowed_models, changed.disabled, changed.expires_at, changed.name) == (None, True, 5, "me")
    assert not (await keys.update(redis, record.hash, {"disabled": False})).disabled


async def test_a_pepper_is_made_once_and_kept(redis: Store) -> None:
    settings = Settings(key_pepper=None)
    assert await pepper.load(redis, settings) == await pepper.load(redis, settings)
    mine = Settings.model_validate({"key_pepper": "my very own pepper"})
    assert await pepper.load(redis, mine) == b"my very own pepper"


async def test_the_keyring_refuses_what_is_revoked(redis: Store) -> None:
    now = 0.0
    ring = KeyRing(redis, SETTINGS, monotonic=lambda: now)
    key, record = await keys.create(redis, PEPPER, "me")
    assert (await ring.authenticate(key)).hash == record.hash
    await keys.revoke(redis, record.hash)
    now = 1.0
    with pytest.raises(Refused) as refused:
        await ring.authenticate(key)
    assert refused.value.status == 401


async def test_without_redis_known_keys_go_on_and_unknown_ones_get_503(redis: Store, redis_url: str) -> None:
    now = 0.0
    client = store.connect(redis_url)
    ring = KeyRing(client, SETTINGS, monotonic=lambda: now)
    key, _ = await keys.create(redis, PEPPER, "me")
    unknown, _ = await keys.create(redis, PEPPER, "never seen by this gateway")
    await ring.authenticate(key)
    await client.connection_pool.disconnect()
    client.connection_pool = store.connect("redis://127.0.0.1:9").connection_pool  # nobody is there
    now = 1.0
    assert (await ring.authenticate(key)).name == "me"
    with pytest.raises(Refused) as refused:
        await ring.authenticate(unknown)
    assert refused.value.status == 503


async def test_a_redis_that_evicts_is_refused(redis: Store) -> None:
    await store.verify(redis)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(SettingsError, match="noeviction"):
            await store.verify(redis)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    away = store.connect("redis://127.0.0.1:9")
    await store.verify(away)
    assert names.PEPPER
