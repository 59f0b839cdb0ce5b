"""`arouter books`: how the followers of the ledger do, and forgetting one that will not come again."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from services.cli import export
from services.cli.output import print_table
from services.cli.redis import with_redis
from shared.books import followers, streams
from shared.books.books import Books
from shared.books.followers import State
from shared.contract.errors import ARouterError


class NoSuchFollower(ARouterError):
    """No follower of this name has ever followed the ledger."""


def add_commands(commands: Any) -> None:
    books = commands.add_parser("books", help="followers of the ledger, and what they write").add_subparsers(
        required=True
    )
    one = books.add_parser("status", help="followers of the ledger: lag, last error, gaps")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=status)
    export.add_command(books)
    one = books.add_parser("forget", help="hold the ledger back no longer for a follower that is gone for good")
    one.add_argument("name")
    one.set_defaults(run=forget)


def status(arguments: argparse.Namespace) -> int:
    """`books status`."""

    async def show(books: Books) -> None:
        states = await followers.states(books, await streams.now_ms(books.store))
        if arguments.json:
            print(json.dumps([_as_dict(state) for state in states]))
            return
        rows = [(s.name, f"{max(0, s.lag_ms) / 1000:.1f} s", _time(s.noted_ms), _missing(s), _error(s)) for s in states]
        print_table(("follower", "lag", "last seen", "missing", "last error"), rows)

    return with_redis(show)


def forget(arguments: argparse.Namespace) -> int:
    """`books forget NAME`."""

    async def drop(books: Books) -> None:
        if not await followers.forget(books.store, arguments.name, books.shards):
            raise NoSuchFollower(f"there is no follower {arguments.name!r}")
        print(f"forgotten: {arguments.name}; where it still runs, it comes back")

    return with_redis(drop)


def _as_dict(state: State) -> dict[str, Any]:
    return {
        "name": state.name,
        "lag_seconds": max(0, state.lag_ms) / 1000,
        "shards_behind": state.behind,
        "last_seen": _time(state.noted_ms) or None,
        "failing": state.failing,
        "last_error": state.error or None,
        "last_error_at": _time(state.error_ms) or None,
        "gaps": [
            {"shard": shard, "since": _time(gap.since_ms), "until": _time(gap.until_ms)}
            for shard, gap in sorted(state.gaps.items())
        ],
        "unreadable_entries": state.skipped,
    }


def _missing(state: State) -> str:
    parts = [f"{len(state.gaps)} gaps"] if state.gaps else []
    parts += [f"{state.skipped} entries"] if state.skipped else []
    return ", ".join(parts)


def _error(state: State) -> str:
    if not state.error:
        return ""
    return f"{_time(state.error_ms)} {state.error}" + ("" if state.failing else " (over)")


def _time(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
