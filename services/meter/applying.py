"""The border to the script that books another price of exchanges that are final."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from services.meter.pricing.book import PriceBook
from services.meter.pricing.costs import with_cost
from services.meter.settle import totals_of
from shared.books import ledger
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.contract import booked, ids, names, scripts
from shared.contract.booked import BOOKED
from shared.contract.entry import Entry, Unpriced, encode
from shared.contract.errors import ARouterError
from shared.contract.ids import ExchangeId
from shared.runtime.store import Store, translated

_DAY_SECONDS = 86_400
_AT_ONCE = 200
_SKEW_MS = 60_000  # by which a gateway's clock, which says when an exchange was opened, may be ahead of Redis's


class BeyondLedger(ARouterError):
    """The ledger does not go back that far."""


@dataclass
class Seen:
    """What was looked at, in exchanges' revisions."""

    looked: int = 0
    left: int = 0  # to their meters, because they are not final
    booked: int = 0
    unreadable: list[str] = field(default_factory=list)  # ids of entries in the ledger, which keep their price


class Change(NamedTuple):
    """An exchange with another price than the one that is booked."""

    before: LedgerEntry
    entry: Entry

    @property
    def differences(self) -> list[int]:
        """What it adds to what is booked, in the order of `BOOKED`."""
        was = self.before.counted
        return [now - was.get(name, 0) for name, now in zip(BOOKED, booked.booked(self.entry), strict=True)]

    @property
    def nano(self) -> int:
        """What it adds to the cost."""
        return self.differences[BOOKED.index("cost_nanousd")]


async def check_reach(books: Books, since_ms: int) -> None:
    """BeyondLedger, with the date, where entries of exchanges opened since then may have been trimmed."""
    trimmed = [await ledger.trimmed_until(books.store, shard) for shard in range(books.shards)]
    reached = max((at + _SKEW_MS for at in trimmed if at is not None), default=None)
    if reached is not None and since_ms <= reached:
        shown = datetime.fromtimestamp(reached / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        raise BeyondLedger(f"the ledger goes back to {shown}: exchanges of before keep their price")


async def changes(
    store: Store, shard: int, book: PriceBook, since_ms: int, until_ms: int, seen: Seen
) -> AsyncIterator[list[Change]]:
    """The exchanges of a shard, opened since then and settled before `until_ms`, that have another price; some at a
    time. `seen` tells what was looked at, and what was passed over."""
    found: list[Change] = []
    since, passed_over = max(0, since_ms - _SKEW_MS), seen.unreadable.append
    async for entry in ledger.read(store, shard, since_ms=since, until_ms=until_ms, unreadable=passed_over):
        if entry.entry.opened_ms < since_ms:
            continue
        if ids.ID.fullmatch(entry.exchange_id) is None:
            passed_over(entry.id)
            continue
        if not _can(entry):
            seen.left += 1
            continue
        seen.looked += 1
        change = Change(entry, repriced(entry.entry, book))
        if _differs(change):
            found.append(change)
        if len(found) == _AT_ONCE:
            yield await _latest(store, found)
            found = []
    yield await _latest(store, found)


async def _latest(store: Store, found: Sequence[Change]) -> list[Change]:
    """Those whose entry is the last one of its exchange."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for change in found:
            id = ExchangeId.parse(change.entry.exchange_id)
            pipeline.hget(names.entries(id.shard, id.boot, id.n), str(id.n))
        last = await pipeline.execute() if found else []
    return [
        change for change, at in zip(found, last, strict=True) if at is not None and at.decode() == change.before.id
    ]


def repriced(entry: Entry, book: PriceBook) -> Entry:
    """The same entry with the price of this book."""
    return with_cost(entry, book, several=entry.unpriced_reason == Unpriced.SEVERAL)


def _can(entry: LedgerEntry) -> bool:
    """Whether it is known what its last revision has booked: a meter of 1.0 leaves the nano-dollars of another."""
    return entry.final and (entry.revision == 1 or (entry.delta is not None and "cost_nanousd" in entry.delta))


def _differs(change: Change) -> bool:
    """Whether there is something to book; another version of the book alone is not."""
    old, new = change.before.entry, change.entry
    same = (old.cost_nanousd, old.cost_source, old.marks) == (new.cost_nanousd, new.cost_source, new.marks)
    return not same or any(change.differences)


async def book_changes(store: Store, batch: Sequence[Change], keep: int) -> int:
    """Book these. Returns how many were booked; the others have got another revision meanwhile. `keep`: seconds that a
    ledger entry stays."""
    with translated():
        pipeline = store.pipeline(transaction=False)
        for change in batch:
            keys, arguments = _call(change, keep)
            pipeline.execute_command("EVAL", scripts.REPRICE, len(keys), *keys, *arguments)
        return sum(await pipeline.execute()) if batch else 0


def _call(change: Change, keep: int) -> tuple[list[str], list[str | int | bytes]]:
    entry, id = change.entry, ExchangeId.parse(change.entry.exchange_id)
    keys = [names.ledger(id.shard), names.entries(id.shard, id.boot, id.n), *totals_of(id.shard, entry)]
    return keys, [
        id.n,
        str(id),
        change.before.id,
        change.before.revision + 1,
        booked.group(entry.provider, entry.model),
        " ".join(BOOKED),
        " ".join(map(str, change.differences)),
        encode(entry),
        keep + _DAY_SECONDS,
    ]
