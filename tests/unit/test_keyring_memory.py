"""How much a key ring remembers and asks at once: anybody can make up keys."""

from __future__ import annotations

import asyncio

from shared.access import key_format
from shared.access.keyring import Most
from shared.contract import names
from tests.support.turned_keyring import KEY, NOW, PEPPER, Turned


async def test_keys_that_are_made_up_push_out_no_key_that_is_good() -> None:
    turned = Turned(most=Most(keys=2, strangers=3))
    assert await turned.says() == 200
    for number in range(10):
        assert await turned.says(f"lr_live_{number:048x}") == 401
    turned.store.away = True
    assert [await turned.says(f"lr_live_{number:048x}") for number in (6, 7, 9)] == [503, 401, 401]  # the last three
    turned.seconds = 299.0
    assert await turned.says() == 200


async def test_the_key_whose_record_is_oldest_is_forgotten_first() -> None:
    turned = Turned(most=Most(keys=2))
    others = [f"lr_live_{number:048x}" for number in range(2)]
    for key in others:
        turned.store.rows[names.key(key_format.hash_key(PEPPER.encode(), key))] = {b"name": b"other"}
    assert [await turned.says(key) for key in (KEY, others[0])] == [200, 200]
    turned.seconds = 2.0
    assert [await turned.says(key) for key in (KEY, others[1])] == [200, 200]
    turned.store.away = True
    turned.seconds = 4.0
    assert [await turned.says(key) for key in (KEY, *others)] == [200, 503, 200]


async def test_while_redis_is_frozen_a_bounded_number_of_strangers_is_looked_up() -> None:
    turned = Turned(most=Most(lookups=3))
    assert await turned.says() == 200
    turned.freeze()
    turned.seconds = 2.0
    for number in range(10):
        assert await turned.says(f"lr_live_{number:048x}") == 503
    assert turned.store.calls["lookup"] == 1 + 3
    assert await turned.says() == 200
    turned.store.put(revoked_at=NOW)
    turned.thaw()
    for _ in range(10):
        await asyncio.sleep(0)
    turned.seconds += 1.0
    assert await turned.says() == 401  # a known key is looked up in any case
