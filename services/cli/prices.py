"""`arouter prices check`: whether the price book is valid, and has a price for every model in use."""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.cli.output import print_table
from services.cli.redis import with_redis
from services.meter import prices
from services.meter.prices import PriceBook
from services.meter.settings import MeterSettings
from shared.books import periods, reports, streams
from shared.books.books import Books
from shared.runtime.errors import SettingsError

_DAYS = 30


def add_commands(commands: Any) -> None:
    one = commands.add_parser("prices", help="check the price book").add_subparsers(required=True)
    check = one.add_parser("check", help="exit 1 where the file is wrong, or a model in use has no price")
    check.add_argument("file", type=Path, nargs="?", help="AROUTER_PRICES by default")
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Print what is in the book, and which models of the last 30 days are not."""
    path = arguments.file or MeterSettings.load().prices
    if path is None:
        raise SettingsError("AROUTER_PRICES: not set, and no FILE is given")
    book = prices.load(path)
    print(f"version {book.version}: {len(book.prices)} prices of {len({p.provider for p in book.prices})} providers")
    unpriced: Counter[tuple[str, str]] = Counter()

    async def look(books: Books) -> None:
        unpriced.update(await _unpriced(books, book))

    with_redis(look)
    if unpriced:
        rows = [(provider, model, str(count)) for (provider, model), count in unpriced.most_common()]
        print_table(("unpriced", "model", f"requests in {_DAYS} days"), rows)
    return int(bool(unpriced))


async def _unpriced(books: Books, book: PriceBook) -> Counter[tuple[str, str]]:
    now = datetime.fromtimestamp(await streams.now_ms(books.store) / 1000, UTC)
    used: Counter[tuple[str, str]] = Counter()
    range_ = periods.asked(now - timedelta(days=_DAYS), now, periods.Granularity.DAILY, now)
    async for line in reports.lines(books, None, range_.buckets()):
        if line.counters.get("total_tokens"):
            used[line.provider, line.model] += line.counters.get("requests", 0)
    missing = set(book.unpriced(used, now.date()))
    return Counter({place: count for place, count in used.items() if place in missing})
