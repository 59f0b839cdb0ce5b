"""The followers of the ledger as Redis knows them: which there are, how far each has read, and what they hold back.

A sink that writes elsewhere has its cursor there; what Redis says of it may be a little older, and is enough for this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shared.books import ledger
from shared.books.books import Books
from shared.books.ledger import order
from shared.contract import names, scripts
from shared.runtime.store import Store, info, translated

_MOST_ERROR = 300  # characters


class Cursor(NamedTuple):
    """How far a sink has got in one shard."""

    position: str = ""  # id of the last entry that is written; a time (ms) after it went back; "" before the first
    epoch: int = 0  # higher after every change of the server
    server: str = ""  # of Redis, as `streams.server_id` says


class Gap(NamedTuple):
    """A time (ms) of settling, of which a follower has missed entries: they were trimmed before it read them."""

    since_ms: int
    until_ms: int


@dataclass(slots=True)
class State:
    """How a follower does, over all shards. `failing`: its last round has failed somewhere."""

    name: str
    lag_ms: int = 0  # since its oldest unread entry was settled
    behind: int = 0  # shards with unread entries
    noted_ms: int | None = None  # when it last said something, in the shard where that is longest ago; None: never
    error: str = ""
    error_ms: int | None = None
    failing: bool = False
    skipped: int = 0  # entries that nobody can read
    gaps: dict[int, Gap] = field(default_factory=dict)  # the last one of each shard
    begun_ms: int = 0  # what was settled before was no longer in the ledger when it began; 0: it has all there ever was


async def register(store: Store, name: str) -> None:
    """From now on the ledger is held back for this follower."""
    with translated():
        await store.sadd(names.FOLLOWERS, name)  # type: ignore[misc]


async def forget(store: Store, name: str, shards: int) -> bool:
    """Hold nothing back for a follower that will not come again. Returns whether there was one of this name."""
    with translated():
        known = await store.srem(names.FOLLOWERS, name)  # type: ignore[misc]
        for shard in range(shards):
            await store.delete(names.follow(shard, name))
    return bool(known)


async def known(store: Store) -> list[str]:
    """The names of all followers."""
    with translated():
        return sorted(name.decode() for name in await store.smembers(names.FOLLOWERS))  # type: ignore[misc]


async def cursors(store: Store, name: str, shards: Collection[int]) -> dict[int, Cursor]:
    """The cursors that Redis holds."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard in shards:
            pipeline.hmget(names.follow(shard, name), ["position", "epoch", "server"])
        replies = await pipeline.execute()
    return {
        shard: Cursor((position or b"").decode(), int(epoch or 0), (server or b"").decode())
        for shard, (position, epoch, server) in zip(shards, replies, strict=True)
    }


async def move(store: Store, name: str, shard: int, before: Cursor, after: Cursor) -> bool:
    """Move a cursor that Redis holds. Returns False where it is not what it was before."""
    expected = f"{before.position} {before.epoch}"
    return bool(await _set(store, name, shard, _fields(after), expected))


async def note(store: Store, name: str, cursors: Mapping[int, Cursor], now_ms: int, *, move: bool) -> None:
    """Note that a follower is here now; `move`: its cursor is elsewhere, and Redis only hears of it."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard, cursor in cursors.items():
            fields = {**(_fields(cursor) if move else {}), "noted_ms": now_ms}
            pipeline.execute_command("EVAL", scripts.FOLLOW, 1, names.follow(shard, name), "", *_flat(fields))
        await pipeline.execute()


async def failed(store: Store, name: str, shards: Collection[int], error: str, now_ms: int) -> None:
    """Note that a round of a follower has failed, and why."""
    for shard in shards:
        await _set(store, name, shard, {"error": error[:_MOST_ERROR], "error_ms": now_ms})


async def lost(store: Store, name: str, shard: int, gap: Gap) -> None:
    """Note that entries were trimmed which a follower has not read."""
    await _set(store, name, shard, {"gap": f"{gap.since_ms} {gap.until_ms}"})


async def begun(store: Store, name: str, shard: int, first_ms: int) -> None:
    """Note that a follower begins with a ledger that has no entries from before this time (ms) any more."""
    await _set(store, name, shard, {"begun_ms": first_ms})


async def skipped(store: Store, name: str, shard: int, count: int) -> None:
    """Note that a follower has passed over entries that nobody can read."""
    with translated():
        await store.hincrby(names.follow(shard, name), "skipped", count)  # type: ignore[misc]


def _fields(cursor: Cursor) -> dict[str, Any]:
    return {"position": cursor.position, "epoch": cursor.epoch, "server": cursor.server}


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


async def _set(store: Store, name: str, shard: int, fields: Mapping[str, Any], expected: str = "") -> int:
    with translated():
        arguments = (names.follow(shard, name), expected, *_flat(fields))
        return int(await store.eval(scripts.FOLLOW, 1, *arguments))  # type: ignore[misc]


async def states(books: Books, now_ms: int) -> list[State]:
    """How all followers do, by Redis's clock."""
    return [await _state(books, name, now_ms) for name in await known(books.store)]


