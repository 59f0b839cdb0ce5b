"""What is due for scopes of limits now and then: reservations that nobody will settle, and periods that are over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping

from shared.books import boots, followers, ledger, limit_scopes
from shared.books.books import Books
from shared.books.boots import BootState
from shared.books.ledger import order
from shared.contract import limits, names
from shared.runtime.store import Store, translated

_GONE_MS = 600_000  # the journal of a boot that is gone may turn up for longer; then its exchanges count as they settle
_KEPT = {"d": 2, "w": 2, "m": 2}  # periods that are kept behind the one of now
_PAGE = 500


async def scopes(store: Store) -> list[str]:
    """Every scope that is counted."""
    known = await limit_scopes.known(store)
    return [limits.part(owner, pattern) for owner, patterns in known.items() for pattern in patterns]


async def permits(store: Store, scope: str) -> list[str]:
    """The permits under which something is reserved."""
    return [field[2:] async for field in _fields(store, scope, "p:*")]


async def _fields(store: Store, scope: str, pattern: str) -> AsyncIterator[str]:
    cursor = 0
    while True:
        with translated():
            cursor, page = await store.hscan(names.limit(scope), cursor, match=pattern, count=_PAGE)
        for field in page:
            yield field.decode()
        if not cursor:
            return


async def prune(store: Store, scope: str, now_ms: int) -> None:
    """Forget periods that are long over."""
    now = dict(zip("dwm", limits.period(now_ms), strict=True))
    old = []
    for pattern in ("usd:*", "tok:*", "told:*"):
        async for field in _fields(store, scope, pattern):
            *_, kind, number = field.split(":")
            if kind in now and int(number) < now[kind] - _KEPT[kind]:
                old.append(field)
    if old:
        with translated():
            await store.hdel(names.limit(scope), *old)  # type: ignore[misc]


async def release_dead(books: Books, follower: str, now_ms: int) -> int:
    """End the reservations of boots that have ended, once all of their exchanges are settled and applied. Returns how
    many. `follower`: the name of the one that applies."""
    held: dict[str, dict[str, list[str]]] = defaultdict(dict)  # by boot and scope
    for scope in await scopes(books.store):
        for permit in await permits(books.store, scope):
            held[permit.partition(".")[0]].setdefault(scope, []).append(permit)
    if not held:
        return 0
    found = await boots.find(books.store, held)
    ended = {
        boot
        for boot, state in found.items()
        if state.accounted or await _long_gone(books.store, boot, state.state, now_ms)
    }
    settled = await _settled(books, ended)
    done = {boot for boot in ended if settled[boot] >= sum(found[boot].opened.values())}
    if not done or not await _is_past(books, follower):
        return 0
    released = 0
    for boot in done:
        await limit_scopes.release(books.store, "gone", held[boot])
        released += sum(map(len, held[boot].values()))
    return released


async def _long_gone(store: Store, boot: str, state: BootState, now_ms: int) -> bool:
    if state is not BootState.GONE:
        return False
    with translated():
        at = await store.zscore(names.BOOTS, boot)
    return at is None or at < now_ms - _GONE_MS


async def _settled(books: Books, wanted: set[str]) -> Mapping[str, int]:
    """How many exchanges of each of these boots have an entry."""
    counts: Counter[str] = Counter()
    for shard in range(books.shards):
        with translated():
            for boot in wanted:
                counts[boot] += await books.store.bitcount(names.final(shard, boot))
            if wanted:
                async for id, _ in books.store.hscan_iter(names.provisional(shard)):
                    counts[id.decode().partition(".")[0]] += 1
    return counts


async def _is_past(books: Books, follower: str) -> bool:
    """Whether everything that is settled now was applied."""
    cursors = await followers.cursors(books.store, follower, range(books.shards))
    for shard, cursor in cursors.items():
        if order(cursor.position) < order((await ledger.extent(books.store, shard)).last):
            return False
    return True
