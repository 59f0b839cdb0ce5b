"""Plain tables and CSV on standard output."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

WIDTH = 100  # of a terminal in which tables are readable
_LEAST = 8  # characters of a cell that is cut
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None, cut: Collection[str] = ()
) -> None:
    """Print aligned columns. Where they are wider than `width` in sum, cells of the columns `cut` are shortened."""
    lines = [headings, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headings))]
    if width is not None:
        _shrink(widths, [at for at, heading in enumerate(headings) if heading in cut], width)
    for line in lines:
        cells = (_cut(cell, size).ljust(size) for cell, size in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _shrink(widths: list[int], places: list[int], width: int) -> None:
    """Shorten the widest of these columns again and again, until all fit or none can be shortened."""
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(places, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def printable(text: str) -> str:
    """A text as a terminal may get it: callers and providers choose theirs, and some would act on it."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def _cut(cell: str, size: int) -> str:
    return cell if len(cell) <= size else cell[: size - 1] + "…"


def given(text: str) -> str:
    """The value of an option that narrows something: an empty one (of a variable that is not set) would narrow
    nothing."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def print_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print CSV as spreadsheets read it."""
    write = csv_writer(sys.stdout, headings)
    for row in rows:
        write(row)


def csv_writer(file: Any, headings: Sequence[str]) -> Callable[[Sequence[object]], object]:
    """Writes rows behind their headings."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(headings)
    return lambda row: writer.writerow([cell(value) for value in row])


def cell(value: object) -> object:
    """A value for CSV: None is empty. A text that a spreadsheet would take for a formula gets an apostrophe before it:
    callers choose their texts."""
    if isinstance(value, str):
        text = f"'{value}" if value.startswith(_FORMULAS) else value
        return text.replace("\r", "\n")  # readers take one for the end of a line, and the writer does not quote it
    return "" if value is None else value


def dollars(nanousd: int | None) -> str | None:
    """Billionths of a US dollar, exactly; None where there is no price."""
    return None if nanousd is None else f"{Decimal(nanousd) / 10**9:.9f}"


def shown(at: datetime) -> str:
    """A time in UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
