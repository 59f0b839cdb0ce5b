"""`arouter usage` without a time or groups: the totals of all time per key, provider and model."""

from __future__ import annotations

import argparse
import json

from services.cli.output import dollars, print_table
from services.cli.redis import with_redis
from shared.access import keys
from shared.access.keys import KeyRecord, NoSuchKey
from shared.books import summing, totals
from shared.books.books import Books
from shared.books.totals import Row
from shared.contract.booked import BOOKED

_COST = ("cost_microusd", "cost_nanousd")
_COLUMNS = ("name", "provider", "model", *(name for name in BOOKED if name not in _COST))
_HEADINGS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache read",
    "cache_write_tokens": "cache write",
    "reasoning_tokens": "reasoning",
    "total_tokens": "total",
    "estimated_requests": "estimated",
    "partial_requests": "partial",
    "unpriced_requests": "unpriced",
}


def show(arguments: argparse.Namespace) -> int:
    """`usage`: rows as flat JSON objects, or as a table, where the cost of what has no price is no figure."""

    async def rows_shown(books: Books) -> None:
        rows = await rows_of(books, arguments.key)
        if arguments.json:
            print(json.dumps(rows))
        else:
            shown = [(*(str(row[column]) for column in _COLUMNS), _dollars(row)) for row in rows]
            print_table((*(_HEADINGS.get(column, column) for column in _COLUMNS), "usd"), shown)

    return with_redis(rows_shown)


async def rows_of(books: Books, hash_prefix: str | None) -> list[Row]:
    """Totals of one key or all, one row per key, provider and model. NoSuchKey where the prefix fits none."""
    records = [r for r in await keys.find_all(books.store) if r.hash.startswith(hash_prefix or "")]
    if hash_prefix and not records:
        raise NoSuchKey(f"no key has a hash that starts with {hash_prefix!r}")
    per_key = await totals.read(books, [record.hash for record in records])
    return [_named(record, row) for record in records for row in per_key[record.hash]]


def _dollars(row: Row) -> str:
    return dollars(summing.cost_nanousd({name: int(row[name]) for name in BOOKED})) or "unpriced"


def _named(record: KeyRecord, row: Row) -> Row:
    return {"key": record.hash, "name": record.name, **row}
