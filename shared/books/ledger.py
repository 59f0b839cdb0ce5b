"""Reading the ledger: one stream per shard, one entry per settlement. Only the settle script writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from shared.contract import booked, entry, names
from shared.contract.booked import BOOKED, FIRST_BOOKED, Provisional
from shared.contract.entry import Entry
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.runtime.store import Store, translated

_PAGE = 1000
NOTHING = "0-0"  # before every entry


class LedgerEntry(NamedTuple):
    """One settlement. (`exchange_id`, `revision`) names it; the highest revision of an exchange counts."""

    shard: int
    id: str  # of the stream entry, which begins with the time of settling in UTC milliseconds
    exchange_id: str
    revision: int
    final: bool  # no further revision will follow
    entry: Entry
    # By booked name, the amounts that this revision adds to the one before; None where its meter wrote none. Amounts
    # under missing names stay as they are.
    delta: Mapping[str, int] | None
    moved: Provisional | None = None  # the value before, where it was booked on another key, provider or model
    repriced: bool = False  # the exchange was final already, and has got another price

    @property
    def counted(self) -> dict[str, int]:
        """The amounts that this exchange has with this revision, by the names that its meter knew."""
        known = FIRST_BOOKED if self.delta is None else self.delta
        return {name: value for name, value in zip(BOOKED, booked.booked(self.entry), strict=True) if name in known}


async def read(
    store: Store,
    shard: int,
    *,
    after: str | None = None,
    since_ms: int = 0,
    until_ms: int | None = None,
    unreadable: Callable[[str], None] | None = None,
) -> AsyncIterator[LedgerEntry]:
    """Entries of one shard in the order of settling: behind the entry `after`, from `since_ms` until before `until_ms`.

    BadRecord where one cannot be read; with `unreadable`, that is called with its id, and reading goes on.
    """
    start = f"({after}" if after else str(since_ms)
    end = "+" if until_ms is None else f"({until_ms}-0"  # without "-0" Redis would exclude the whole millisecond
    while True:
        with translated():
            page = await store.xrange(names.ledger(shard), start, end, count=_PAGE)
        for id, fields in page:
            try:
                found = _entry(shard, id, fields)
            except BadRecord:
                if unreadable is None:
                    raise
                unreadable(id.decode())
                continue
            yield found
        if len(page) < _PAGE:
            return
        start = f"({page[-1][0].decode()}"


class Page(NamedTuple):
    """The entries of one shard behind a position, as far as one page goes."""

    entries: list[LedgerEntry]
    last: str  # id of the last entry of the page, whether it can be read or not; "" for an empty one
    unreadable: list[str]  # ids
    there: bool  # whether the entry at the position is still in the ledger


async def pages(store: Store, positions: Mapping[int, str], count: int) -> dict[int, Page]:
    """The next `count` entries of each of these shards, behind the position of each: the id of an entry, or a time
    (ms) as text; "" for the beginning."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard, position in positions.items():
            pipeline.xrange(names.ledger(shard), position or "-", "+", count=count + 1)
        replies = await pipeline.execute()
    return {
        shard: _page(shard, position, reply, count)
        for (shard, position), reply in zip(positions.items(), replies, strict=True)
    }


def _page(shard: int, position: str, reply: list[tuple[bytes, Mapping[bytes, bytes]]], count: int) -> Page:
    there = bool(reply) and reply[0][0].decode() == position
    page = Page([], reply[-1][0].decode() if reply else "", [], there)
    for id, fields in reply[1:] if there else reply[:count]:
        page = page._replace(last=id.decode())
        try:
            page.entries.append(_entry(shard, id, fields))
        except BadRecord:
            page.unreadable.append(id.decode())
    return page


class Newest(NamedTuple):
    """Entries of one shard from the newest back; `looked` counts those that cannot be read, too."""

    entries: list[LedgerEntry]
    looked: int
    last: str  # id of the oldest of them; "" where there are none


async def newest(store: Store, shard: int, *, before: str = "", since_ms: int = 0, count: int) -> Newest:
    """The newest entries, or those before the entry `before`, settled at or after `since_ms`."""
    with translated():
        page = await store.xrevrange(names.ledger(shard), f"({before}" if before else "+", str(since_ms), count=count)
    found = Newest([], len(page), page[-1][0].decode() if page else "")
    for id, fields in page:
        with suppress(BadRecord, KeyError, ValueError):
            found.entries.append(_entry(shard, id, fields))
    return found


class Extent(NamedTuple):
    """What a shard's ledger holds, by the ids of its entries."""

    first: str  # `NOTHING` where it is empty
    last: str  # the newest that it ever had
    trimmed: bool  # whether it ever had older ones than the first


async def extent(store: Store, shard: int) -> Extent:
    """What a shard's ledger holds now."""
    with translated():
        if not await store.exists(names.ledger(shard)):
            return Extent(NOTHING, NOTHING, trimmed=False)
        info = await store.xinfo_stream(names.ledger(shard))
    first = info["first-entry"]
    return Extent(
        first[0].decode() if first else NOTHING,
        info["last-generated-id"].decode(),
        info["entries-added"] != info["length"],
    )


def order(id: str) -> tuple[int, int]:
    """The id of an entry, or a time (ms) as text, as numbers; "" is before every other."""
    milliseconds, _, number = id.partition("-")
    return int(milliseconds or 0), int(number or 0)


async def find(store: Store, id: ExchangeId) -> LedgerEntry | None:
    """The latest entry of an exchange; None where it has none, or it is trimmed."""
    with translated():
        at = await store.hget(names.entries(id.shard, id.boot, id.n), str(id.n))  # type: ignore[misc]
        page = await store.xrange(names.ledger(id.shard), at, at) if at else []
    return _entry(id.shard, *page[0]) if page else None


async def trimmed_until(store: Store, shard: int) -> int | None:
    """Time (ms) up to which entries may have been trimmed; None where none ever were."""
    found = await extent(store, shard)
    if not found.trimmed:
        return None
    return order(found.last if found.first == NOTHING else found.first)[0]


def _entry(shard: int, id: bytes, fields: Mapping[bytes, bytes]) -> LedgerEntry:
    """BadRecord names the entry that cannot be read."""
    try:
        return _read(shard, id, fields)
    except (BadRecord, KeyError, ValueError) as exc:
        raise BadRecord(f"entry {id.decode()} of shard {shard} in the ledger: {exc}") from exc


def _read(shard: int, id: bytes, fields: Mapping[bytes, bytes]) -> LedgerEntry:
    what, revision = entry.decode(fields[b"entry"]), int(fields[b"revision"])
    moved = fields.get(b"moved")
    return LedgerEntry(
        shard,
        id.decode(),
        fields[b"x"].decode(),
        revision,
        fields[b"final"] == b"1",
        what,
        _delta(fields.get(b"delta"), what, revision),
        Provisional.decode(moved.decode()) if moved else None,
        b"repriced" in fields,
    )


def _delta(stored: bytes | None, what: Entry, revision: int) -> dict[str, int] | None:
    """The delta by name. A first revision adds everything, which meters of contract 1.0 did not write."""
    if stored is not None:
        return dict(zip(BOOKED, map(int, stored.split()), strict=False))  # a later version has more names
    return dict(zip(FIRST_BOOKED, booked.booked(what), strict=False)) if revision == 1 else None
