"""Scopes of limits in Redis: started from a snapshot, fed by entries of the ledger, read, and tidied.

A scope is in `LIMITED` before its snapshot is taken, and who applies entries reads `LIMITED` after them. So an entry is
in the snapshot, or it is applied; what is both is known by the cursor of its shard.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from shared.books import limit_changes, limit_snapshots, scripted
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.contract import limits, names, scripts
from shared.contract.limits import ModelLimits, Period, Reset
from shared.runtime.errors import StoreUnavailable
from shared.runtime.store import Store, translated

_PERMITS = 500  # in one call of a script, during which Redis does nothing else
_TRIES = 20  # a follower that goes beyond a snapshot has it taken anew

_LETTERS: Mapping[Reset, str] = {Reset.DAILY: "d", Reset.WEEKLY: "w", Reset.MONTHLY: "m", Reset.NEVER: "e"}


class Applied(NamedTuple):
    """A scope to which entries were applied, as it is now. `told`: what was told already, in percent."""

    scope: str
    period: str
    nanousd: int
    tokens: int
    limits: str  # as the last admission had them, "" where there was none
    told_nanousd: int
    told_tokens: int
    overshoot: int  # the worst of this scope, in millionths of its budget


class State(NamedTuple):
    """What a scope has used in the period of its budget, and what is reserved. `limits` as scripts take them."""

    started: bool
    nanousd: int
    tokens: int
    reserved_nanousd: int
    reserved_tokens: int
    running: int  # of which concurrent requests are limited
    limits: str


def spelled(given: ModelLimits) -> str:
    """Limits as scripts take them."""
    amounts = (
        given.limit_nanousd,
        given.limit_tokens,
        given.requests_per_minute,
        given.tokens_per_minute,
        given.requests_per_day,
        given.concurrent_requests,
    )
    words = ["-" if amount is None else str(amount) for amount in amounts]
    return " ".join((_LETTERS[given.limit_reset], *words, str(int(given.soft))))


def budgets_of(spelled: str) -> tuple[int | None, int | None]:
    """The budgets in nano-dollars and tokens of limits as scripts take them."""
    words = spelled.split(" ") if spelled else ["e", "-", "-"]
    nanousd, tokens = (None if word == "-" else int(word) for word in words[1:3])
    return nanousd, tokens


async def known(store: Store) -> dict[str, list[str]]:
    """The patterns of every scope that is counted."""
    with translated():
        found = await store.hgetall(names.LIMITED)  # type: ignore[misc]  # redis-py types it as sync or async
    return {owner.decode(): json.loads(patterns) for owner, patterns in found.items()}


async def start(books: Books, owner: str, patterns: Collection[str], now_ms: int, *, anew: bool = False) -> None:
    """Have an owner's scopes counted, from what its totals say. `anew`: forget how far each shard was read, as after a
    change of the server. StoreUnavailable where its followers are always faster."""
    store = books.store
    wanted = await _counted(store, owner, "add", patterns)
    with translated():
        pipeline = store.pipeline(transaction=False)
        for scope in (limits.part(owner, pattern) for pattern in wanted):
            if anew:
                pipeline.hset(names.limit(scope), "state", "0")
                pipeline.hdel(names.limit(scope), *(f"cursor:{shard}" for shard in range(books.shards)))
            else:
                pipeline.hsetnx(names.limit(scope), "state", "0")
        await pipeline.execute()
    for _ in range(_TRIES):
        if await _started(books, owner, wanted, now_ms):
            return
    raise StoreUnavailable(f"the limits of {owner} could not start: the ledger moves too fast")


async def _started(books: Books, owner: str, patterns: Sequence[str], now_ms: int) -> bool:
    snapshot = await limit_snapshots.take(books, owner, patterns, now_ms)
    cursors = [word for shard, id in snapshot.cursors.items() for word in (shard, id)]
    calls = []
    for pattern in patterns:
        used: list[str | int] = []
        for field, amount in snapshot.used[pattern].items():
            used += [f"usd:{field}", amount.nanousd, f"tok:{field}", amount.tokens]
        key = names.limit(limits.part(owner, pattern))
        calls.append((scripts.LIMIT_START, [key], [books.shards, *cursors, *used]))
    return all(await scripted.evaluate(books.store, calls))


async def stop(store: Store, owner: str, patterns: Collection[str] | None = None) -> None:
    """Count an owner's scopes no longer: those of these patterns, or all."""
    counted = (await known_of(store, [owner])).get(owner, [])
    gone = [pattern for pattern in counted if patterns is None or pattern in patterns]
    await _counted(store, owner, "remove", gone)
    with translated():
        for pattern in gone:
            await store.delete(names.limit(limits.part(owner, pattern)))


