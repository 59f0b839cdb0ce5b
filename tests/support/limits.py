"""Scopes of limits in tests: asked as a gateway asks, fed as a follower feeds them."""

from __future__ import annotations

from typing import Any

from services.gateway.limiting.answers import Verdict
from services.meter.limits import LimitSink
from services.meter.settle import Ledger, Settlement
from shared.books import limit_scopes, scripted, streams
from shared.books.books import Books
from shared.books.follow import Follower
from shared.contract import limits, names, scripts
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId
from shared.contract.limits import ModelLimits
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.tails import KEY

SCOPE = limits.key_scope(KEY)
DAY_MS = limits.DAY_MS
FAR = 2**52  # ms: no script is too late


async def admit(
    redis: Store,
    permit: str,
    given: ModelLimits,
    *,
    scope: str = SCOPE,
    reserve: tuple[int, int] = (0, 0),
    most: int | None = None,
    calls: bool = True,
    at_ms: int = 0,
    until: int = FAR,
    group: str = "g",
) -> Verdict:
    """What a scope says of one request. `reserve`: nano-dollars and tokens, while nothing is learned."""
    words = [*reserve, "-" if most is None else most, int(calls), limit_scopes.spelled(given), *limits.period(at_ms)]
    arguments: list[str | int | bytes] = [permit, until, group, " ".join(map(str, words))]
    [reply] = await scripted.evaluate(redis, [(scripts.LIMIT_ADMIT, [names.limit(scope)], arguments)])
    return Verdict.of(reply)


async def start(redis: Store, *patterns: str, owner: str = SCOPE, shards: int = 1, now_ms: int = 0) -> None:
    """Have a scope counted, from what is booked."""
    await limit_scopes.start(Books(redis, shards), owner, patterns or ("",), now_ms)


async def book(redis: Store, id: ExchangeId, *, final: bool = True, so_far: str = "", **fields: Any) -> Entry:
    """Settle an exchange."""
    made = entry(id, **{"price_version": "1", **fields})
    await Ledger(redis).settle([Settlement(id, made, [], final=final, so_far=so_far)])
    return made


def follower(redis: Store, shards: int = 1, count: int = 200) -> Follower:
    """The follower that feeds limits."""
    return Follower(redis, LimitSink(redis, shards), back_ms=60_000, count=count)


async def fed(redis: Store, shards: int = 1) -> None:
    """Have everything applied that is booked."""
    following = follower(redis, shards)
    while await following.round(range(shards)):
        pass


async def fields(redis: Store, scope: str = SCOPE) -> dict[str, str]:
    """All fields of a scope."""
    found = await redis.hgetall(names.limit(scope))  # type: ignore[misc]
    return {name.decode(): value.decode() for name, value in found.items()}


async def now_ms(redis: Store) -> int:
    """Redis's clock."""
    return await streams.now_ms(redis)
