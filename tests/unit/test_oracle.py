"""The ledger against a demo provider's emit log."""

from __future__ import annotations

from typing import Any

import pytest

from shared.books import oracle
from shared.books.ledger import LedgerEntry
from shared.contract.ids import ExchangeId, new_boot
from tests.support.entries import entry

ID = ExchangeId(new_boot(), 0, 0)
USAGE = {"input_tokens": 10, "output_tokens": 20}


def line(ended: str, **changes: Any) -> dict[str, Any]:
    return {"began": 1.0, "exchange_id": str(ID), "ended": ended, "bytes": 1000, "usage": USAGE, **changes}


def booked(*, final: bool, **changes: Any) -> LedgerEntry:
    fields = {"outcome": "completed", "response_bytes": 1000, **USAGE, **changes}
    return LedgerEntry(0, "1-0", str(ID), 1, final, entry(ID, **fields), None)


@pytest.mark.parametrize(
    ("ended", "found", "said"),
    [
        ("complete", booked(final=True), ""),
        ("complete", booked(final=True, output_tokens=19), "output_tokens is 19, not 20"),
        ("complete", booked(final=True, output_tokens=0, input_tokens=0, marks=("work_booked",)), ""),
        ("complete", booked(final=False), "is booked provisionally only"),
        ("complete", booked(final=False, ended="unreadable"), "is booked provisionally only"),
        ("truncated", booked(final=False, ended="unreadable"), ""),
        ("truncated", booked(final=False, ended="truncated"), "is booked provisionally only"),
        ("complete", None, "is not booked"),
    ],
)
def test_what_differs_is_named(ended: str, found: LedgerEntry | None, said: str) -> None:
    differences = oracle.compare([found] if found else [], [line(ended)])
    assert [said in difference for difference in differences] == [True] * bool(said), differences


def test_of_several_attempts_the_last_one_counts() -> None:
    first = line("complete", began=0.5, bytes=70, usage=None, status=503)
    for emitted in ([first, line("complete")], [line("complete"), first]):  # of one log or of two
        assert oracle.compare([booked(final=True)], emitted) == []
    assert oracle.compare([booked(final=True)], [first, line("complete", bytes=999)]) != []
