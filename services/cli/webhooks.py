"""`arouter webhooks`: how they do, their dead letters, sending these again, forgetting one, and a new secret."""

from __future__ import annotations

import argparse
import base64
import json
import secrets
from datetime import UTC, datetime
from typing import Any

from services.cli.output import print_table
from services.cli.redis import with_redis
from services.sinks.webhooks import queue
from services.sinks.webhooks.queue import NoSuchMessage, Queue, State
from services.sinks.webhooks.settings import PREFIX
from shared.books.books import Books
from shared.runtime.errors import SettingsError

_SECRET_BYTES = 32


def add_commands(commands: Any) -> None:
    webhooks = commands.add_parser("webhooks", help="webhooks and their dead letters").add_subparsers(required=True)
    one = webhooks.add_parser("list", help="how webhooks do, and which messages were given up")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=show)
    one = webhooks.add_parser("resend", help="send dead letters of a webhook again")
    one.add_argument("name")
    one.add_argument("id", nargs="*", help="of a dead letter")
    one.add_argument("--all", action="store_true", help="all of them")
    one.set_defaults(run=resend)
    one = webhooks.add_parser("forget", help="throw away the messages of a webhook that is no longer configured")
    one.add_argument("name")
    one.set_defaults(run=forget)
    one = webhooks.add_parser("secret", help="print a new secret")
    one.set_defaults(run=secret)


def show(arguments: argparse.Namespace) -> int:
    """`webhooks list`."""

    async def read(books: Books) -> None:
        states = [await Queue(books.store, name).state() for name in await queue.known(books.store)]
        if arguments.json:
            print(json.dumps([_as_dict(state) for state in states]))
            return
        rows = [(s.name, str(s.waiting), str(len(s.dead)), str(s.sent), str(s.lost), s.failing) for s in states]
        print_table(("webhook", "waiting", "dead", "sent", "lost", "last error"), rows)
        letters = [
            (state.name, letter.id, letter.type, _time(since), letter.error or "no room")
            for state in states
            for since, letter in state.dead
        ]
        if letters:
            print()
            print_table(("webhook", "dead letter", "type", "since", "error"), letters)

    return with_redis(read)


def resend(arguments: argparse.Namespace) -> int:
    """`webhooks resend NAME ID…|--all`."""
    if bool(arguments.id) == arguments.all:
        raise SettingsError("webhooks resend: needs ids, or --all")

    async def send(books: Books) -> None:
        found = await _queue(books, arguments.name)
        count = await found.resend(arguments.id)
        print(f"sent again: {count}")

    return with_redis(send)


def forget(arguments: argparse.Namespace) -> int:
    """`webhooks forget NAME`."""

    async def drop(books: Books) -> None:
        await (await _queue(books, arguments.name)).forget()
        print(f"forgotten: {arguments.name}; where it is still configured, it comes back")

    return with_redis(drop)


async def _queue(books: Books, name: str) -> Queue:
    if name not in await queue.known(books.store):
        raise NoSuchMessage(f"there is no webhook {name!r}")
    return Queue(books.store, name)


def secret(_: argparse.Namespace) -> int:
    """`webhooks secret`."""
    print(PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())
    return 0


def _as_dict(state: State) -> dict[str, Any]:
    return {
        "name": state.name,
        "waiting": state.waiting,
        "sent": state.sent,
        "lost": state.lost,
        "last_error": state.failing or None,
        "dead": [
            {
                "id": letter.id,
                "type": letter.type,
                "since": _time(since),
                "attempts": letter.attempts,
                "error": letter.error or "no room",
                "body": json.loads(letter.body),
            }
            for since, letter in state.dead
        ],
    }


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
