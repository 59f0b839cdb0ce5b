"""`arouter prices explain` and `apply`: the lines of a cost, and another price for what is booked."""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

from services.cli.books import NotInLedger, time_of
from services.cli.output import print_table
from services.cli.redis import with_redis
from services.meter import applying, prices
from services.meter.applying import Seen
from services.meter.pricing.book import Cost, PriceBook
from services.meter.pricing.costs import bill_of
from services.meter.pricing.items import TOKENS
from services.meter.settings import MeterSettings
from shared.books import ledger, streams
from shared.books.books import Books
from shared.contract.entry import CostSource, Entry
from shared.contract.ids import ExchangeId

_NANO = 10**9
_NAMED = 10  # entries that are named where there are many


def dollars(nano: int | None) -> str:
    """An amount for people, to the nano-dollar."""
    return "unknown" if nano is None else f"${Decimal(nano) / _NANO:.9f}"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("explain", help="show the lines of what an exchange has cost")
    one.add_argument("exchange", help="its x-generation-id")
    one.set_defaults(run=run_explain)
    one = commands.add_parser("apply", help="price again what is booked, by the book in use, as new revisions")
    one.add_argument(
        "--since",
        type=time_of,
        required=True,
        metavar="TIME",
        help="opened at or after it, ISO 8601; UTC without a zone",
    )
    one.add_argument("--dry-run", action="store_true", help="only say what would change")
    one.set_defaults(run=run_apply)


def run_explain(arguments: argparse.Namespace) -> int:
    """Print what was booked, and the lines of it by the book in use. NotInLedger where it has no entry."""
    id, book = ExchangeId.parse(arguments.exchange), _book()

    async def explain(books: Books) -> None:
        found = await ledger.find(books.store, id)
        if found is None:
            raise NotInLedger(f"exchange {id} is not in the ledger: never booked, or trimmed by age")
        _explain(found.entry, book)

    return with_redis(explain)


def _explain(entry: Entry, book: PriceBook) -> None:
    opened = datetime.fromtimestamp(entry.opened_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    about = [entry.provider, entry.model, opened, entry.tier, entry.region, *entry.marks]
    print(" · ".join(filter(None, about)))
    source = {
        CostSource.PROVIDER: "the provider's own figure",
        CostSource.BOOK: f"by {entry.price_version or 'no book'}",
    }
    why = source.get(CostSource(entry.cost_source or CostSource.UNPRICED), entry.unpriced_reason or "no price")
    print(f"booked: {dollars(entry.cost_nanousd)}, {why}" + (f": {entry.price_line}" if entry.price_line else ""))
    if entry.reported_cost_nanousd is not None:
        print(f"the provider says: {dollars(entry.reported_cost_nanousd)}")
    bill = bill_of(entry)
    cost, found = book.cost(bill), book.find(bill)
    version = cost.version or book.version or "no book"
    print(f"the book in use: {dollars(cost.nano)}, {version}: {cost.label or cost.reason}")
    if found is not None and found[1].source:
        print(f"its source: {found[1].source}")
    _print_lines(cost)
    if applying.repriced(entry, book).cost_nanousd != entry.cost_nanousd:
        print("what is booked differs: `arouter prices apply` books it anew")


def _print_lines(cost: Cost) -> None:
    rows = []
    for line in cost.lines:
        per = 10**6 if line.item in TOKENS else 1
        price = Decimal(line._replace(quantity=per).amount)
        unit = "a million" if per > 1 else "one"
        rows.append((line.item, f"{float(line.quantity):g}", f"{price.normalize():f} for {unit}", f"{line.amount:f}"))
    if rows:
        print_table(("item", "quantity", "price", "amount"), rows)
    if cost.dollars != 1:
        print(f"one of the book's currency is ${float(cost.dollars):g}")


def run_apply(arguments: argparse.Namespace) -> int:
    """Book other prices of final exchanges; 1 where some cannot be read. BeyondLedger where the ledger does not go back
    as far."""
    settings, book = MeterSettings.load(), _book()
    seen = Seen()
    changed: dict[tuple[str, str], Counter[str]] = {}

    async def apply(books: Books) -> None:
        await applying.check_reach(books, arguments.since)
        now_ms = await streams.now_ms(books.store)
        for shard in range(books.shards):
            async for batch in applying.changes(books.store, shard, book, arguments.since, now_ms, seen):
                for change in batch:
                    place = change.entry.provider, change.entry.model
                    changed.setdefault(place, Counter()).update({"exchanges": 1, "nano": change.nano})
                if not arguments.dry_run:
                    seen.booked += await applying.book_changes(books.store, batch, settings.ledger_keep)

    with_redis(apply)
    if changed:
        rows = [(*place, str(sums["exchanges"]), dollars(sums["nano"])) for place, sums in sorted(changed.items())]
        print_table(("provider", "model", "exchanges", "difference"), rows)
    total = sum(sums["exchanges"] for sums in changed.values())
    what = "would change" if arguments.dry_run else "have another price now"
    left = f"; {seen.left} revisions are left to their meters, because they are not final" if seen.left else ""
    done = total if arguments.dry_run else seen.booked
    print(f"{done} of {seen.looked} exchanges {what}, by {book.version}{left}")
    if seen.unreadable:
        some, more = ", ".join(seen.unreadable[:_NAMED]), ", …" * (len(seen.unreadable) > _NAMED)
        print(f"{len(seen.unreadable)} of the ledger's entries cannot be read, and keep their price: {some}{more}")
    return int(bool(seen.unreadable))


def _book() -> PriceBook:
    settings = MeterSettings.load()
    return prices.load(settings.prices, difference=settings.cost_difference)