async def _counted(store: Store, owner: str, how: str, patterns: Collection[str]) -> list[str]:
    """Add patterns to those that are counted of an owner, or remove them. Returns those that are counted now."""
    [found] = await scripted.evaluate(store, [(scripts.LIMIT_PATTERNS, [names.LIMITED], [owner, how, *patterns])])
    return [pattern.decode() for pattern in found]


async def follow(books: Books, owner: str, wanted: Collection[str], now_ms: int) -> None:
    """Have exactly these patterns of an owner counted, after its limits were changed."""
    counted = (await known_of(books.store, [owner])).get(owner, [])
    if gone := set(counted) - set(wanted):
        await stop(books.store, owner, gone)
    if set(wanted) - set(counted):
        await start(books, owner, wanted, now_ms)


async def known_of(store: Store, owners: Sequence[str]) -> dict[str, list[str]]:
    """The patterns of those of these owners that are counted."""
    if not owners:
        return {}
    with translated():
        found = await store.hmget(names.LIMITED, list(owners))  # type: ignore[misc]
    return {owner: json.loads(patterns) for owner, patterns in zip(owners, found, strict=True) if patterns}


async def apply(store: Store, shard: int, entries: Sequence[LedgerEntry]) -> list[Applied]:
    """Apply the next entries of a shard, in their order, to every scope that is counted. Doing it again changes
    nothing."""
    concerned = {entry.id: limit_changes.owners(entry) for entry in entries}
    counted = await known_of(store, sorted(set().union(*concerned.values())))
    calls, scopes = [], []
    for owner, patterns in counted.items():
        mine = [entry for entry in entries if owner in concerned[entry.id]]
        for pattern in patterns:
            scope = limits.part(owner, pattern)
            arguments: list[str | int] = [shard]
            for entry in mine:
                arguments += limit_changes.arguments(entry, owner, pattern)
            calls.append((scripts.LIMIT_APPLY, [names.limit(scope)], arguments))
            scopes.append(scope)
    replies = await scripted.evaluate(store, calls) if calls else []
    return [_applied(scope, reply) for scope, reply in zip(scopes, replies, strict=True) if reply[0] > 0]


def _applied(scope: str, reply: list[bytes]) -> Applied:
    _, period, nanousd, tokens, given, told_nanousd, told_tokens, over = reply
    return Applied(
        scope,
        period.decode(),
        int(nanousd),
        int(tokens),
        given.decode(),
        int(told_nanousd),
        int(told_tokens),
        int(over),
    )


async def states(store: Store, scopes: Sequence[str], at: Period, resets: Sequence[Reset]) -> list[State]:
    """The state of each scope, with what it has used in the period that its reset gives."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for scope, reset in zip(scopes, resets, strict=True):
            period = at.field(reset)
            fields = ["state", f"usd:{period}", f"tok:{period}", "r:usd", "r:tok", "slots", "limits"]
            pipeline.hmget(names.limit(scope), fields)
        replies = await pipeline.execute() if scopes else []
    return [
        State(
            state == b"1",
            int(usd or 0),
            int(tok or 0),
            int(held_usd or 0),
            int(held_tok or 0),
            int(slots or 0),
            (given or b"").decode(),
        )
        for state, usd, tok, held_usd, held_tok, slots, given in replies
    ]


async def told(store: Store, scope: str, counter: str, period: str, percent: int) -> None:
    """Note that a share of a budget was told. `counter`: usd or tok."""
    with translated():
        await store.hset(names.limit(scope), f"told:{counter}:{period}", str(percent))  # type: ignore[misc]


async def release(store: Store, how: str, permits: Mapping[str, Sequence[str]]) -> None:
    """End reservations, by scope; `how` as the script takes it."""
    calls = [
        (scripts.LIMIT_RELEASE, [names.limit(scope)], [how, *some[first : first + _PERMITS]])
        for scope, some in permits.items()
        for first in range(0, len(some), _PERMITS)
    ]
    if calls:
        await scripted.evaluate(store, calls)


async def note_overshoot(store: Store, millionths: int) -> None:
    """Note the worst overshoot of a budget, in millionths of it. Of two processes that do so at once one may be lost
    until it is exceeded again."""
    with translated():
        if millionths > int(await store.hget(names.LIMITS, "over") or 0):  # type: ignore[misc]
            await store.hset(names.LIMITS, "over", str(millionths))  # type: ignore[misc]


async def worst_overshoot(store: Store) -> float:
    """The worst overshoot seen of any scope, as a share of its budget."""
    with translated():
        return int(await store.hget(names.LIMITS, "over") or 0) / 1_000_000  # type: ignore[misc]
