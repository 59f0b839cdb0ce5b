"""`arouter prices check` and `import`: whether the price book is valid and has a price for every model in use, and
public list prices as a file of it."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.cli import price_changes, price_list
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
_KEPT = timedelta(days=35)  # prices of before are older than any ledger


def add_commands(commands: Any) -> None:
    one = commands.add_parser("prices", help="check, import, explain and apply prices").add_subparsers(required=True)
    check = one.add_parser("check", help="exit 1 where a file is wrong, or a model in use has no price")
    check.add_argument("file", nargs="?", help="one file, or several with commas between; AROUTER_PRICES by default")
    check.set_defaults(run=run_check)
    imported = one.add_parser("import", help="write list prices (arouter[prices]) as a file, and how they differ")
    imported.add_argument("file", type=Path, help="the file to write")
    imported.add_argument("--leave-out", action="store_true", help="leave out models that the book cannot price")
    imported.set_defaults(run=run_import)
    price_changes.add_commands(one)


def run_check(arguments: argparse.Namespace) -> int:
    """Print what is in the book, and which models of the last 30 days are not."""
    files = arguments.file or MeterSettings.load().prices
    book = prices.load(files)
    if not book.sheets:
        raise SettingsError("AROUTER_PRICES: not set, and no FILE is given")
    for sheet in book.sheets:
        providers = len({name for price in sheet.prices for name in price.providers})
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


def run_import(arguments: argparse.Namespace) -> int:
    """Write the file, and print what differs from the book in use."""
    now = datetime.now(UTC)
    left_out: list[str] | None = [] if arguments.leave_out else None
    rows = price_list.rows(price_list.providers(), now.date(), keep=_KEPT, left_out=left_out)
    text = price_list.written(rows, now.date(), left_out or ())
    listed = prices.sheet(prices.read(text))
    try:
        arguments.file.write_text(text)
    except OSError as exc:
        raise SettingsError(f"{arguments.file} cannot be written: {exc.strerror}") from None
    print(f"{arguments.file}: version {listed.version}: {len(listed.prices)} prices")
    for line in left_out or ():
        print(f"left out: {line}")
    differences = _differences(prices.load(MeterSettings.load().prices), PriceBook(listed), now)
    if differences:
        print_table(("provider", "model", "price of", "in use", "listed"), differences)
    return 0


def _differences(in_use: PriceBook, listed: PriceBook, now: datetime) -> list[tuple[str, ...]]:
    """Models that both books name, with the prices in which they differ now, in the currency of each."""
    at_ms = round(now.timestamp() * 1000)
    found: list[tuple[str, ...]] = []
    for price in (price for sheet in listed.sheets for price in sheet.prices if price.holds_at(at_ms)):
        for provider, model in itertools.product(price.providers, price.models):
            known = in_use.find(Bill(provider, model, model, at_ms, Usage()))
            if known is None or (not {*"*#"}.isdisjoint(model) and model not in known[1].models):
                continue  # a pattern is no name: it is compared with itself alone
            old, new = known[1].named_rates, price.named_rates
            found += [
                (provider, model, name, _shown(old.get(name)), _shown(new.get(name)))
                for name in dict.fromkeys([*old, *new])
                if old.get(name) != new.get(name)
            ]
    return found


def _shown(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount.normalize():f}"


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
