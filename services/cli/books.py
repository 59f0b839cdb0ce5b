"""`arouter audit` and `arouter ledger`: check the books, and print them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from services.cli import sinks
from services.cli.output import printable
from services.cli.redis import with_redis
from services.sinks.settings import SinkSettings
from shared.books import audit, ledger, limit_audit, oracle, streams
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.contract.errors import ARouterError
from shared.contract.ids import ExchangeId

if TYPE_CHECKING:
    from services.sinks.audit import Compared
    from services.sinks.database import Database


class NotInLedger(ARouterError):
    """The ledger has no entry of this exchange."""


class BadCursor(ARouterError):
    """The file is not a cursor of an export."""


def add_commands(commands: Any) -> None:
    one = commands.add_parser(
        "audit", help="compare totals, ledger, open exchanges, limits and the database; exit 1 where they differ"
    )
    one.add_argument("--json", action="store_true")
    one.add_argument(
        "--oracle",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="also compare with a demo provider's emit log; once for each provider",
    )
    one.set_defaults(run=run_audit)
    books = commands.add_parser("ledger", help="show or export what was booked").add_subparsers(required=True)
    one = books.add_parser("show", help="every revision of one exchange, as JSON lines")
    one.add_argument("id")
    one.set_defaults(run=show)
    one = books.add_parser("export", help="settlements as JSON lines, in the order they were booked per shard")
    one.add_argument(
        "--since", type=time_of, metavar="TIME", help="settled at or after this time, ISO 8601; UTC without a zone"
    )
    one.add_argument("--until", type=time_of, metavar="TIME", help="settled before this time")
    one.add_argument("--cursor", type=Path, metavar="FILE", help="go on where the last export with this file ended")
    one.set_defaults(run=export)


def run_audit(arguments: argparse.Namespace) -> int:
    """Print every difference; 1 where there is one."""
    status = 0
    database = sinks.database(SinkSettings.load())

    async def check(books: Books) -> None:
        nonlocal status
        found = await audit.audit(books)
        kept = await _compared(books, database) if database is not None and database.exists else None
        if kept is not None:
            found.differences += kept.differences
        limited = await limit_audit.audit(books, await streams.now_ms(books.store))
        found.differences += limited.differences
        if arguments.oracle:
            entries = [entry for shard in range(books.shards) async for entry in ledger.read(books.store, shard)]
            lines = [json.loads(line) for file in arguments.oracle for line in file.read_text().splitlines()]
            found.differences += oracle.compare(entries, lines)
        status = 1 if found.differences else 0
        if arguments.json:
            said = {"exchanges": kept.exchanges, "behind": kept.behind} if kept is not None else None
            print(json.dumps(found.as_dict() | {"database": said, "limits": {"scopes": limited.scopes}}))
            return
        for difference in found.differences:
            print(printable(difference))
        sides = asdict(found.conservation) | {"gap": found.conservation.gap}
        print(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sides.items()))
        if kept is not None:
            print(f"{kept.exchanges} exchanges compared with the database, {kept.behind} entries not read yet")
        if limited.scopes:
            print(f"{limited.scopes} scopes of limits compared with the books")
        print(f"{found.exchanges} exchanges in the ledger: {len(found.differences) or 'no'} differences")

    with_redis(check)
    return status


async def _compared(books: Books, database: Database) -> Compared:
    from services.sinks.audit import compare  # noqa: PLC0415  # its libraries are needed where there is a database only

    return await compare(books, database)


def show(arguments: argparse.Namespace) -> int:
    """Print every revision. NotInLedger where the exchange was never booked, or its entries were trimmed."""
    id = ExchangeId.parse(arguments.id)

    async def print_revisions(books: Books) -> None:
        found = False
        async for entry in ledger.read(books.store, id.shard):
            if entry.exchange_id == arguments.id:
                print(_line(entry))
                found = True
        if not found:
            raise NotInLedger(f"exchange {id} is not in the ledger: never booked, or trimmed by age")

    return with_redis(print_revisions)


def export(arguments: argparse.Namespace) -> int:
    """Print JSON lines. With a cursor no line is left out, but one may come twice after a crash;
    (exchange_id, revision) identifies it."""
    cursor = _read_cursor(arguments.cursor)

    async def print_entries(books: Books) -> None:
        for shard in range(books.shards):
            after = cursor.get(str(shard))
            async for entry in ledger.read(
                books.store, shard, after=after, since_ms=arguments.since or 0, until_ms=arguments.until
            ):
                print(_line(entry))
                cursor[str(shard)] = entry.id
        sys.stdout.flush()
        if arguments.cursor is not None:
            replace_file(arguments.cursor, json.dumps(cursor))

    return with_redis(print_entries)


def _line(entry: LedgerEntry) -> str:
    head = {"revision": entry.revision, "final": entry.final, "settled_ms": int(entry.id.partition("-")[0])}
    fields = {name: getattr(entry.entry, name) for name in entry.entry.__struct_fields__}
    # Attempts have names for people, and places for machines.
    fields["attempts"] = [msgspec.structs.asdict(attempt) for attempt in entry.entry.attempts]
    moved = {"moved": entry.moved._asdict()} if entry.moved else {}
    line = {"exchange_id": entry.exchange_id, **head, **fields, "delta": entry.delta, **moved}
    return json.dumps(line, ensure_ascii=False)


def _read_cursor(path: Path | None) -> dict[str, str]:
    text = read_cursor(path)
    if text is None:
        return {}
    try:
        cursor: dict[str, str] = json.loads(text)
        return {str(int(shard)): str(id) for shard, id in cursor.items()}
    except (ValueError, AttributeError) as exc:
        raise BadCursor(f"{path} is not a cursor of an export: {exc}") from None


def read_cursor(path: Path | None) -> str | None:
    """What is in the file of a cursor; None where there is none yet. BadCursor where it cannot be read, or could not be
    written once everything else is done."""
    if path is None:
        return None
    try:
        if path.exists():
            return path.read_text("utf-8")
    except (OSError, ValueError) as exc:
        raise BadCursor(f"{path} cannot be read: {exc}") from None
    if not path.parent.is_dir():
        raise BadCursor(f"{path} cannot be written: {path.parent} is no folder")
    return None


def replace_file(path: Path, text: str) -> None:
    """Write a file: whole, or not at all."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text)
    os.replace(new, path)


def time_of(text: str) -> int:
    """Milliseconds since the epoch."""
    try:
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"not a time, as 2026-11-30 or 2026-11-30T12:00Z: {text[:60]!r}") from None
