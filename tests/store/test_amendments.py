"""Amendments: they book the difference on the same provider and model, or move everything to another."""

from __future__ import annotations

from typing import Any

import pytest

from services.meter.settle import Ledger, Settlement, Verdict
from shared.books import audit, ledger, totals
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.contract import names
from shared.contract.booked import BOOKED, Provisional, booked, group
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.tails import KEY

ID = ExchangeId(new_boot(), 0, 3)
OTHER_KEY = "b" * 64
LARGEST = 2**53 - 1
PRICED: dict[str, Any] = {"price_version": "1", "cost_source": "book"}


async def settle(redis: Store, *, final: bool = False, **changes: Any) -> None:
    """Book an exchange over its provisional value."""
    books = Ledger(redis)
    [so_far] = await books.provisional(0, [ID])
    settlement = Settlement(ID, entry(ID, **changes), [], final=final, so_far=so_far)
    assert await books.settle([settlement]) == [Verdict.AMENDED if so_far else Verdict.SETTLED]


async def revisions(redis: Store) -> list[LedgerEntry]:
    return [one async for one in ledger.read(redis, 0)]


async def stored(redis: Store, key: str = KEY) -> list[dict[str, int]]:
    """Hour, day and all-time totals of a key, without what is 0."""
    names_ = (names.hour(0, key, "2023111422"), names.day(0, key, "20231114"), names.totals(0, key))
    hashes = [await redis.hgetall(name) for name in names_]  # type: ignore[misc]
    return [{field.decode(): int(value) for field, value in one.items() if int(value)} for one in hashes]


async def wrong(redis: Store) -> list[str]:
    found = await audit.audit(Books(redis, 1))
    return [line for line in found.differences if not line.startswith("conservation")]


def at(provider: str, model: str, **counters: int) -> list[dict[str, int]]:
    return [{group(provider, model) + name: value for name, value in counters.items()}] * 3


PLACES: list[dict[str, Any]] = [
    {"provider": "anthropic", "model": "gpt-4o"},
    {"provider": "openai", "model": "o3"},
    {"provider": "anthropic", "model": "claude\x1fx 1 2 3"},
]


@pytest.mark.parametrize("place", PLACES)
async def test_it_moves_to_the_provider_and_model_that_answered(redis: Store, place: dict[str, Any]) -> None:
    await settle(redis, source="partial", outcome="gateway_lost", input_tokens=7, output_tokens=0, total_tokens=7)
    await settle(redis, final=True, **place)
    counters = dict.fromkeys(("requests", "unpriced_requests"), 1)
    tokens = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    assert await stored(redis) == at(place["provider"], place["model"], **counters, **tokens)
    first, second = await revisions(redis)
    assert first.moved is None
    assert second.moved is not None
    assert (second.moved.revision, second.moved.group) == (1, group("openai", "gpt-4o"))
    assert second.moved.values == booked(first.entry)
    assert await wrong(redis) == []


