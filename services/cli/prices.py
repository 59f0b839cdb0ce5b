"""`arouter prices check`: whether the price book is valid, and has a price for every model in use."""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from services.cli.output import print_table
from services.cli.redis import with_redis
from services.meter import prices
from services.meter.pricing.book import PriceBook
from services.meter.pricing.items import Bill
from services.meter.settings import MeterSettings
from shared.books import periods, reports, streams
from shared.books.books import Books
from shared.contract.usage import Usage
from shared.runtime.errors import SettingsError

_DAYS = 30


def add_commands(commands: Any) -> None:
    one = commands.add_parser("prices", help="check the price book").add_subparsers(required=True)
    check = one.add_parser("check", help="exit 1 where a file is wrong, or a model in use has no price")
    check.add_argument("file", nargs="?", help="one file, or several with commas between; AROUTER_PRICES by default")
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Print what is in the book, and which models of the last 30 days are not."""
    files = arguments.file or MeterSettings.load().prices
    book = prices.load(files)
    if not book.sheets:
        raise SettingsError("AROUTER_PRICES: not set, and no FILE is given")
    for sheet in book.sheets:
        providers = len({price.provider for price in sheet.prices})
        listed = " (list prices)" if sheet.list_prices else ""
        print(f"version {sheet.version}{listed}: {len(sheet.prices)} prices of {providers} providers")
    unpriced: dict[tuple[str, str], Counter[str]] = {}

    async def look(books: Books) -> None:
        unpriced.update(await _unpriced(books, book))

    with_redis(look)
    if unpriced:
        rows = [
            (provider, model, str(used["requests"]), str(used["total_tokens"]))
            for (provider, model), used in sorted(unpriced.items(), key=lambda item: -item[1]["total_tokens"])
        ]
        print_table(("unpriced", "model", f"requests in {_DAYS} days", "tokens"), rows)
    return int(bool(unpriced))


async def _unpriced(books: Books, book: PriceBook) -> dict[tuple[str, str], Counter[str]]:
    """Requests and tokens of the models that have no price now, under the name that was asked for."""
    now = datetime.fromtimestamp(await streams.now_ms(books.store) / 1000, UTC)
    used: dict[tuple[str, str], Counter[str]] = {}
    range_ = periods.asked(now - timedelta(days=_DAYS), now, periods.Granularity.DAILY, now)
    async for line in reports.lines(books, None, range_.buckets()):
        if line.counters.get("total_tokens"):
            used.setdefault((line.provider, line.model), Counter()).update(
                {name: line.counters.get(name, 0) for name in ("requests", "total_tokens")}
            )
    at_ms = round(now.timestamp() * 1000)
    return {
        (provider, model): count
        for (provider, model), count in used.items()
        if book.find(Bill(provider, model, "", at_ms, Usage())) is None
    }
