"""`arouter exchanges`: finds exchanges by whose they were and how they ended, in the database or in the ledger."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from services.cli import sinks
from services.cli.output import WIDTH, dollars, given, print_csv, print_table, shown
from services.cli.redis import with_redis
from services.sinks.settings import SinkSettings
from shared.access import keys
from shared.books import finding, followers, streams
from shared.books.archive import FOLLOWER, Archive
from shared.books.books import Books
from shared.books.exchanges import FIELDS, Exchange, Page, Place, Wanted
from shared.books.moments import FORMS, between
from shared.contract.ids import ID
from shared.runtime.errors import SettingsError

_PAGE = 200
_MOST_IN_LEDGER = 200_000  # entries that are looked through
_LATE = timedelta(minutes=1)  # a database that is behind by more is named
_DAY = timedelta(days=1)


class _Found(NamedTuple):
    """What was found, and what has to be said of it."""

    exchanges: list[Exchange]
    since: datetime | None
    as_of: datetime | None
    more: bool
    source: str


def add_commands(commands: Any) -> None:
    one = commands.add_parser("exchanges", help="find exchanges: by key, team, user, model, how they ended, or an id")
    one.add_argument(
        "id", nargs="?", type=given, help="one exchange: its id, or the provider's id of request or answer"
    )
    one.add_argument(
        "--since", metavar="T", type=given, help=f"opened since then ({FORMS}); by default the day before --until"
    )
    one.add_argument("--until", metavar="T", type=given, help="opened before then")
    one.add_argument("--key", metavar="HASH", type=given, help="hash of a key, or the beginning of it")
    for name, what in (("team", "a team"), ("user", "an end user"), ("model", "a model"), ("provider", "a provider")):
        one.add_argument(f"--{name}", metavar="NAME", type=given, help=f"of {what}")
    one.add_argument("--ended", metavar="HOW", type=given, help="whole, truncated, error, cut or unreadable")
    one.add_argument("--cause", metavar="WORD", type=given, help="such as client_gone or idle_timeout")
    one.add_argument("--limit", type=int, default=50, metavar="N", help="50 by default; the newest ones")
    form = one.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every field, as JSON lines")
    form.add_argument("--csv", action="store_true", help="every field, as CSV")
    one.set_defaults(run=show)


def show(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 where an id was given and nothing was."""
    status = 0
    if arguments.limit < 1:
        raise SettingsError("--limit: must be 1 or more")

    async def find(books: Books) -> None:
        nonlocal status
        now = datetime.fromtimestamp(await streams.now_ms(books.store) / 1000, UTC)
        found = await _find(books, await wanted_of(books, arguments, now), arguments, now)
        status = 1 if arguments.id and not found.exchanges else 0
        _print(found, arguments, now)

    with_redis(find)
    return status


async def wanted_of(books: Books, arguments: argparse.Namespace, now: datetime) -> Wanted:
    """The question. BadMoment for a range of time that is none, NoSuchKey for a key."""
    since, until = between(arguments.since, arguments.until, now)
    if since is None and not arguments.id:
        since = min(now, until or now) - _DAY
    key = (await keys.find_one(books.store, arguments.key)).hash if arguments.key else ""
    said = {name: getattr(arguments, name) or "" for name in ("team", "user", "model", "provider", "ended", "cause")}
    return Wanted(since=since, until=until, key=key, **said)


async def _find(books: Books, wanted: Wanted, arguments: argparse.Namespace, now: datetime) -> _Found:
    async with sinks.asking(SinkSettings.load()) as opened:
        archive = await opened()
        covered = None
        if archive is not None:
            covered = await followers.coverage(books, FOLLOWER, int(now.timestamp() * 1000))
        found: list[Exchange] = []
        since, more = None, False
        for question in _questions(wanted, arguments.id):
            async for page in _pages(books, archive, question, arguments.limit - len(found)):
                found += page.exchanges
                since, more = page.since, page.next is not None
            if found:
                break
    since = wanted.missing(since, covered.since if covered else None)
    as_of = now if archive is None else covered.as_of if covered else None
    return _Found(found, since, as_of, more, "ledger" if archive is None else "database")


def _questions(wanted: Wanted, id: str | None) -> list[Wanted]:
    """What an id may be, one after the other."""
    if not id:
        return [wanted]
    if ID.fullmatch(id):
        return [replace(wanted, exchange_id=id)]
    return [replace(wanted, request_id=id), replace(wanted, response_id=id)]


async def _pages(books: Books, archive: Archive | None, wanted: Wanted, limit: int) -> AsyncIterator[Page]:
    """Pages, until there are `limit` exchanges or no more."""
    after: Place | None = None
    while limit > 0:
        if archive is None:
            page = await finding.find(books, wanted, after=after, limit=limit, most=_MOST_IN_LEDGER)
        else:
            page = await archive.find(wanted, after=after, limit=min(limit, _PAGE))
        yield page
        limit -= len(page.exchanges)
        after = page.next
        if after is None:
            return


def _print(found: _Found, arguments: argparse.Namespace, now: datetime) -> None:
    if arguments.json:
        for one in found.exchanges:
            print(json.dumps(as_dict(one), ensure_ascii=False))
    elif arguments.csv:
        rows = [as_dict(one) for one in found.exchanges]
        print_csv(COLUMNS, ([_plain(row[name]) for name in COLUMNS] for row in rows))
    elif arguments.id:
        for one in found.exchanges:
            print_table(("", ""), [(name, str(_plain(value))) for name, value in as_dict(one).items() if _said(value)])
    else:
        print_table(_HEADINGS, [_row(one) for one in found.exchanges], width=WIDTH, cut=("model", "ended", "key"))
    for sentence in _remarks(found, arguments, now):
        print(sentence, file=sys.stderr)


COLUMNS = (*FIELDS, "cost_usd")
_HEADINGS = ("opened (UTC)", "key", "model", "ended", "status", "tokens", "exchange")


def as_dict(one: Exchange) -> dict[str, Any]:
    """Every field; times as text, money exactly."""
    values = {name: getattr(one, name) for name in FIELDS}
    values["opened_at"] = one.opened_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return values | {"cost_usd": dollars(one.cost_nanousd)}


def _plain(value: Any) -> Any:
    return " ".join(value) if isinstance(value, tuple) else value


def _said(value: Any) -> bool:
    return value not in ("", None, ())


def _row(one: Exchange) -> tuple[str, ...]:
    tokens = "?" if one.total_tokens is None else str(one.total_tokens)
    opened = one.opened_at.strftime("%m-%d %H:%M:%S")
    ended = f"{one.ended or one.outcome} {one.cause}".strip()
    return (opened, one.key[:8], one.model, ended, str(one.status or ""), tokens, one.exchange_id)


def _remarks(found: _Found, arguments: argparse.Namespace, now: datetime) -> list[str]:
    remarks = []
    if found.more:
        remarks.append(f"the newest {len(found.exchanges)}; there may be more: --limit, --until")
    if found.since is not None:
        remarks.append(f"the {found.source} has all exchanges since {shown(found.since)}; older ones may be missing")
    if found.as_of is None or now - found.as_of > _LATE:
        until = "nobody knows how far it has got" if found.as_of is None else f"it has got to {shown(found.as_of)}"
        remarks.append(f"the database is behind: {until} (arouter books status)")
    if not found.exchanges:
        remarks.append("none found" if arguments.since or arguments.id else "none found in the last day: --since")
    return remarks