class Coverage(NamedTuple):
    """What a sink has: everything that was settled from `since` (None: ever) until `as_of`."""

    since: datetime | None
    as_of: datetime


async def coverage(books: Books, name: str, now_ms: int) -> Coverage | None:
    """What the sink of this follower has; None where Redis knows no such follower."""
    if name not in await known(books.store):
        return None
    state = await _state(books, name, now_ms)
    since_ms = max([state.begun_ms, *(gap.until_ms for gap in state.gaps.values())])
    since = datetime.fromtimestamp(since_ms / 1000, UTC) if since_ms else None
    return Coverage(since, datetime.fromtimestamp((now_ms - max(0, state.lag_ms)) / 1000, UTC))


async def _state(books: Books, name: str, now_ms: int) -> State:
    found = State(name)
    with translated():
        pipeline = books.store.pipeline(transaction=False)
        for shard in range(books.shards):
            pipeline.hgetall(names.follow(shard, name))
        replies = await pipeline.execute()
        said = [{key.decode(): value.decode() for key, value in reply.items()} for reply in replies]
        for shard, fields in enumerate(said):
            position = fields.get("position", "")
            pipeline.xrange(names.ledger(shard), f"({position}" if "-" in position else position or "-", "+", count=1)
        unread = await pipeline.execute()
    for shard, (fields, page) in enumerate(zip(said, unread, strict=True)):
        _add(found, shard, fields)
        if page:
            found.behind += 1
            found.lag_ms = max(found.lag_ms, now_ms - order(page[0][0].decode())[0])
    return found


def _add(found: State, shard: int, fields: Mapping[str, str]) -> None:
    """Add what is said of one shard."""
    noted_ms, error_ms = int(fields.get("noted_ms", 0)), int(fields.get("error_ms", 0))
    if noted_ms:
        found.noted_ms = min(noted_ms, found.noted_ms or noted_ms)
    if error_ms > (found.error_ms or 0):
        found.error, found.error_ms = fields.get("error", ""), error_ms
    found.failing |= error_ms > noted_ms
    found.skipped += int(fields.get("skipped", 0))
    found.begun_ms = max(found.begun_ms, int(fields.get("begun_ms", 0)))
    if "gap" in fields:
        since, until = fields["gap"].split()
        found.gaps[shard] = Gap(int(since), int(until))


async def hold(
    store: Store, shards: int, *, now_ms: int, keep_ms: int, hold_ms: int, most_memory: float
) -> dict[int, str]:
    """By shard, the id below which the ledger may be trimmed now.

    It stays for `keep_ms`, and by `hold_ms` longer where a follower has not read it, as long as Redis uses less than
    this share of its maxmemory: a database that is away must never fill Redis.
    """
    room = await _room(store, most_memory)
    newest = [(await ledger.extent(store, shard)).last for shard in range(shards)]
    positions: dict[int, list[str]] = {shard: [] for shard in range(shards)}
    for name in await known(store):
        for shard, cursor in (await cursors(store, name, range(shards))).items():
            positions[shard].append(cursor.position)
    return {
        shard: bound(now_ms - keep_ms, now_ms - keep_ms - (hold_ms if room else 0), read, newest[shard])
        for shard, read in positions.items()
    }


def bound(kept_ms: int, held_ms: int, positions: Collection[str], newest: str) -> str:
    """The id below which nothing is needed: everything since `kept_ms` is, and what a follower has not read, if it was
    settled since `held_ms`. The entry at a position stays, by which its follower sees that it has missed nothing: one
    that has read the `newest` entry of a quiet shard finds it however old it gets."""
    oldest = min((order(position) for position in positions), default=(kept_ms, 0))
    at = max((held_ms, 0), min(oldest, (kept_ms, 0)))
    if newest in positions:
        at = min(at, order(newest))
    return f"{max(0, at[0])}-{at[1]}"


async def _room(store: Store, most: float) -> bool:
    """Whether every server uses less than this share of its memory; one without a limit always does."""
    memories = await info(store, "memory")
    return all(not m.get("maxmemory") or m["used_memory"] < most * m["maxmemory"] for m in memories)
