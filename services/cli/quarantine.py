"""`arouter quarantine list | show | retry | drop`."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.cli.output import print_table
from services.cli.redis import with_redis
from services.meter.give_up import give_up
from shared.books import quarantine
from shared.books.books import Books
from shared.books.quarantine import Case
from shared.contract import seals, tail
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import Open, StreamEntry
from shared.runtime import seal_keys
from shared.runtime.seal_keys import SealKeys
from shared.runtime.settings import Settings


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("quarantine", help="list, show, retry or drop exchanges that could not be read")
    found = parser.add_subparsers(required=True, metavar="command")
    one = found.add_parser("list", help="list all cases, oldest first")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=list_cases)
    one = found.add_parser("show", help="print one case with its records and bytes, as JSON")
    one.add_argument("id", help="exchange id, or shard:entry, as `list` prints it")
    one.set_defaults(run=show_case)
    for name, run, what in (
        ("retry", retry_cases, "give the records back to the meters"),
        ("drop", drop_cases, "delete the records; their exchange is never booked"),
    ):
        one = found.add_parser(name, help=what)
        one.add_argument("ids", nargs="+", metavar="id", help="as `list` prints it, or `all`")
        one.set_defaults(run=run)


def list_cases(arguments: argparse.Namespace) -> int:
    """Print one line or JSON object per case."""

    async def show(books: Books) -> None:
        cases = await quarantine.cases(books)
        if arguments.json:
            print(json.dumps([_summary(case) for case in cases]))
        else:
            rows = [(case.id, _time(case), str(len(case.entries)), str(case.size), case.reason) for case in cases]
            print_table(("id", "since", "records", "bytes", "reason"), rows)

    return with_redis(show)


def show_case(arguments: argparse.Namespace) -> int:
    """Print everything of one case; bytes are shown as text with escapes, sealed ones where their key is here."""
    keys = seal_keys.load(Settings.load().seal_keys_file)

    async def show(books: Books) -> None:
        case = await quarantine.find(books, arguments.id)
        records = [_record(entry, keys) for entry in case.entries]
        print(json.dumps(_summary(case) | {"records": records}, indent=2, ensure_ascii=False))

    return with_redis(show)


def retry_cases(arguments: argparse.Namespace) -> int:
    """Put the records back into the tail streams."""

    async def retry(books: Books) -> None:
        for case in await _chosen(books, arguments.ids):
            await quarantine.retry(books.store, case)
            print(f"retried {case.id}")

    return with_redis(retry)


def drop_cases(arguments: argparse.Namespace) -> int:
    """Delete the records for good."""

    async def drop(books: Books) -> None:
        for case in await _chosen(books, arguments.ids):
            with suppress(BadRecord):  # held for itself alone, it belongs to no exchange
                await give_up(books.store, ExchangeId.parse(case.id))
            await quarantine.drop(books.store, case)
            print(f"dropped {case.id}: {case.reason}")

    return with_redis(drop)


async def _chosen(books: Books, ids: list[str]) -> list[Case]:
    if ids == ["all"]:
        return await quarantine.cases(books)
    return [await quarantine.find(books, case_id) for case_id in ids]


def _summary(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "shard": case.shard,
        "since": _time(case),
        "records": len(case.entries),
        "bytes": case.size,
        "reason": case.reason,
    }


def _record(entry: StreamEntry, keys: SealKeys) -> dict[str, Any]:
    """A record, decoded as far as possible."""
    try:
        id, seq, record = tail.decode(entry.fields)
    except BadRecord as exc:
        raw = {name.decode("latin-1"): value.decode("latin-1") for name, value in entry.fields.items()}
        return {"entry": entry.id.decode(), "unreadable": str(exc), "fields": raw}
    about = {"entry": entry.id.decode(), "seq": seq, "kind": type(record).__name__}
    if isinstance(record, Open):
        return about | {"body": None, "open": msgspec.to_builtins(record, builtin_types=(bytes,), str_keys=True)}
    try:
        body = keys.opened(id, seals.place(seq, record), record.body).unpack()
    except BadRecord as exc:
        return about | {"body": None, "unreadable": str(exc)}
    return about | {"body": body.decode("utf-8", "backslashreplace")}


def _time(case: Case) -> str:
    return datetime.fromtimestamp(case.since_ms / 1000, UTC).isoformat(timespec="seconds")
