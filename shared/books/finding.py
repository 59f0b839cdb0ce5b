"""Finding exchanges in the ledger, where no database keeps them: as far back as it goes, and as a bound allows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from shared.books import exchanges, ledger
from shared.books.books import Books
from shared.books.exchanges import Exchange, Page, Place, Wanted
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId

MOST_ENTRIES = 20_000  # that one question looks through
_PAGE = 500


async def find(books: Books, wanted: Wanted, *, after: Place | None, limit: int, most: int = MOST_ENTRIES) -> Page:
    """Exchanges from the newest back, behind `after`. At most `most` entries are looked through, the newest ones of
    each shard; the page says since when nothing is missing."""
    if wanted.exchange_id:
        return await _one(books, wanted)
    latest: dict[str, Exchange] = {}
    reaches = 0
    for shard in range(books.shards):
        oldest = await _scan(books, shard, wanted, max(1, most // books.shards), latest)
        reaches = max(reaches, oldest)
    found = [one for one in latest.values() if wanted.fits(one) and (after is None or one.place < after)]
    found.sort(key=lambda one: one.place, reverse=True)
    more = len(found) > limit
    since = datetime.fromtimestamp(reaches / 1000, UTC) if reaches else None
    return Page(found[:limit], found[limit - 1].place if more else None, since)


async def _one(books: Books, wanted: Wanted) -> Page:
    try:
        entry = await ledger.find(books.store, ExchangeId.parse(wanted.exchange_id))
    except BadRecord:
        return Page([], None)
    found = [exchanges.of_entry(entry)] if entry is not None else []
    return Page([one for one in found if wanted.fits(one)], None)


async def _scan(books: Books, shard: int, wanted: Wanted, most: int, latest: dict[str, Exchange]) -> int:
    """Look through the newest entries of a shard; the latest revision of each exchange comes first. Returns since when
    (ms) nothing is missing; 0 where nothing is."""
    since_ms = int(wanted.since.timestamp() * 1000) if wanted.since else 0  # what is settled is opened before
    left, before = most, ""
    while left > 0:
        count = min(_PAGE, left)
        page = await ledger.newest(books.store, shard, before=before, since_ms=since_ms, count=count)
        for entry in page.entries:
            latest.setdefault(entry.exchange_id, exchanges.of_entry(entry))
        if page.looked < count:
            trimmed = await ledger.trimmed_until(books.store, shard)
            return trimmed if trimmed is not None and trimmed >= since_ms else 0
        left, before = left - count, page.last
        await asyncio.sleep(0)
    return ledger.order(before)[0]
