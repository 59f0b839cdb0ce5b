"""`arouter work`: work that ends elsewhere, and whose result nobody has booked."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from services.cli.output import print_table
from services.cli.redis import with_redis
from shared.books import work
from shared.books.books import Books
from shared.books.work import OpenWork


def add_commands(commands: Any) -> None:
    one = commands.add_parser("work", help="list work that has begun and whose result is not booked")
    one.add_argument("--key", metavar="HASH", default="", help="of one key, by its hash or the beginning of it")
    one.add_argument("--provider", metavar="NAME", default="", help="of one provider")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=list_work)


def list_work(arguments: argparse.Namespace) -> int:
    """Print one line or JSON object for each piece of open work, the oldest first, and how much has expired."""

    async def show(books: Books) -> None:
        found = [one async for one in work.open_work(books.store)]
        rows = [_row(one) for one in found if not arguments.provider or one.provider == arguments.provider]
        rows = [row for row in rows if row["key"].startswith(arguments.key)]
        if arguments.json:
            print(json.dumps(rows))
            return
        columns = ("since", "provider", "id", "kind", "model", "key", "exchange_id")
        print_table(
            columns, [tuple(row[name][:16] if name == "key" else row[name] for name in columns) for row in rows]
        )
        print(f"{len(rows)} open; {(await work.summary(books.store)).expired} have expired, all keys and providers")

    return with_redis(show)


def _row(one: OpenWork) -> dict[str, Any]:
    start = one.start
    return {
        "since": datetime.fromtimestamp(one.since_ms / 1000, UTC).isoformat(timespec="seconds"),
        "provider": one.provider,
        "id": one.id,
        "kind": start.kind if start else "",
        "model": start.model if start else "",
        "key": start.key if start else "",
        "exchange_id": start.exchange_id if start else "",
    }
