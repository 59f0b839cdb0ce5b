"""The demo's comparison: what was booked, beside what the demo provider says of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from services.cli.demo_requests import DemoRequest
from services.meter.pricing.book import PriceBook
from shared.books.totals import Row
from shared.contract import booked
from shared.contract.usage import COUNTERS

_NAMES = ("requests", *COUNTERS)
_HEADINGS = {"cache_read_tokens": "cached", "cache_write_tokens": "written"}

Group = tuple[str, str]
"""Provider and model, as totals are grouped."""


class Emitted(NamedTuple):
    """What the provider says it sent: the usage it reported, added up, or the words it sent before it broke off."""

    reported: Mapping[Group, Mapping[str, int]]
    broken_off: Mapping[Group, int]


def emitted(lines: Iterable[str], asked: Sequence[DemoRequest]) -> Emitted:
    """The emit log of the demo's round."""
    reported: dict[Group, dict[str, int]] = {}
    broken_off: dict[Group, int] = {}
    providers = {request.dialect: request.provider for request in asked}
    for line in map(json.loads, lines):
        if line["dialect"] not in providers:
            continue
        group = (providers[line["dialect"]], str(line["model"]))
        if line["ended"] == "cut":
            broken_off[group] = broken_off.get(group, 0) + int(line["tokens"])
        elif line["usage"]:
            _add(reported.setdefault(group, dict.fromkeys(_NAMES, 0)), line["usage"])
    return Emitted(reported, broken_off)


def compare(booked: Sequence[Row], theirs: Emitted, real: Sequence[str]) -> tuple[list[str], bool]:
    """The table, and whether every count agrees. `real`: providers of whose own report nothing is known here."""
    lines = [_line("booked for this key", (_heading(name) for name in _NAMES), "source")]
    groups = {(row["provider"], row["model"]) for row in booked if row["provider"] not in real}
    agreed = groups == {*theirs.reported, *theirs.broken_off}
    for row in booked:
        lines.append(_line(f"{row['provider']}  {row['model']}", (row[name] for name in _NAMES), _source(row)))
        beside, same = _beside(row, theirs, real)
        lines.append(beside)
        agreed = agreed and same
    return lines, agreed


def cost(rows: Sequence[Row], book: PriceBook) -> str:
    """What the round would have cost, and by which prices."""
    nano = sum(booked.cost_nanousd({name: int(row[name]) for name in booked.BOOKED}) for row in rows)
    unpriced = sum(int(row["unpriced_requests"]) for row in rows)
    listed = "list prices, " if book.list_prices else ""
    more = f"; {unpriced} requests have no price" if unpriced else ""
    return f"Cost: ${Decimal(nano) / 10**9:.6f} ({listed}{book.version or 'no price book'}){more}."


def _beside(row: Row, theirs: Emitted, real: Sequence[str]) -> tuple[str, bool]:
    group = (str(row["provider"]), str(row["model"]))
    if group[0] in real:
        return "  the real provider's own report", _source(row) == "reported"
    if group in theirs.broken_off:
        said = f"  the provider broke off after {theirs.broken_off[group]} words"
        return said, _source(row) == "partial" and int(row["output_tokens"]) > 0
    counts = theirs.reported.get(group, {})
    said = _line("  the provider reported", (counts.get(name, "-") for name in _NAMES), "")
    return said, all(row[name] == counts.get(name) for name in _NAMES)


def _source(row: Row) -> str:
    return "partial" if row["partial_requests"] else "estimated" if row["estimated_requests"] else "reported"


def _add(sums: dict[str, int], usage: Mapping[str, Any]) -> None:
    sums["requests"] += 1
    for name in COUNTERS:
        sums[name] += usage[name] or 0


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.removesuffix("_tokens"))


def _line(what: str, cells: Iterable[object], source: str) -> str:
    return (what.ljust(30) + "".join(_cells(cells)) + "  " + source).rstrip()


def _cells(cells: Iterable[object]) -> Iterator[str]:
    return (str(cell).rjust(10) for cell in cells)
