"""`arouter keys`: keys, made, listed, changed and revoked."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from services.cli import limits
from services.cli.output import print_table
from services.cli.redis import with_redis
from shared.access import keys, limit_form, pepper, teams
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books.books import Books
from shared.contract.limits import key_scope
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings


def add_commands(commands: Any) -> None:
    found = commands.add_parser("keys", help="create, list, change and revoke keys").add_subparsers(required=True)
    one = found.add_parser("create", help="make a key and print it, this once")
    one.add_argument("--name", required=True)
    one.add_argument("--management", action="store_true", help="a key that manages keys, and cannot call models")
    one.add_argument("--team", metavar="NAME", help="the team it belongs to")
    limits.add_flags(one)
    one.add_argument("--json", action="store_true", help="print the whole record")
    one.set_defaults(run=create)
    one = found.add_parser("list", help="list all keys, oldest first")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=list_all)
    one = found.add_parser(
        "update", help="change a key, by its hash or the beginning of it; gateways act in two seconds"
    )
    one.add_argument("hash")
    one.add_argument("--name")
    one.add_argument("--disable", dest="disabled", action="store_const", const=True)
    one.add_argument("--enable", dest="disabled", action="store_const", const=False)
    one.add_argument("--expires-at", metavar="TIME", help="ISO 8601, UTC without a zone; 'never' clears it")
    one.add_argument("--allow-providers", metavar="A,B", help="the only providers it may use; 'all' clears the list")
    one.add_argument(
        "--allow-models", metavar="A,B*", help="the only models it may use; a trailing * stands for any rest"
    )
    one.add_argument("--team", metavar="NAME", help="the team it belongs to from now on; '' takes it out of its team")
    limits.add_flags(one)
    one.set_defaults(run=update)
    one = found.add_parser("revoke", help="revoke a key, by its hash or the beginning of it")
    one.add_argument("hash")
    one.set_defaults(run=revoke)


def create(arguments: argparse.Namespace) -> int:
    """`keys create`: prints the key alone, or with --json its record too."""

    async def make(books: Books) -> None:
        redis = books.store
        kind = Kind.MANAGEMENT if arguments.management else Kind.LIVE
        wanted = limits.given(arguments)
        given = {"team": await _team(books, arguments.team), "limits": limit_form.changed(wanted) if wanted else None}
        key, record = await keys.create(redis, await pepper.load(redis, Settings.load()), arguments.name, kind, **given)
        if record.limits is not None:
            await limits.counted(books, key_scope(record.hash), record.limits)
        print(json.dumps({"key": key, **record.as_dict()}) if arguments.json else key)

    return with_redis(make)


def list_all(arguments: argparse.Namespace) -> int:
    """`keys list`."""

    async def show(books: Books) -> None:
        redis = books.store
        records = await keys.find_all(redis)
        if arguments.json:
            print(json.dumps([record.as_dict() for record in records]))
        else:
            rows = [
                (r.hash[:16], r.label, r.name, r.team or "", _day(r.created_at), _day(r.last_used_at), _state(r))
                for r in records
            ]
            print_table(("hash", "key", "name", "team", "created", "last used", "state"), rows)

    return with_redis(show)


def update(arguments: argparse.Namespace) -> int:
    """`keys update HASH`."""
    changes: dict[str, Any] = {}
    if arguments.name is not None:
        changes["name"] = arguments.name
    if arguments.disabled is not None:
        changes["disabled"] = arguments.disabled
    if arguments.expires_at is not None:
        changes["expires_at"] = None if arguments.expires_at == "never" else _seconds(arguments.expires_at)
    for field, given in (
        ("allowed_providers", arguments.allow_providers),
        ("allowed_models", arguments.allow_models),
    ):
        if given is not None:
            named = tuple(part.strip() for part in given.split(",") if part.strip())
            changes[field] = None if given == "all" else named

    async def change(books: Books) -> None:
        redis = books.store
        if arguments.team is not None:
            changes["team"] = await _team(books, arguments.team)
        before = await keys.find_one(redis, arguments.hash)
        if wanted := limits.given(arguments):
            found = limit_form.changed(wanted, before.limits)
            changes["limits"] = found if found.any else None
        record = await keys.update(redis, before.hash, changes)
        if "limits" in changes:
            await limits.counted(books, key_scope(record.hash), record.limits)
        print(f"{record.label} ({record.name}): {_state(record)}")

    return with_redis(change)


def revoke(arguments: argparse.Namespace) -> int:
    """`keys revoke HASH`."""

    async def end(books: Books) -> None:
        record = await keys.revoke(books.store, arguments.hash)
        await limits.counted(books, key_scope(record.hash), None)
        print(f"revoked {record.label} ({record.name})")

    return with_redis(end)


async def _team(books: Books, name: str | None) -> str | None:
    """A team as a key's record has it; None for none. NoSuchTeam where it does not exist."""
    return (await teams.find(books.store, name)).name if name else None


def _state(record: KeyRecord) -> str:
    if record.revoked_at is not None:
        return f"revoked {_day(record.revoked_at)}"
    parts = ["disabled"] if record.disabled else ["management"] if record.kind is Kind.MANAGEMENT else ["good"]
    if record.expires_at is not None:
        parts.append(f"until {_day(record.expires_at)}")
    lists = (record.allowed_providers, record.allowed_models)
    parts += [f"for {', '.join(allowed) or 'nothing'}" for allowed in lists if allowed is not None]
    return " ".join(parts)


def _seconds(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--expires-at: {text!r} is not a time") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _day(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