async def test_it_moves_to_another_key(redis: Store) -> None:
    await settle(redis, input_tokens=7, total_tokens=27)
    await settle(redis, key=OTHER_KEY, final=True)
    assert await stored(redis) == [{}] * 3
    everything = {"requests": 1, "unpriced_requests": 1, "input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    assert await stored(redis, OTHER_KEY) == at("openai", "gpt-4o", **everything)
    assert await wrong(redis) == []
    await redis.hincrby(names.totals(0, KEY), group("openai", "gpt-4o") + "requests", 1)  # type: ignore[misc]
    assert len(await wrong(redis)) == 1  # what is left behind is seen


async def of_team(redis: Store, team: str) -> list[dict[str, int]]:
    """Day and all-time totals of a team, without what is 0."""
    hashes = [await redis.hgetall(name) for name in (names.team_day(0, team, "20231114"), names.team_totals(0, team))]  # type: ignore[misc]
    return [{field.decode(): int(value) for field, value in one.items() if int(value)} for one in hashes]


ALL = {"requests": 1, "unpriced_requests": 1, "input_tokens": 10, "output_tokens": 20, "total_tokens": 30}


async def test_a_team_is_booked_beside_the_key(redis: Store) -> None:
    await settle(redis, team="red", input_tokens=7, total_tokens=27)
    await settle(redis, team="red", final=True)
    assert await of_team(redis, "red") == at("openai", "gpt-4o", **ALL)[:2]
    assert await stored(redis) == at("openai", "gpt-4o", **ALL)
    assert (await revisions(redis))[-1].moved is None
    assert await wrong(redis) == []
    assert 0 < await redis.ttl(names.team_day(0, "red", "20231114")) <= names.DAY_TTL_S
    assert await redis.ttl(names.team_totals(0, "red")) == -1
    for place in (names.team_totals(0, "red"), names.team_day(0, "red", "20231114")):
        await redis.hincrby(place, group("openai", "gpt-4o") + "requests", 1)  # type: ignore[misc]
    assert len(await wrong(redis)) == 2  # an audit sees it


TEAMS = [("", "red"), ("red", ""), ("red", "blue")]


@pytest.mark.parametrize("place", [{}, PLACES[0], {"key": OTHER_KEY}, {"key": OTHER_KEY} | PLACES[0]])
@pytest.mark.parametrize(("before", "after"), TEAMS)
async def test_it_moves_to_another_team(redis: Store, before: str, after: str, place: dict[str, Any]) -> None:
    """The result of work is booked on who began it; before it is known to be one, on who asks for it."""
    await settle(redis, team=before, total_tokens=27)
    await settle(redis, team=after, final=True, **place)
    assert await wrong(redis) == []
    here = at(place.get("provider", "openai"), "gpt-4o", **ALL)
    assert await stored(redis, place.get("key", KEY)) == here
    for team in {before, after} - {""}:
        assert await of_team(redis, team) == (here[:2] if team == after else [{}, {}])
    moved = (await revisions(redis))[-1].moved
    assert moved is not None
    assert (moved.key, moved.team) == (KEY, before)
    if before:
        await redis.hincrby(names.team_totals(0, before), group("openai", "gpt-4o") + "requests", 1)  # type: ignore[misc]
        assert len(await wrong(redis)) == 1  # what is left behind is seen


@pytest.mark.parametrize("amended", [False, True])
async def test_the_day_of_a_team_ends_with_those_of_keys(redis: Store, *, amended: bool) -> None:
    """Also where the key had booked something in that hour before it came to the team, and where the day of an amended
    exchange has expired."""
    one, other = (ExchangeId(ID.boot, 0, n) for n in (1, 2))
    books, day = Ledger(redis), names.team_day(0, "red", "20231114")
    await books.settle([Settlement(one, entry(one), []), Settlement(other, entry(other, team="red"), [], final=False)])
    if amended:
        await redis.delete(day)
        [so_far] = await books.provisional(0, [other])
        await books.settle([Settlement(other, entry(other, team="red", total_tokens=99), [], so_far=so_far)])
    assert 0 < await redis.ttl(day) <= names.DAY_TTL_S


async def test_it_may_move_again_and_back(redis: Store) -> None:
    await settle(redis, total_tokens=5)
    await settle(redis, total_tokens=6, **PLACES[0])
    await settle(redis, total_tokens=7, **PLACES[2])
    await settle(redis, total_tokens=8)
    assert [one.revision for one in await revisions(redis)] == [1, 2, 3, 4]
    await settle(redis, final=True, total_tokens=30)
    counted = {"requests": 1, "unpriced_requests": 1, "input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    assert await stored(redis) == at("openai", "gpt-4o", **counted)
    assert await wrong(redis) == []
    assert (await revisions(redis))[-1].moved is None


@pytest.mark.parametrize("place", [{}, PLACES[0]])
async def test_every_entry_says_what_it_adds(redis: Store, place: dict[str, Any]) -> None:
    await settle(redis, total_tokens=100, cost_microusd=5, cost_nanousd=5000, **PRICED)
    await settle(redis, total_tokens=40, output_tokens=None, **PRICED, **place)
    await settle(redis, final=True, total_tokens=41, cost_microusd=2, cost_nanousd=2000, **PRICED)
    entries = await revisions(redis)
    for before, after in zip([None, *entries], entries, strict=False):
        was = booked(before.entry) if before else (0,) * len(BOOKED)
        adds = [now - then for now, then in zip(booked(after.entry), was, strict=True)]
        assert after.delta == dict(zip(BOOKED, adds, strict=True))
    assert entries[1].delta is not None
    assert entries[1].delta["cost_nanousd"] == -5000
    assert await wrong(redis) == []


@pytest.mark.parametrize("place", [{}, PLACES[0]])
async def test_no_amount_is_too_large_to_be_exact(redis: Store, place: dict[str, Any]) -> None:
    """Lua makes 1e+14 of 10^14 where a number is joined to a text."""
    await settle(redis, total_tokens=10**14, cost_microusd=1, cost_nanousd=LARGEST, **PRICED)
    await settle(redis, total_tokens=LARGEST, cost_microusd=10**14 + 1, cost_nanousd=1, **PRICED, **place)
    [row] = [row for row in (await totals.read(Books(redis, 1), [KEY]))[KEY] if row["requests"]]
    assert (row["total_tokens"], row["cost_microusd"], row["cost_nanousd"]) == (LARGEST, 10**14 + 1, 1)
    await settle(redis, final=True, total_tokens=10**14, cost_nanousd=LARGEST, cost_microusd=10**14, **PRICED, **place)
    last = (await revisions(redis))[-1].delta
    assert last is not None
    assert (last["total_tokens"], last["cost_nanousd"]) == (10**14 - LARGEST, LARGEST - 1)
    assert await wrong(redis) == []


async def test_a_value_that_says_nothing_of_its_place_is_amended_where_it_is(redis: Store) -> None:
    """Earlier meters wrote the numbers alone, of the names they knew."""
    await settle(redis, input_tokens=7, total_tokens=27)
    value = Provisional.decode((await Ledger(redis).provisional(0, [ID]))[0])
    earlier = Provisional(value.revision, value.values[:-1]).encode()
    assert earlier == "1 1 7 20 0 0 0 27 0 0 1 0"
    await redis.hset(names.provisional(0), str(ID), earlier)  # type: ignore[misc]
    await settle(redis, final=True, cost_microusd=3, cost_nanousd=3000, **PRICED)
    costs = {"cost_microusd": 3, "cost_nanousd": 3000}
    counted = {"requests": 1, "input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    assert await stored(redis) == at("openai", "gpt-4o", **counted, **costs)
    assert await wrong(redis) == []


async def test_the_value_that_is_kept_says_where_it_is_booked(redis: Store) -> None:
    await settle(redis, **PLACES[2])
    [value] = await Ledger(redis).provisional(0, [ID])
    found = Provisional.decode(value)
    assert found == Provisional(1, booked(entry(ID)), KEY, group("anthropic", "claude x 1 2 3"))
    assert found.encode() == value
    await settle(redis, team="red")
    [value] = await Ledger(redis).provisional(0, [ID])
    found = Provisional.decode(value)
    assert found == Provisional(2, booked(entry(ID)), KEY, group("openai", "gpt-4o"), "red")
    assert found.encode() == value


async def test_nothing_new_is_not_booked_again(redis: Store) -> None:
    await settle(redis)
    [so_far] = await Ledger(redis).provisional(0, [ID])
    again = [
        Settlement(ID, entry(ID, **changes), [], final=final, so_far=so_far).changes
        for final, changes in ((False, {}), (False, {"total_tokens": 31}), (False, PLACES[1]), (True, {}))
    ]
    assert again == [False, True, True, True]


@pytest.mark.parametrize("provisional", [False, True])
async def test_totals_that_an_exchange_makes_do_not_stay_for_ever(redis: Store, provisional: bool) -> None:
    hour, day, active = names.hour(0, KEY, "2023111422"), names.day(0, KEY, "20231114"), names.active(0, "20231114")
    await settle(redis, final=not provisional)
    assert [await redis.ttl(name) > 0 for name in (hour, day, active)] == [True] * 3
    if provisional:
        await redis.delete(hour, day)  # they expired meanwhile
        await settle(redis, final=True, total_tokens=31)
        assert [await redis.ttl(name) > 0 for name in (hour, day)] == [True] * 2
    other = ExchangeId(ID.boot, 0, 4)
    await redis.delete(hour)  # and so may an hour whose day is there still
    await Ledger(redis).settle([Settlement(other, entry(other), [])])
    assert await redis.ttl(hour) > 0
    assert await redis.ttl(day) > 0
