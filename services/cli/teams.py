"""`arouter teams`: teams of keys, made, listed and changed."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from services.cli import limits
from services.cli.output import print_table
from services.cli.redis import with_redis
from shared.access import limit_form, teams
from shared.access.teams import TeamRecord
from shared.books.books import Books
from shared.contract.limits import team_scope


def add_commands(commands: Any) -> None:
    found = commands.add_parser("teams", help="create, list and change teams of keys").add_subparsers(required=True)
    one = found.add_parser("create", help="make a team, for `keys create --team` and `keys update --team`")
    one.add_argument("--name", required=True, help="letters, digits, '.', '_' and '-'; it never changes")
    one.add_argument("--label", default="", help="for people; it may change")
    limits.add_flags(one)
    one.add_argument("--json", action="store_true", help="print the whole record")
    one.set_defaults(run=create)
    one = found.add_parser("list", help="list all teams, oldest first")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=list_all)
    one = found.add_parser("update", help="change a team, by its name")
    one.add_argument("name")
    one.add_argument("--label")
    limits.add_flags(one)
    one.add_argument("--json", action="store_true", help="print the whole record")
    one.set_defaults(run=update)


def create(arguments: argparse.Namespace) -> int:
    """`teams create`."""

    async def make(books: Books) -> None:
        wanted = limits.given(arguments)
        limit_form.changed(wanted)  # before anything is made
        record = await teams.create(books.store, arguments.name, arguments.label)
        if wanted:
            await limits.set_team(books, team_scope(record.name), wanted)
        _print(record, as_json=arguments.json)

    return with_redis(make)


def list_all(arguments: argparse.Namespace) -> int:
    """`teams list`."""

    async def show(books: Books) -> None:
        records = await teams.find_all(books.store)
        if arguments.json:
            print(json.dumps([record.as_dict() for record in records]))
        else:
            print_table(("name", "label", "created"), [(r.name, r.label, _minute(r.created_at)) for r in records])

    return with_redis(show)


def update(arguments: argparse.Namespace) -> int:
    """`teams update NAME`."""
    changes = {} if arguments.label is None else {"label": arguments.label}

    async def change(books: Books) -> None:
        record = await teams.update(books.store, arguments.name, changes)
        if wanted := limits.given(arguments):
            await limits.set_team(books, team_scope(record.name), wanted)
        _print(record, as_json=arguments.json)

    return with_redis(change)


def _print(record: TeamRecord, *, as_json: bool) -> None:
    print(json.dumps(record.as_dict()) if as_json else record.name)


def _minute(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
