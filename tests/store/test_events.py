"""Events on a real Redis: noted once, and read in their order."""

from __future__ import annotations

import logging

import pytest

from shared.contract import names
from shared.contract.events import EventType, event_id
from shared.runtime import events, store
from shared.runtime.store import Store


async def threshold(redis: Store, percent: int) -> bool:
    about = f"key c0ffee {percent} 2026-11"
    return await events.note(redis, EventType.BUDGET_THRESHOLD, about, {"percent": percent}, once_s=60)


async def test_an_event_is_noted_once_whoever_says_it(redis: Store) -> None:
    assert [await threshold(redis, percent) for percent in (50, 80, 80, 50)] == [True, True, False, False]
    found = (await events.read(redis, "0-0", 10)).events
    assert [event.data["percent"] for event in found] == [50, 80]
    assert found[0].id == event_id("budget.threshold", "key c0ffee 50 2026-11")
    assert 0 < await redis.ttl(names.event(found[0].id)) <= 60


async def test_pages_go_on_where_the_one_before_ended(redis: Store) -> None:
    assert await events.newest(redis) == "0-0"
    assert await events.read(redis, "0-0", 10) == ([], "")
    for percent in (50, 80):
        await threshold(redis, percent)
    await redis.xadd(names.EVENTS, {"event": b"not one"})
    await threshold(redis, 100)
    first = await events.read(redis, "0-0", 1)
    rest = await events.read(redis, first.last, 10)
    assert [event.data["percent"] for event in first.events + rest.events] == [50, 80, 100]
    assert rest.last == await events.newest(redis)


async def test_what_has_happened_does_not_fail_for_its_event(caplog: pytest.LogCaptureFixture) -> None:
    away = store.connect("redis://127.0.0.1:1/0", timeout=1)
    with caplog.at_level(logging.WARNING):
        await events.tell(away, EventType.KEY_CREATED, "c0ffee", {})
    assert "the event key.created is lost" in caplog.text
    await away.aclose()
