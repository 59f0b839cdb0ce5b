"""Compares the ledger with the emit log of a demo provider, exchange by exchange. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shared.books.ledger import LedgerEntry
from shared.contract.entry import Ended, Entry, Mark
from shared.contract.tail import Outcome
from shared.contract.usage import Source

_WHOLE = "complete"  # how the demo provider calls an answer that it has sent to its end


def compare(entries: Iterable[LedgerEntry], emitted: Iterable[dict[str, Any]]) -> list[str]:
    """Differences between the ledger and demo providers' emit logs, one line of text each.

    Of the attempts of an exchange the last one counts: what the others were answered reached nobody.
    """
    book = {entry.exchange_id: entry for entry in entries}
    differences: list[str] = []
    answers = {line["exchange_id"]: line for line in sorted(emitted, key=lambda line: float(line["began"]))}
    for id, line in answers.items():
        if not id:
            continue
        entry = book.get(id)
        if entry is None:
            differences.append(f"{id}: the provider answered it, and it is not booked")
        elif not entry.final and entry.entry.ended == Ended.UNREADABLE and line["ended"] != _WHOLE:
            continue  # it broke off before it had said anything, and waits in quarantine
        elif not entry.final:
            differences.append(f"{id}: is booked provisionally only")
        else:
            differences += [f"{id}: {text}" for text in _against(entry.entry, line)]
    return differences


def _against(entry: Entry, line: dict[str, Any]) -> list[str]:
    found = []
    if entry.response_bytes > line["bytes"]:
        found.append(f"{entry.response_bytes} bytes are booked, {line['bytes']} were sent")
    elsewhere = Mark.WORK_BOOKED in entry.marks  # fetched again, and booked on the exchange that fetched it first
    if line["usage"] and not elsewhere and entry.outcome == Outcome.COMPLETED and line["ended"] == _WHOLE:
        wrong = {name: getattr(entry, name) for name, value in line["usage"].items() if getattr(entry, name) != value}
        found += [f"{name} is {value}, not {line['usage'][name]}" for name, value in wrong.items()]
    if entry.outcome != Outcome.COMPLETED and entry.source == Source.REPORTED:
        found.append(f"its outcome is {entry.outcome}, and it is booked as reported")
    return found
