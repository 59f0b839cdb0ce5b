"""`arouter ps` and `arouter cancel`: what runs now, on all gateways, and ending it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.cli.output import print_table, printable
from services.cli.redis import with_redis
from shared.access import keys
from shared.access.keys import KeyRecord
from shared.books import lookup, running, streams
from shared.books.books import Books
from shared.books.lookup import Cancel, State
from shared.books.running import Answers
from shared.contract.running import RunningExchange

COLUMNS = ("id", "age", "key", "team/user", "model", "bytes", "first")
_WIDTH = 100
_CELLS = (5, 10, 12, 5, 5)  # every column but the id, which is never cut, and the model, which gets the rest
_LEAST = 8


def add_commands(commands: Any) -> None:
    one = commands.add_parser("ps", help="list what runs now, on all gateways")
    one.add_argument("--json", action="store_true", help="a line for each exchange")
    one.set_defaults(run=show)
    one = commands.add_parser("cancel", help="end an exchange that runs; what came through is booked")
    one.add_argument("id", help="as in x-generation-id, and in `arouter ps`")
    one.set_defaults(run=cancel)


def show(arguments: argparse.Namespace) -> int:
    """`ps`. What is not known of (a gateway that does not answer) is said on standard error, and exits 0, too."""

    async def ask(books: Books) -> None:
        answers = await running.exchanges(books.store)
        found = answers.oldest_first()
        hashes = sorted({one.key for _, one in found})
        records = {record.hash: record for record in await keys.find_each(books.store, hashes)}
        if arguments.json:
            for boot, one in found:
                print(json.dumps(as_dict(one, records.get(one.key), boot, answers.gateways[boot].host)))
        else:
            print_table(COLUMNS, rows([one for _, one in found], records, await streams.now_ms(books.store)))
            print(totals(answers))
        for sentence in unknown(answers):
            print(f"arouter: {sentence}", file=sys.stderr)

    return with_redis(ask)


def cancel(arguments: argparse.Namespace) -> int:
    """`cancel ID`. 1 where its gateway has not answered."""
    answers: list[Cancel] = []

    async def ask(books: Books) -> None:
        answers.append(await lookup.cancel(books.store, arguments.id))
        print(said(arguments.id, answers[-1]))

    with_redis(ask)
    return int(answers[-1].state is State.ASKED)


def said(id: str, answer: Cancel) -> str:
    """What has become of it, in a sentence."""
    if answer.state is State.CANCELLED:
        return f"{id} is cancelled"
    if answer.state is State.ENDED:
        return f"{id} has ended already: {answer.outcome or 'it is not booked yet'}"
    return f"{id}: its gateway has not answered; it cancels where it comes back within a minute"


def rows(found: Sequence[RunningExchange], records: Mapping[str, KeyRecord], now_ms: int) -> list[tuple[str, ...]]:
    """The lines of the table, at most 100 characters wide."""
    longest = max((len(one.id) for one in found), default=0)
    rest = max(_LEAST, _WIDTH - longest - sum(_CELLS) - 2 * (len(COLUMNS) - 1))
    return [_row(one, records.get(one.key), now_ms, (longest, *_CELLS[:3], rest, *_CELLS[3:])) for one in found]


def _row(one: RunningExchange, key: KeyRecord | None, now_ms: int, widths: Sequence[int]) -> tuple[str, ...]:
    cells = (
        one.id,
        _duration(max(0, now_ms - one.opened_ms)),
        key.name if key is not None else one.key[:8],
        "/".join(filter(None, (one.team, one.user))) or "-",
        f"{one.provider}/{one.model}",
        _size(one.bytes),
        "-" if one.first_byte_ms is None else _duration(one.first_byte_ms),
    )
    return tuple(_cut(cell, width) for cell, width in zip(cells, widths, strict=True))


def totals(answers: Answers) -> str:
    """How many run, and where."""
    told = sum(len(said.exchanges) for said in answers.gateways.values())
    return f"exchanges: {told}; gateways: {len(answers.gateways)} (an id begins with the boot of its gateway)"


def unknown(answers: Answers) -> list[str]:
    """What the list does not have."""
    left_out = [
        f"{said.left_out} more, the newest, run on {boot} ({said.host}) and are not listed"
        for boot, said in answers.gateways.items()
        if said.left_out
    ]
    return left_out + [f"the gateway {boot} on {host} has not answered" for boot, host in answers.silent.items()]


def as_dict(one: RunningExchange, key: KeyRecord | None, boot: str, host: str) -> dict[str, Any]:
    """An exchange for machines, with every field."""
    fields = {name: getattr(one, name) for name in one.__struct_fields__ if name != "opened_ms"}
    return fields | {
        "opened_at": datetime.fromtimestamp(one.opened_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "key_name": key.name if key is not None else None,
        "key_label": key.label if key is not None else None,
        "gateway": boot,
        "host": host,
    }


def _cut(text: str, width: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def _duration(ms: int) -> str:
    """In five characters or fewer."""
    if ms < 1000:
        return f"{ms}ms"
    if ms < 600_000:
        return f"{ms // 1000}s"
    minutes = ms // 60_000
    return f"{minutes}m" if minutes < 600 else f"{minutes // 60}h"


def _size(count: int) -> str:
    """In five characters or fewer; K is 1024."""
    for unit in ("B", "K", "M", "G"):
        if count < 1024:
            return f"{count}{unit}"
        count //= 1024
    return f"{count}T"
