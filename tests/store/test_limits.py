"""Scopes of limits on a real Redis: what is admitted, reserved, applied, released, and found after a loss."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.gateway.limiting.answers import Verdict
from services.gateway.limiting.limiter import Limiter
from services.gateway.limiting.scopes import Scope, Size
from shared.books import boots, followers, limit_scopes, limit_upkeep
from shared.books.books import Books
from shared.books.boots import BootState
from shared.contract import limits, names
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.limits import Limits, ModelLimits, Reset
from shared.runtime import events
from shared.runtime.errors import Refused
from shared.runtime.store import Store
from tests.support.limits import DAY_MS, SCOPE, admit, book, fed, fields, follower, now_ms, start
from tests.support.tails import KEY, OPENED_MS

BOOT = new_boot()
TODAY = limits.period(OPENED_MS)


def id_of(n: int, shard: int = 0) -> ExchangeId:
    return ExchangeId(BOOT, shard, n)


async def ask(redis: Store, permit: str, given: ModelLimits, nanousd: int = 0, tokens: int = 0) -> Verdict:
    return await admit(redis, permit, given, reserve=(nanousd, tokens), at_ms=OPENED_MS)


async def test_a_scope_that_was_never_started_knows_nothing(redis: Store) -> None:
    assert (await ask(redis, "b.1", ModelLimits(limit_nanousd=10))).verdict == -2
    assert await fields(redis) == {}


async def test_a_question_that_comes_too_late_reserves_nothing(redis: Store) -> None:
    await start(redis)
    said = await admit(redis, "b.1", ModelLimits(limit_nanousd=10), reserve=(5, 5), until=await now_ms(redis) - 1)
    assert said.verdict == -1
    assert "p:b.1" not in await fields(redis)


async def test_nobody_is_refused_below_a_limit_and_everybody_at_it(redis: Store) -> None:
    """What is reserved counts; what the request itself will reserve does not."""
    await start(redis)
    given = ModelLimits(limit_nanousd=100)
    assert (await ask(redis, "b.1", given, 99)).verdict == 1
    assert (await ask(redis, "b.2", given, 500)).verdict == 1
    third = await ask(redis, "b.3", given, 1)
    assert (third.verdict, third.why, third.wait_ms, third.held_nanousd) == (0, 1, 1000, 599)


async def test_a_spent_budget_says_that_waiting_does_not_help(redis: Store) -> None:
    await book(redis, id_of(0), cost_nanousd=100, cost_microusd=0)
    await start(redis, now_ms=OPENED_MS)
    said = await ask(redis, "b.1", ModelLimits(limit_nanousd=100))
    assert (said.verdict, said.why, said.wait_ms, said.nanousd) == (0, 1, -1, 100)


async def test_a_scope_that_has_refused_is_not_served_without_redis(redis: Store) -> None:
    """What it had left when it last admitted is older than its refusal."""
    limiter = Limiter(redis, lambda: BOOT, 1, 60)
    spent = Scope(SCOPE, SCOPE, ModelLimits(limit_nanousd=100))
    await limiter.reserve([spent], "g", Size(True, 0, 0))
    await book(redis, id_of(0), cost_nanousd=100, cost_microusd=0)
    await fed(redis)
    with pytest.raises(Refused):
        await limiter.reserve([spent], "g", Size(True, 0, 0))
    with pytest.raises(Refused):
        limiter.away.admit([spent], Size(True, 0, 0), 1)


async def test_a_soft_limit_tells_and_admits(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(limit_nanousd=0, soft=True)
    said = await ask(redis, "b.1", given, 7)
    assert (said.verdict, said.why, said.reserve_nanousd) == (2, 1, 7)


async def test_asking_again_with_a_permit_changes_nothing(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(limit_nanousd=100, requests_per_minute=5, concurrent_requests=2)
    await ask(redis, "b.1", given, 60)
    before = await fields(redis)
    assert (await ask(redis, "b.1", given, 60)).verdict == 1
    assert await fields(redis) == before


async def test_the_first_entry_ends_a_reservation_and_later_ones_add_differences(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(limit_nanousd=1000)
    await ask(redis, f"{BOOT}.1", given, 60, 40)
    value: dict[str, Any] = {"permit": f"{BOOT}.1", "cost_nanousd": 10, "cost_microusd": 0}
    await book(redis, id_of(0), final=False, total_tokens=30, **value)
    await fed(redis)
    found = await fields(redis)
    assert f"p:{BOOT}.1" not in found
    assert (found["usd:e"], found["tok:e"], found["r:usd"], found["r:tok"]) == ("10", "30", "0", "0")
    so_far = (await redis.hget(names.provisional(0), str(id_of(0)))).decode()  # type: ignore[misc]
    await book(redis, id_of(0), so_far=so_far, total_tokens=35, **{**value, "cost_nanousd": 25})
    await fed(redis)
    found = await fields(redis)
    assert (found["usd:e"], found[f"usd:d:{TODAY.day}"], found["tok:e"], found["r:usd"]) == ("25", "25", "35", "0")


async def test_an_amendment_to_another_model_moves_between_patterns(redis: Store) -> None:
    await start(redis, "", "gpt-4o", "openai/gpt-5*")
    value: dict[str, Any] = {"cost_nanousd": 10, "cost_microusd": 0}
    await book(redis, id_of(0), final=False, **value)
    await fed(redis)
    so_far = (await redis.hget(names.provisional(0), str(id_of(0)))).decode()  # type: ignore[misc]
    await book(redis, id_of(0), so_far=so_far, model="gpt-5-mini", **{**value, "cost_nanousd": 16})
    await fed(redis)
    used = {
        pattern: (await fields(redis, limits.part(SCOPE, pattern)))["usd:e"]
        for pattern in ("", "gpt-4o", "openai/gpt-5*")
    }
    assert used == {"": "16", "gpt-4o": "0", "openai/gpt-5*": "16"}


async def test_what_is_applied_twice_counts_once(redis: Store) -> None:
    """A follower that died between its sink and its cursor, and one that lost its cursor."""
    await start(redis)
    for n in range(5):
        await book(redis, id_of(n), cost_nanousd=10, cost_microusd=0)
    await fed(redis)
    await followers.forget(redis, "limits", 1)
    await fed(redis)
    assert (await fields(redis))["usd:e"] == "50"


async def test_a_new_limit_starts_from_what_is_booked(redis: Store) -> None:
    """Whether the follower has read it or not, in every shard, of this key alone."""
    yesterday = OPENED_MS - DAY_MS
    await book(redis, id_of(0), cost_nanousd=1, cost_microusd=0, opened_ms=OPENED_MS - 400 * DAY_MS)
    await book(redis, id_of(1, 1), cost_nanousd=20, cost_microusd=0, opened_ms=yesterday)
    await fed(redis, 2)
    await book(redis, id_of(2), cost_nanousd=300, cost_microusd=0)
    await book(redis, id_of(3), cost_nanousd=9999, cost_microusd=0, key="d" * 64)
    await start(redis, shards=2, now_ms=OPENED_MS)
    await book(redis, id_of(4, 1), cost_nanousd=4000, cost_microusd=0)
    await fed(redis, 2)
    found = await fields(redis)
    assert found["usd:e"] == "4321"
    assert found[f"usd:d:{TODAY.day}"] == "4300"
    assert found[f"usd:d:{TODAY.day - 1}"] == "20"


async def test_everything_starts_from_all_keys(redis: Store) -> None:
    for n in range(3):
        await redis.zadd(names.KEYS, {str(n) * 64: n})
        await book(redis, id_of(n), cost_nanousd=10, cost_microusd=0, key=str(n) * 64)
    await start(redis, owner=limits.EVERYTHING, now_ms=OPENED_MS)
    await book(redis, id_of(3), cost_nanousd=5, cost_microusd=0, key="0" * 64)
    await fed(redis)
    found = await fields(redis, limits.EVERYTHING)
    assert (found["usd:e"], found[f"usd:m:{TODAY.month}"]) == ("35", "35")


async def test_a_team_starts_from_what_its_keys_have_opened_in_it(redis: Store) -> None:
    owner = limits.team_scope("research")
    await book(redis, id_of(0), cost_nanousd=10, cost_microusd=0, team="research")
    await book(redis, id_of(1), cost_nanousd=500, cost_microusd=0)
    await start(redis, owner=owner, now_ms=OPENED_MS)
    await book(redis, id_of(2), cost_nanousd=7, cost_microusd=0, team="research", final=False)
    await fed(redis)
    assert (await fields(redis, owner))["usd:e"] == "17"
    so_far = (await redis.hget(names.provisional(0), str(id_of(2)))).decode()  # type: ignore[misc]
    await book(redis, id_of(2), cost_nanousd=9, cost_microusd=0, team="other", so_far=so_far)
    await fed(redis)
    assert (await fields(redis, owner))["usd:e"] == "10"


async def test_undoing_gives_back_what_a_request_took(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(
        limit_nanousd=100, requests_per_minute=1, tokens_per_minute=50, requests_per_day=1, concurrent_requests=1
    )
    assert (await ask(redis, "b.1", given, 10, 50)).verdict == 1
    assert (await ask(redis, "b.2", given, 10, 50)).verdict == 0
    for _ in range(2):
        await limit_scopes.release(redis, "undo", {SCOPE: ["b.1"]})
    found = await fields(redis)
    assert (found["r:usd"], found["r:tok"], found["slots"]) == ("0", "0", "0")
    assert (await ask(redis, "b.3", given, 10, 50)).verdict == 1


async def test_a_request_that_has_ended_runs_no_longer_and_keeps_its_reserve(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(limit_nanousd=100, concurrent_requests=1)
    await ask(redis, "b.1", given, 10)
    assert (await ask(redis, "b.2", given, 10)).why == 6
    for _ in range(2):
        await limit_scopes.release(redis, "ended", {SCOPE: ["b.1"]})
    assert (await ask(redis, "b.3", given, 10)).held_nanousd == 10


async def test_rates_are_counted_in_whole_requests_and_flow_back(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(requests_per_minute=2)
    said = [await ask(redis, f"b.{n}", given) for n in range(3)]
    assert [one.verdict for one in said] == [1, 1, 0]
    assert [one.left_rpm for one in said] == [1, 0, 0]
    assert 0 < said[2].wait_ms <= 30_000
    await redis.hset(names.limit(SCOPE), "rpm", f"120000 {said[2].now_ms - 30_000}")  # type: ignore[misc]
    assert (await ask(redis, "b.4", given)).verdict == 1


async def test_tokens_per_minute_are_corrected_by_what_was_used(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(tokens_per_minute=100)
    await ask(redis, f"{BOOT}.1", given, 0, 60)
    await book(redis, id_of(0), total_tokens=300, permit=f"{BOOT}.1")
    await fed(redis)
    said = await ask(redis, f"{BOOT}.2", given, 0, 60)
    assert (said.verdict, said.why) == (0, 4)
    assert said.left_tpm < -190
    assert 110_000 < said.wait_ms <= 120_001


async def test_what_was_served_without_a_reservation_counts_in_rates_too(redis: Store) -> None:
    await start(redis)
    given = ModelLimits(tokens_per_minute=1000, requests_per_day=10)
    await ask(redis, f"{BOOT}.1", given, 0, 10)
    await book(redis, id_of(0), total_tokens=300, permit=f"{BOOT}.2")
    await fed(redis)
    said = await ask(redis, f"{BOOT}.3", given, 0, 0)
    assert 690 <= said.left_tpm < 1000
    assert said.left_rpd == 7


async def test_a_request_that_costs_nothing_counts_once(redis: Store) -> None:
    """Not when it is admitted and again when it is settled, nor where another scope refuses it."""
    await start(redis)
    given = ModelLimits(requests_per_day=10)
    for _ in range(2):  # the first answer was lost
        said = await admit(redis, f"{BOOT}.1", given, calls=False)
    assert said.left_rpd == 9
    await book(redis, id_of(0), permit=f"{BOOT}.1", total_tokens=0)
    await admit(redis, f"{BOOT}.2", given, calls=False)
    await limit_scopes.release(redis, "undo", {SCOPE: [f"{BOOT}.2"]})
    await fed(redis)
    assert (await admit(redis, f"{BOOT}.3", given, calls=False)).left_rpd == 8


async def test_a_reserve_is_what_such_calls_usually_cost(redis: Store) -> None:
    """And never more than the request allows; agents ask for 32,000 tokens and use 300."""
    await start(redis)
    given = ModelLimits(limit_nanousd=10**9)
    for n in range(8):
        await book(redis, id_of(n), total_tokens=300, cost_nanousd=3_000, cost_microusd=3)
    await fed(redis)
    group = next(name[2:] for name in await fields(redis) if name.startswith("u:"))
    usual = await admit(redis, "b.1", given, reserve=(10**8, 32_000), most=32_000, group=group)
    assert (usual.reserve_nanousd, usual.reserve_tokens) == (3_000, 300)
    bounded = await admit(redis, "b.2", given, reserve=(10**8, 32_000), most=30, group=group)
    assert (bounded.reserve_nanousd, bounded.reserve_tokens) == (300, 30)
    unknown = await admit(redis, "b.3", given, reserve=(70, 7), group="another")
    assert (unknown.reserve_nanousd, unknown.reserve_tokens) == (70, 7)


async def test_a_scope_learns_of_a_bounded_number_of_models(redis: Store) -> None:
    await start(redis)
    for n in range(40):
        await book(redis, id_of(n), total_tokens=100, cost_nanousd=10, cost_microusd=0, model=f"model-{n}")
    await fed(redis)
    assert sum(name.startswith("u:") for name in await fields(redis)) == 33


async def test_a_server_that_took_over_is_counted_from_its_totals(redis: Store) -> None:
    """It has lost an entry that was applied, and has a reservation again that had ended."""
    await start(redis)
    await book(redis, id_of(0), cost_nanousd=10, cost_microusd=0, permit="b.1")
    following = follower(redis)
    await following.round([0])
    await redis.hset(names.limit(SCOPE), mapping={"usd:e": "99", "p:b.1": "5 5 0", "r:usd": "5", "r:tok": "5"})  # type: ignore[misc]
    await redis.hset(names.limit(SCOPE), "cursor:0", f"{2**50}-0")  # type: ignore[misc]
    await redis.hset(names.follow(0, "limits"), "server", "the one before")  # type: ignore[misc]
    await fed(redis)
    found = await fields(redis)
    assert (found["usd:e"], found["state"], found["r:usd"]) == ("10", "1", "0")
    assert "p:b.1" not in found
    await book(redis, id_of(1), cost_nanousd=7, cost_microusd=0)
    await fed(redis)
    assert (await fields(redis))["usd:e"] == "17"


async def test_a_dead_gateway_leaves_no_reservation(redis: Store) -> None:
    """Once it is accounted for, all of its exchanges are settled, and they were applied."""
    await start(redis)
    given, books = ModelLimits(limit_nanousd=1000), Books(redis, 1)
    for n in range(2):
        await ask(redis, f"{BOOT}.{n}", given, 10)
    await boots.heartbeat(redis, {BOOT: {0: 1}}, BootState.LIVE)
    now = await now_ms(redis)
    assert await limit_upkeep.release_dead(books, "limits", now) == 0
    await boots.heartbeat(redis, {BOOT: {0: 1}}, BootState.ADOPTED)
    assert await limit_upkeep.release_dead(books, "limits", now) == 0  # one exchange is not settled
    await book(redis, id_of(0), cost_nanousd=4, cost_microusd=0, permit=f"{BOOT}.0")
    assert await limit_upkeep.release_dead(books, "limits", now) == 0  # nor applied
    await fed(redis)
    assert await limit_upkeep.release_dead(books, "limits", now) == 1
    found = await fields(redis)
    assert (found["r:usd"], found["usd:e"]) == ("0", "4")


async def test_periods_roll_over_and_old_ones_are_forgotten(redis: Store) -> None:
    given = ModelLimits(limit_nanousd=10, limit_reset=Reset.DAILY)
    await book(redis, id_of(0), cost_nanousd=10, cost_microusd=0)
    await start(redis, now_ms=OPENED_MS)
    assert (await ask(redis, "b.1", given)).verdict == 0
    assert (await admit(redis, "b.2", given, at_ms=OPENED_MS + DAY_MS)).verdict == 1
    await limit_upkeep.prune(redis, SCOPE, OPENED_MS + 100 * DAY_MS)
    found = await fields(redis)
    assert [name for name in found if name.startswith(("usd:", "tok:"))] == ["usd:e", "tok:e"]


async def test_shares_of_a_budget_are_told_once(redis: Store) -> None:
    await start(redis)
    await ask(redis, "b.1", ModelLimits(limit_nanousd=100, limit_reset=Reset.MONTHLY))
    for n in range(4):
        await book(redis, id_of(n), cost_nanousd=30, cost_microusd=0)
        await fed(redis)
    await followers.forget(redis, "limits", 1)
    await fed(redis)
    found = (await events.read(redis, "0-0", 100)).events
    assert [(one.data["percent"], one.data["scope"]) for one in found] == [(50, SCOPE), (80, SCOPE), (100, SCOPE)]
    assert int((await fields(redis))["over"]) == 200_000


async def test_limits_that_are_taken_away_are_counted_no_longer(redis: Store) -> None:
    books = Books(redis, 1)
    given = Limits(limit_nanousd=1, models={"gpt-4o": ModelLimits(limit_nanousd=1)})
    wanted = [pattern for pattern, _ in given.parts()]
    await limit_scopes.follow(books, SCOPE, wanted, OPENED_MS)
    assert await limit_scopes.known(redis) == {SCOPE: ["", "gpt-4o"]}
    await limit_scopes.follow(books, SCOPE, [""], OPENED_MS)
    assert await fields(redis, f"{SCOPE}:gpt-4o") == {}
    await limit_scopes.follow(books, SCOPE, [], OPENED_MS)
    assert await limit_scopes.known(redis) == {}
    assert await fields(redis) == {}
    assert KEY in SCOPE


async def test_patterns_that_are_started_at_once_are_all_counted(redis: Store) -> None:
    """Gateways do so when Redis has lost its scopes. A pattern that started and is not counted would be no limit."""
    patterns = ["", "claude*", "gpt*", 'a"/\\é*']
    await asyncio.gather(*(start(redis, pattern) for pattern in patterns))
    assert await limit_scopes.known(redis) == {SCOPE: sorted(patterns)}
    await limit_scopes.stop(redis, SCOPE, ["gpt*", "", "claude*"])
    assert await limit_scopes.known(redis) == {SCOPE: patterns[3:]}
    await limit_scopes.stop(redis, SCOPE)
    assert await limit_scopes.known(redis) == {}


async def test_limits_that_nobody_can_read_are_not_checked(redis: Store) -> None:
    await redis.hset(names.LIMITS, "all", "not JSON")  # type: ignore[misc]
    with pytest.raises(Refused) as refused:
        await Limiter(redis, lambda: BOOT, 1, None).ready()
    assert (refused.value.status, refused.value.code) == (503, "limits_not_checked")


async def test_a_scope_that_redis_refuses_to_count_is_not_checked(redis: Store) -> None:
    """Whatever its reason, callers are told that they may come back."""
    await redis.set(names.LIMITED, "no hash")
    with pytest.raises(Refused) as refused:
        await Limiter(redis, lambda: BOOT, 1, None).reserve(
            [Scope(SCOPE, SCOPE, ModelLimits(limit_tokens=1))], "g", Size(True)
        )
    assert (refused.value.status, refused.value.code) == (503, "limits_not_checked")
