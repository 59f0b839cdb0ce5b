"""Reading the ledger: one stream per shard, one entry per settlement. Meters write it, in the settle script alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import msgspec

from shared.contract import names
from shared.contract.ids import ExchangeId
from shared.runtime.store import Store, translated

_PAGE = 1000


class LedgerEntry(NamedTuple):
    """One settlement. (`exchange_id`, `revision`) names it; the highest revision of an exchange is what stands."""

    shard: int
    id: str  # of the stream entry, which begins with the time of settling in UTC milliseconds
    exchange_id: str
    revision: int
    final: bool  # no further revision will follow
    entry: dict[str, Any]


async def read(
    store: Store, shard: int, *, after: str | None = None, since_ms: int = 0, until_ms: int | None = None
) -> AsyncIterator[LedgerEntry]:
    """Entries of one shard in the order they were settled: behind the entry `after`, between two times."""
    start = f"({after}" if after else str(since_ms)
    end = "+" if until_ms is None else f"({until_ms}-0"  # without the number Redis takes the whole millisecond
    while True:
        with translated():
            page = await store.xrange(names.ledger(shard), start, end, count=_PAGE)
        for id, fields in page:
            yield _entry(shard, id, fields)
        if len(page) < _PAGE:
            return
        start = f"({page[-1][0].decode()}"


async def find(store: Store, id: ExchangeId) -> LedgerEntry | None:
    """The latest entry of an exchange; None where it has none, or none any more."""
    with translated():
        at = await store.hget(names.entries(id.shard, id.boot, id.n), str(id.n))  # type: ignore[misc]
        page = await store.xrange(names.ledger(id.shard), at, at) if at else []
    return _entry(id.shard, *page[0]) if page else None


async def trimmed_until(store: Store, shard: int) -> int | None:
    """Time (ms) up to which entries may have been trimmed; None where none ever were."""
    with translated():
        if not await store.exists(names.ledger(shard)):
            return None
        info = await store.xinfo_stream(names.ledger(shard))
    if info["entries-added"] == info["length"]:
        return None
    first = info["first-entry"]
    return int(first[0].partition(b"-")[0]) if first else int(info["last-generated-id"].partition(b"-")[0])


def _entry(shard: int, id: bytes, fields: Mapping[bytes, bytes]) -> LedgerEntry:
    return LedgerEntry(
        shard,
        id.decode(),
        fields[b"x"].decode(),
        int(fields[b"revision"]),
        fields[b"final"] == b"1",
        msgspec.json.decode(fields[b"entry"]),
    )
