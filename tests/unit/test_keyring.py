"""What a process remembers of keys, with a store in memory and clocks that the tests turn."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from shared.access import key_format
from shared.access.keyring import KeyRing
from shared.access.keys import KeyRecord
from shared.contract import names
from shared.runtime.errors import Refused
from shared.runtime.settings import Settings
from tests.support.turned_keyring import HASH, KEY, NOW, PEPPER, Turned


@pytest.fixture
def turned() -> Turned:
    return Turned()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 200),
        ({"revoked_at": NOW}, 401),
        ({"disabled": 1}, 403),
        ({"disabled": 0}, 200),
        ({"expires_at": NOW}, 403),
        ({"expires_at": NOW + 1}, 200),
        ({"disabled": 1, "revoked_at": NOW}, 401),  # that it is known is nobody's business any more
    ],
)
async def test_what_a_record_says(turned: Turned, fields: dict[str, int], expected: int) -> None:
    turned.store.put(**fields)
    assert await turned.says() == expected


@pytest.mark.parametrize("key", [None, "", "sk-something", KEY[:-1]])
async def test_what_has_not_the_form_of_a_key_is_refused_without_a_lookup(turned: Turned, key: str | None) -> None:
    assert await turned.says(key) == 401
    assert turned.store.calls == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"revoked_at": NOW}),
        ({}, {"disabled": 1}),
        ({}, None),  # the record is gone
        ({"revoked_at": NOW}, {}),
        (None, {}),
    ],
)
async def test_a_change_is_seen_after_a_second_and_not_sooner(
    turned: Turned, before: dict[str, int] | None, after: dict[str, int] | None
) -> None:
    def put(fields: dict[str, int] | None) -> None:
        turned.store.rows.clear() if fields is None else turned.store.put(**fields)

    put(before)
    first = await turned.says()
    put(after)
    said = []
    for turned.seconds in (0.5, 0.999, 1.0):
        said.append(await turned.says())
    assert said[:2] == [first, first]
    assert said[2] != first
    assert turned.store.calls["lookup"] == 2


async def test_every_gateway_refuses_a_revoked_key_within_two_seconds() -> None:
    first, second = Turned(), Turned()
    second.store = first.store
    second.ring = KeyRing(
        cast("Any", first.store), Settings.model_validate({"key_pepper": PEPPER}), monotonic=lambda: second.seconds
    )
    for gateway, asks_at in ((first, 0.0), (second, 0.9)):
        gateway.seconds = asks_at
        assert await gateway.says() == 200
    first.store.put(revoked_at=NOW)
    for gateway in (first, second):
        gateway.seconds = 2.0
        assert await gateway.says() == 401


@pytest.mark.parametrize(
    ("known", "seconds", "expected"),
    [
        ({}, 1.0, 200),
        ({}, 299.9, 200),
        ({}, 300.0, 503),
        ({"revoked_at": NOW}, 0.5, 401),  # remembered
        ({"revoked_at": NOW}, 1.0, 401),
        ({"disabled": 1}, 299.9, 403),
        ({"expires_at": NOW + 10}, 9.0, 200),
        ({"expires_at": NOW + 10}, 10.0, 403),  # though nobody can be asked
        (None, 0.5, 401),
        (None, 1.0, 503),  # it may have been made meanwhile
    ],
)
async def test_while_redis_is_away_what_was_known_holds_for_five_minutes(
    turned: Turned, known: dict[str, int] | None, seconds: float, expected: int
) -> None:
    if known is None:
        turned.store.rows.clear()
    else:
        turned.store.put(**known)
    await turned.says()
    turned.store.away = True
    turned.seconds = seconds
    assert await turned.says() == expected


async def test_five_minutes_count_from_the_last_answer_and_not_from_the_last_use(turned: Turned) -> None:
    await turned.says()
    turned.store.away = True
    for turned.seconds in (100.0, 200.0, 299.0):
        assert await turned.says() == 200
    turned.seconds = 300.0
    assert await turned.says() == 503
    turned.store.away = False
    assert await turned.says() == 200


async def test_a_key_never_seen_is_a_503_while_redis_is_away(turned: Turned) -> None:
    turned.store.away = True
    assert await turned.says() == 503
    turned.store.away = False
    assert await turned.says() == 200


async def test_lookups_of_one_key_at_one_time_share_one_answer(turned: Turned) -> None:
    turned.store.blocked = asyncio.Event()
    asking = [turned.asking() for _ in range(5)]
    await asyncio.sleep(0)
    turned.store.blocked.set()
    assert {record.hash for record in await asyncio.gather(*asking)} == {HASH}
    assert turned.store.calls["lookup"] == 1


async def test_lookups_of_one_key_at_one_time_share_one_failure(turned: Turned) -> None:
    turned.store.blocked, turned.store.away = asyncio.Event(), True
    asking = [turned.asking() for _ in range(5)]
    await asyncio.sleep(0)
    turned.store.blocked.set()
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert [failure.status for failure in failures if isinstance(failure, Refused)] == [503] * 5
    assert turned.store.calls["lookup"] == 1


@pytest.mark.parametrize("cancelled", [[0], [1], [0, 1, 2]])
async def test_a_lookup_that_is_cancelled_disturbs_no_other(turned: Turned, cancelled: list[int]) -> None:
    turned.store.blocked = asyncio.Event()
    asking = [turned.asking() for _ in range(3)]
    await asyncio.sleep(0)
    for number in cancelled:
        asking[number].cancel()
    await asyncio.sleep(0)
    turned.store.blocked.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, asyncio.CancelledError)] == cancelled
    assert all(isinstance(result, KeyRecord) for n, result in enumerate(results) if n not in cancelled)
    await asyncio.sleep(0)
    assert await turned.says() == 200
    assert turned.store.calls["lookup"] == 1  # it went on, and what it found is remembered


async def test_a_use_is_noted_once_a_minute(turned: Turned) -> None:
    for seconds, notes in ((0.0, 1), (59.9, 1), (60.0, 2)):
        turned.seconds = seconds
        await turned.says()
        await asyncio.sleep(0)
        assert turned.store.calls["touch"] == notes


async def test_a_ticket_stands_for_its_key_at_one_target(turned: Turned) -> None:
    turned.store.put()
    record = await turned.ring.authenticate(KEY)
    ticket = turned.ring.ticket(record.hash, b"/gemini/upload?id=a")

    async def says(ticket: str, target: bytes) -> int:
        try:
            await turned.ring.authenticate_upload(ticket, target)
        except Refused as refused:
            return refused.status
        return 200

    assert await says(ticket, b"/gemini/upload?id=a") == 200
    assert await says(ticket, b"/gemini/upload?id=b") == 401
    assert await says(ticket[:-1] + "\xff", b"/gemini/upload?id=a") == 401
    assert await says("0" * 64 + ticket[64:], b"/gemini/upload?id=a") == 401
    turned.seconds = 2
    turned.store.put(revoked_at=NOW)
    assert await says(ticket, b"/gemini/upload?id=a") == 401


async def test_a_known_key_hardly_waits_for_a_redis_that_is_frozen(turned: Turned) -> None:
    await turned.says()
    turned.freeze()
    turned.waits = []
    for turned.seconds in (2.0, 3.0, 100.0, 299.0):
        assert await turned.says() == 200
    assert max(turned.waits) < 0.05
    assert turned.waits[1:] == [0.0] * 3  # it has been silent for longer
    assert turned.store.calls["lookup"] == 2  # the first one that was not answered goes on, alone
    turned.seconds = 300.0
    assert await turned.says() == 503


async def test_strangers_share_a_second_of_patience_and_are_then_refused_at_once(turned: Turned) -> None:
    turned.freeze()
    started = turned.seconds
    assert await turned.says() == 503
    assert turned.seconds - started == pytest.approx(1.0)
    turned.waits = []
    others = [f"lr_live_{number:048x}" for number in range(20)]
    assert {await turned.says(key) for key in others} == {503}
    assert max(turned.waits) < 0.05
    turned.thaw()
    for _ in range(10):
        await asyncio.sleep(0)
    assert await turned.says() == 200
    assert await turned.says(f"lr_live_{99:048x}") == 401
    assert turned.waits[-1] == pytest.approx(1.0)  # patient again


async def test_what_a_late_answer_says_counts(turned: Turned) -> None:
    await turned.says()
    turned.freeze()
    turned.seconds = 2.0
    assert await turned.says() == 200
    turned.store.put(revoked_at=NOW)
    turned.thaw()
    for _ in range(10):
        await asyncio.sleep(0)
    assert await turned.says() == 401


async def test_keys_work_again_in_a_redis_that_was_emptied_under_a_running_process() -> None:
    turned = Turned(pepper=None)
    assert await turned.says() == 401
    first = turned.store.strings[names.PEPPER]
    turned.store.rows[names.key(key_format.hash_key(first, KEY))] = {b"name": b"me"}
    turned.seconds = 2.0
    assert await turned.says() == 200
    turned.store.rows.clear()
    turned.store.strings = {names.PEPPER: b"another"}
    turned.seconds = 4.0
    assert await turned.says() == 401
    turned.store.rows[names.key(key_format.hash_key(b"another", KEY))] = {b"name": b"me"}
    turned.seconds = 6.0
    assert await turned.says() == 200


async def test_a_key_is_recalled_under_its_pepper_alone() -> None:
    turned = Turned(pepper=None)
    assert turned.ring.recall(KEY) is None
    await turned.says()
    first = turned.store.strings[names.PEPPER]
    turned.store.rows = {names.key(key_format.hash_key(first, KEY)): {b"name": b"one"}}
    turned.seconds = 2.0
    for _ in range(3):  # looked up, found by the slow hash, found by the quick one
        assert await turned.says() == 200
    turned.store.strings = {names.PEPPER: b"another"}
    turned.store.rows = {names.key(key_format.hash_key(b"another", KEY)): {b"name": b"other"}}
    turned.seconds = 4.0
    for _ in range(3):
        assert await turned.says() == 200
        recalled = turned.ring.recall(KEY)
        assert recalled is not None
        assert recalled.name == "other"
    assert turned.ring.recall(KEY[:-1]) is None


async def test_a_pepper_that_is_gone_is_put_back() -> None:
    turned = Turned(pepper=None)
    await turned.says()
    first = dict(turned.store.strings)
    turned.store.strings.clear()
    turned.seconds = 2.0
    assert await turned.says() == 401
    assert turned.store.strings == first


async def test_unknown_keys_look_for_another_pepper_once_a_second() -> None:
    turned = Turned(pepper=None)
    await turned.says()
    made = turned.store.calls["get"]
    for number in range(20):
        assert await turned.says(f"lr_live_{number:048x}") == 401
    assert turned.store.calls["get"] == made
    turned.seconds = 1.0
    for number in range(20, 40):
        assert await turned.says(f"lr_live_{number:048x}") == 401
    assert turned.store.calls["get"] == made + 1
