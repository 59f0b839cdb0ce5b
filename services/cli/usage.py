"""`arouter usage`: totals of all time as they stand in Redis, or of a range of time by any groups, with their sum."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from services.cli import sinks, totals
from services.cli.output import WIDTH, dollars, given, print_csv, print_table, shown
from services.cli.redis import with_redis
from services.sinks.settings import SinkSettings
from shared.access import keys
from shared.books import followers, streams, summing
from shared.books.archive import FOLLOWER
from shared.books.books import Books
from shared.books.moments import FORMS, between
from shared.books.reports import no_counters
from shared.books.summing import Answer, Asked, Database, Group, Sum
from shared.contract.booked import BOOKED
from shared.runtime.errors import SettingsError

_DEFAULT = (Group.KEY, Group.PROVIDER, Group.MODEL)
_SHOWN = ("requests", "input_tokens", "output_tokens", "total_tokens", "unpriced_requests")
_HEADINGS = ("requests", "input", "output", "total", "unpriced", "usd")
_COUNTERS = tuple(name for name in BOOKED if name not in ("cost_microusd", "cost_nanousd"))


class _Report(NamedTuple):
    """The sums, their total, and the names of keys."""

    by: tuple[Group, ...]
    answer: Answer
    total: Sum
    names: dict[str, str]


def add_commands(commands: Any) -> None:
    one = commands.add_parser("usage", help="print totals per key, provider and model; or of a time, by any groups")
    one.add_argument("--since", metavar="T", type=given, help=f"in a range of time: {FORMS}; 30 days by default")
    one.add_argument("--until", metavar="T", type=given, help="before this time; now by default")
    one.add_argument("--by", metavar="A,B", default="", help=f"groups, comma-separated: {', '.join(Group)}")
    one.add_argument("--key", metavar="HASH", type=given, help="one key, by its hash or the beginning of it")
    one.add_argument("--team", metavar="NAME", help="one team")
    form = one.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--csv", action="store_true")
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Totals of all time without a range, a group, a team or --csv; else a report."""
    if not any((arguments.since, arguments.until, arguments.by, arguments.team is not None, arguments.csv)):
        return totals.show(arguments)

    async def report(books: Books) -> None:
        _print(await _report(books, arguments), arguments)

    return with_redis(report)


def groups(text: str) -> tuple[Group, ...]:
    """The groups that an option names. SettingsError for words that are none, or that come twice."""
    try:
        found = tuple(Group(name.strip()) for name in text.split(",") if name.strip())
    except ValueError as exc:
        raise SettingsError(f"--by: {exc}; groups are {', '.join(Group)}") from None
    if len(set(found)) != len(found):
        raise SettingsError("--by: a group comes twice")
    return found


async def _report(books: Books, arguments: argparse.Namespace) -> _Report:
    now = datetime.fromtimestamp(await streams.now_ms(books.store) / 1000, UTC)
    by = groups(arguments.by) or _DEFAULT
    only = {Group.TEAM: arguments.team} if arguments.team is not None else {}
    if arguments.key:
        only[Group.KEY] = (await keys.find_one(books.store, arguments.key)).hash
    since, until = between(arguments.since, arguments.until, now)
    asked = Asked(since, until, summing.granularity(by), by, only)
    async with sinks.asking(SinkSettings.load()) as archive:
        covered = partial(followers.coverage, books, FOLLOWER, int(now.timestamp() * 1000))
        database = Database(archive, covered)
        found = await summing.answer(books, database, asked, now)
        # An exchange with two tags is in two groups.
        whole = found if Group.TAG not in by else await summing.answer(books, database, asked._replace(by=()), now)
    total = next(iter(summing.totals(whole.sums, by if whole is found else (), ())), Sum((), no_counters()))
    hashes = sorted({one.group[by.index(Group.KEY)] for one in found.sums}) if Group.KEY in by else []
    return _Report(by, found, total, {one.hash: one.name for one in await keys.find_each(books.store, hashes)})


def _print(report: _Report, arguments: argparse.Namespace) -> None:
    if arguments.json:
        lines = [_as_dict(report, one) for one in report.answer.sums]
        about = {"since": shown(report.answer.range.start), "until": shown(report.answer.range.end)}
        about["as_of"] = shown(report.answer.as_of)
        print(json.dumps({**about, "groups": lines, "total": _amounts(report.total)}, ensure_ascii=False))
        return
    if arguments.csv:
        lines = [_as_dict(report, one) for one in report.answer.sums]
        headings = [*_group_names(report.by), *_COUNTERS, "cost_usd"]
        print_csv(headings, [[line[name] for name in headings] for line in lines])
    else:
        rows = [(*_group_cells(report, one), *_cells(one)) for one in report.answer.sums]
        rows.append(("total", *[""] * (len(report.by) - 1), *_cells(report.total)))
        print_table([*report.by, *_HEADINGS], rows, width=WIDTH, cut=report.by)
    found = report.answer
    print(
        f"from {shown(found.range.start)} until {shown(found.range.end)}, as of {shown(found.as_of)}", file=sys.stderr
    )


def _group_names(by: Sequence[Group]) -> list[str]:
    return [name for group in by for name in (("key", "key_name") if group is Group.KEY else (group,))]


def _as_dict(report: _Report, one: Sum) -> dict[str, Any]:
    named: dict[str, Any] = dict(zip(map(str, report.by), one.group, strict=True))
    if Group.KEY in report.by:
        named["key_name"] = report.names.get(named["key"], "")
    return named | _amounts(one)


def _amounts(one: Sum) -> dict[str, Any]:
    """Counters, and the cost exactly; None where nothing has a price."""
    return {name: one.counters[name] for name in _COUNTERS} | {"cost_usd": dollars(summing.cost_nanousd(one.counters))}


def _group_cells(report: _Report, one: Sum) -> list[str]:
    return [
        f"{value[:8]} {report.names.get(value, '')}".strip()
        if group is Group.KEY
        else _short(group, value)
        if group in summing.TIMES
        else value or "-"
        for group, value in zip(report.by, one.group, strict=True)
    ]


def _short(group: Group, stamp: str) -> str:
    return {Group.HOUR: stamp[:13], Group.DAY: stamp[:10]}.get(group, stamp[:7])


def _cells(one: Sum) -> list[str]:
    usd = dollars(summing.cost_nanousd(one.counters))
    return [*(str(one.counters[name]) for name in _SHOWN), "unpriced" if usd is None else usd]
