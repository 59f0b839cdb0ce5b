"""Ledger entries as `/api/v1/generation` answers them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.control.generation import shown
from shared.books.ledger import LedgerEntry
from shared.contract import entry
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from tests.support.entries import entry as an_entry

ID = ExchangeId(new_boot(), 0, 0)
FIRST = ("input_low", "input_high", "price_version", "cost_microusd")


def found(booked: Entry) -> LedgerEntry:
    return LedgerEntry(0, "1700000000000-0", str(ID), 1, final=True, entry=booked, delta=None)


def test_an_entry_from_before_there_were_prices() -> None:
    fields: dict[str, Any] = msgspec.json.decode(entry.encode(an_entry(ID)))
    old = entry.decode(msgspec.json.encode({name: value for name, value in fields.items() if name not in FIRST}))
    answer = shown(found(old))
    assert (answer.price_version, answer.usage.cost, answer.usage.total_tokens) == (None, None, 30)


@pytest.mark.parametrize(("nano", "dollars"), [(None, None), (0, 0.0), (7_650_917, 0.007650917)])
def test_what_the_provider_says_it_has_cost_is_beside_our_own_figure(nano: int | None, dollars: float | None) -> None:
    answer = shown(found(an_entry(ID, cost_microusd=696, price_version="1", reported_cost_nanousd=nano)))
    assert (answer.usage.cost, answer.usage.reported_cost) == (0.000696, dollars)
