"""Checks scopes of limits against the books: what they have used, and the sums of what is reserved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.books import ledger, limit_changes, limit_scopes, limit_snapshots
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.books.limit_snapshots import Snapshot, Used
from shared.contract import limits, names
from shared.contract.limits import Period
from shared.runtime.store import translated


class Audited(NamedTuple):
    """The result: how many scopes there are, and what is wrong with them."""

    scopes: int
    differences: list[str]


class _State(NamedTuple):
    """A scope as Redis has it."""

    cursors: dict[int, str]
    used: dict[str, Used]
    reserved: tuple[int, int, int]  # nano-dollars, tokens, running
    sums: tuple[int, int, int]  # of the same, over all reservations


async def audit(books: Books, now_ms: int) -> Audited:
    """Compare every scope with the totals, without what its follower has not read yet."""
    at, found = limits.period(now_ms), Audited(0, [])
    scopes = 0
    for owner, patterns in (await limit_scopes.known(books.store)).items():
        states = [await _read(books, limits.part(owner, pattern)) for pattern in patterns]
        snapshot = await limit_snapshots.take(books, owner, patterns, now_ms)
        for pattern, state in zip(patterns, states, strict=True):
            if state is None:
                continue  # it has not started
            scopes += 1
            unread = await _unread(books, owner, state, snapshot)
            found.differences.extend(_compare(owner, pattern, state, snapshot, unread, at))
    return found._replace(scopes=scopes)


async def _read(books: Books, scope: str) -> _State | None:
    with translated():
        raw = await books.store.hgetall(names.limit(scope))  # type: ignore[misc]  # redis-py types it as sync or async
    fields: dict[str, str] = {name.decode(): value.decode() for name, value in raw.items()}
    if fields.get("state") != "1":
        return None
    used: dict[str, Used] = {}
    sums = [0, 0, 0]
    cursors = {}
    for name, value in fields.items():
        kind, _, rest = name.partition(":")
        if kind == "cursor":
            cursors[int(rest)] = value
        elif kind in ("usd", "tok"):
            amounts = (int(value), 0) if kind == "usd" else (0, int(value))
            used[rest] = used.get(rest, Used()).plus(*amounts)
        elif kind == "p":
            for place, amount in enumerate(value.split(" ")):
                sums[place] += int(amount)
    reserved = (int(fields.get("r:usd", 0)), int(fields.get("r:tok", 0)), int(fields.get("slots", 0)))
    return _State(cursors, used, reserved, (sums[0], sums[1], sums[2]))


async def _unread(books: Books, owner: str, state: _State, snapshot: Snapshot) -> list[LedgerEntry]:
    """Entries that are in the snapshot, and were not applied when the scope was read."""
    found = []
    for shard, until in snapshot.cursors.items():
        after = state.cursors.get(shard, ledger.NOTHING)
        if ledger.order(after) >= ledger.order(until):
            continue
        async for entry in ledger.read(books.store, shard, after=after):
            if ledger.order(entry.id) > ledger.order(until):
                break
            if owner in limit_changes.owners(entry):
                found.append(entry)
    return found


def _compare(
    owner: str, pattern: str, state: _State, snapshot: Snapshot, unread: Sequence[LedgerEntry], at: Period
) -> list[str]:
    scope, found = limits.part(owner, pattern), []
    wanted = _less(snapshot.used[pattern], unread, owner, pattern)
    for reset in limits.Reset:
        field = at.field(reset)
        there, here = state.used.get(field, Used()), wanted.get(field, Used())
        if there != here:
            found.append(
                f"limits of {scope}, {limits.named(field)}: {there.nanousd} nano-dollars and {there.tokens} tokens are "
                f"counted, the books have {here.nanousd} and {here.tokens}"
            )
    if state.reserved != state.sums:
        found.append(f"limits of {scope}: {state.reserved} is reserved, the reservations add up to {state.sums}")
    return found


def _less(used: Mapping[str, Used], unread: Sequence[LedgerEntry], owner: str, pattern: str) -> dict[str, Used]:
    found = dict(used)
    for entry in unread:
        nanousd, tokens = limit_changes.adds(entry, owner, pattern)
        at = limits.period(entry.entry.opened_ms)
        for reset in limits.Reset:
            found[at.field(reset)] = found.get(at.field(reset), Used()).plus(-nanousd, -tokens)
    return found
