"""`arouter books export`: exchanges, hourly usage or FOCUS rows from the database, as CSV, JSON lines or Parquet.

With a cursor each export goes on where the one before has ended. Exchanges come in the order of settling, so that none
is left out, and one that was amended comes again with a higher revision. Hours and days come once they are over for a
day, after which nothing of them is amended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.cli import sinks, tables
from services.cli.books import BadCursor, read_cursor, replace_file
from services.cli.output import given, shown
from services.cli.redis import with_redis
from services.sinks.settings import SinkSettings
from shared.access import keys
from shared.books import focus, followers, streams, summing
from shared.books.archive import FOLLOWER, Archive
from shared.books.books import Books
from shared.books.exchanges import FIELDS, Exchange
from shared.books.moments import FORMS, between
from shared.books.periods import DAY
from shared.contract.booked import BOOKED
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.runtime.errors import SettingsError

_PAGE = 2000
_AMENDED = DAY  # for so long after its end an hour or a day may still change
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_GROUP = ("key", "team", "user", "provider", "model")
_COUNTERS = tuple(name for name in BOOKED if name not in ("cost_microusd", "cost_nanousd"))

Rows = AsyncIterator[list[Sequence[Any]]]


def add_command(books: Any) -> None:
    one = books.add_parser("export", help="exchanges, hourly usage or FOCUS 1.2 rows of the database, as a file")
    one.add_argument("what", choices=sorted(_EXPORTS))
    one.add_argument("--format", choices=tables.FORMATS, default="csv", help="csv by default")
    one.add_argument("--output", type=Path, metavar="FILE", help="a new file; standard output by default")
    one.add_argument(
        "--since", metavar="T", type=given, help=f"from then on, by when exchanges were settled or opened: {FORMS}"
    )
    one.add_argument("--until", metavar="T", type=given, help="before then")
    one.add_argument("--cursor", type=Path, metavar="FILE", help="go on where the last export with this file ended")
    one.set_defaults(run=run)


@dataclass(slots=True)
class _Export:
    """What is exported: from `since` until before `until`. `cursor` is where the next one begins."""

    books: Books
    archive: Archive
    since: datetime | None
    until: datetime
    cursor: dict[str, str]
    remarks: list[str] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> int:
    """Write the rows, then the cursor: an export that breaks off is repeated as a whole."""

    async def write(books: Books) -> None:
        async with sinks.asking(SinkSettings.load()) as opened:
            archive = await opened()
            if archive is None:
                raise SettingsError("AROUTER_DATABASE_URL: exports need a database; arouter ledger export needs none")
            export = await _begin(books, archive, arguments)
            columns, rows = _EXPORTS[arguments.what](export)
            with tables.writing(arguments.format, columns, arguments.output) as writer:
                async for page in rows:
                    writer.write(page)
        if arguments.cursor is not None:
            replace_file(arguments.cursor, json.dumps({"what": arguments.what, **export.cursor}))
        for remark in export.remarks:
            print(remark, file=sys.stderr)

    return with_redis(write)


async def _begin(books: Books, archive: Archive, arguments: argparse.Namespace) -> _Export:
    now_ms = await streams.now_ms(books.store)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    covered = await followers.coverage(books, FOLLOWER, now_ms)
    if covered is None:
        raise SettingsError("nobody knows how far the database has got: arouter books status")
    since, until = between(arguments.since, arguments.until, now)
    cursor = cursor_of(arguments.cursor, arguments.what)
    over = covered.as_of if arguments.what == "exchanges" or arguments.cursor is None else covered.as_of - _AMENDED
    until = min(until or over, over)
    if arguments.what == "usage" and arguments.cursor is not None:
        until = until.replace(minute=0, second=0, microsecond=0)
    export = _Export(books, archive, since, until, cursor)
    if "since" in cursor:
        export.since = datetime.fromisoformat(cursor["since"])
    kept = await archive.kept()
    gone = kept.usage if arguments.what == "usage" else kept.rows
    begins = max((at for at in (covered.since, gone) if at is not None), default=None)
    if begins is not None and not cursor and (export.since is None or export.since < begins):
        export.remarks.append(f"the database has everything since {shown(begins)}; what is older may be missing")
    return export


def cursor_of(path: Path | None, what: str) -> dict[str, str]:
    """The cursor in a file; empty where there is none yet. BadCursor where it is another export's, or damaged."""
    text = read_cursor(path)
    if text is None:
        return {}
    try:
        cursor: dict[str, str] = json.loads(text)
        if cursor.pop("what") != what:
            raise BadCursor(f"{path} is the cursor of another export")
        for name in cursor.keys() & {"since", "settled_at"}:
            _ = datetime.fromisoformat(cursor[name]) - _EVER  # TypeError without a zone
        if "settled_at" in cursor:
            ExchangeId.parse(cursor["exchange_id"])
    except (ValueError, KeyError, AttributeError, TypeError, BadRecord) as exc:
        raise BadCursor(f"{path} is not a cursor of an export: {exc}") from None
    return cursor


