"""The commands that need Redis alone: keys and usage."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from services.cli import limits
from services.cli.output import dollars, print_table
from services.cli.redis import with_redis
from shared.access import keys, limit_form, pepper, teams
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord, NoSuchKey
from shared.books import summing, totals
from shared.books.books import Books
from shared.books.totals import Row
from shared.contract.booked import BOOKED
from shared.contract.limits import key_scope
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings

_COST = ("cost_microusd", "cost_nanousd")
_COLUMNS = ("name", "provider", "model", *(name for name in BOOKED if name not in _COST))
_HEADINGS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache read",
    "cache_write_tokens": "cache write",
    "reasoning_tokens": "reasoning",
    "total_tokens": "total",
    "estimated_requests": "estimated",
    "partial_requests": "partial",
    "unpriced_requests": "unpriced",
}


def create_key(arguments: argparse.Namespace) -> int:
    """`keys create`: prints the key alone, or with --json its record too."""

    async def create(books: Books) -> None:
        redis = books.store
        kind = Kind.MANAGEMENT if arguments.management else Kind.LIVE
        wanted = limits.given(arguments)
        given = {"team": await _team(books, arguments.team), "limits": limit_form.changed(wanted) if wanted else None}
        key, record = await keys.create(redis, await pepper.load(redis, Settings.load()), arguments.name, kind, **given)
        if record.limits is not None:
            await limits.counted(books, key_scope(record.hash), record.limits)
        print(json.dumps({"key": key, **record.as_dict()}) if arguments.json else key)

    return with_redis(create)


def list_keys(arguments: argparse.Namespace) -> int:
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


def update_key(arguments: argparse.Namespace) -> int:
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

    async def update(books: Books) -> None:
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

    return with_redis(update)


def revoke_key(arguments: argparse.Namespace) -> int:
    """`keys revoke HASH`."""

    async def revoke(books: Books) -> None:
        record = await keys.revoke(books.store, arguments.hash)
        print(f"revoked {record.label} ({record.name})")

    return with_redis(revoke)


def show_usage(arguments: argparse.Namespace) -> int:
    """`usage`: rows as flat JSON objects, or as a table, where the cost of what has no price is no figure."""

    async def show(books: Books) -> None:
        rows = await usage_rows(books, arguments.key)
        if arguments.json:
            print(json.dumps(rows))
        else:
            shown = [(*(str(row[column]) for column in _COLUMNS), _dollars(row)) for row in rows]
            print_table((*(_HEADINGS.get(column, column) for column in _COLUMNS), "usd"), shown)

    return with_redis(show)


async def usage_rows(books: Books, hash_prefix: str | None) -> list[Row]:
    """Totals of one key or all, one row per key, provider and model. NoSuchKey where the prefix fits none."""
    records = [r for r in await keys.find_all(books.store) if r.hash.startswith(hash_prefix or "")]
    if hash_prefix and not records:
        raise NoSuchKey(f"no key has a hash that starts with {hash_prefix!r}")
    per_key = await totals.read(books, [record.hash for record in records])
    return [_named(record, row) for record in records for row in per_key[record.hash]]


async def _team(books: Books, name: str | None) -> str | None:
    """A team as a key's record has it; None for none. NoSuchTeam where it does not exist."""
    return (await teams.find(books.store, name)).name if name else None


def _dollars(row: Row) -> str:
    return dollars(summing.cost_nanousd({name: int(row[name]) for name in BOOKED})) or "unpriced"


def _named(record: KeyRecord, row: Row) -> Row:
    return {"key": record.hash, "name": record.name, **row}


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