def _kind(annotation: str) -> type:
    """The type of a column, by the annotation of a field."""
    kinds = {"datetime": datetime, "int": int, "bool": bool, "str": str}
    return tuple if annotation.startswith("tuple") else kinds[annotation.partition(" ")[0]]


_EXCHANGE: tables.Columns = {
    "settled_at": datetime,
    **{name: _kind(str(Exchange.__annotations__[name])) for name in FIELDS},
    "cost_usd": Decimal,
}
_USAGE: tables.Columns = {
    "hour": datetime,
    **dict.fromkeys(_GROUP, str),
    **dict.fromkeys(_COUNTERS, int),
    "cost_nanousd": int,
    "cost_usd": Decimal,
}


def _exchanges(export: _Export) -> tuple[tables.Columns, Rows]:
    return _EXCHANGE, _exchange_rows(export)


async def _exchange_rows(export: _Export) -> Rows:
    cursor = export.cursor
    after = (datetime.fromisoformat(cursor["settled_at"]), cursor["exchange_id"]) if "settled_at" in cursor else None
    while page := await export.archive.settled(after, export.since, export.until, _PAGE):
        yield [
            (one.settled_at, *(getattr(one.exchange, name) for name in FIELDS), _usd(one.exchange.cost_nanousd))
            for one in page
        ]
        after = page[-1].settled_at, page[-1].exchange.exchange_id
        export.cursor = {"settled_at": after[0].isoformat(), "exchange_id": after[1]}


def _usage(export: _Export) -> tuple[tables.Columns, Rows]:
    return _USAGE, _usage_rows(export)


async def _usage_rows(export: _Export) -> Rows:
    after = None
    while page := await export.archive.usage(after, export.since, export.until, _PAGE):
        yield [
            (
                one.hour,
                *one.group,
                *(one.counters[name] for name in _COUNTERS),
                cost := summing.cost_nanousd(one.counters),
                _usd(cost),
            )
            for one in page
            if any(one.counters.values())  # of an exchange that was moved elsewhere nothing is left
        ]
        after = page[-1]
    export.cursor = {"since": max(export.until, export.since or export.until).isoformat()}


def _focus(export: _Export) -> tuple[tables.Columns, Rows]:
    return focus.COLUMNS, _focus_rows(export)


async def _focus_rows(export: _Export) -> Rows:
    first = export.since or await export.archive.first_opened() or export.until
    day, until = (at.replace(hour=0, minute=0, second=0, microsecond=0) for at in (first, export.until))
    unpriced = 0
    while day < until:
        charges = await export.archive.charges(day, day + DAY)
        unpriced += sum(one.requests for one in charges if not one.priced)
        priced = [one for one in charges if one.priced]
        hashes = sorted({one.key for one in priced})
        names = {record.hash: record.name for record in await keys.find_each(export.books.store, hashes)}
        rows = [focus.row(one, names.get(one.key, "")) for one in priced]
        yield [[row[name] for name in focus.COLUMNS] for row in rows]
        day += timedelta(days=1)
    export.cursor = {"since": day.isoformat()}
    if unpriced:
        export.remarks.append(f"{unpriced} requests have no price, and no row")


def _usd(nanousd: int | None) -> Decimal | None:
    return None if nanousd is None else Decimal(nanousd).scaleb(-9)


_EXPORTS: Mapping[str, Any] = {"exchanges": _exchanges, "focus": _focus, "usage": _usage}
