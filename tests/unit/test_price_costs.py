"""Whose figure is booked, what is marked, and where tier and region come from."""

from __future__ import annotations

from typing import Any

import pytest

from services.meter.applying import repriced
from services.meter.pricing.book import PriceBook
from services.meter.pricing.costs import Priced, price, provider_cost, region_of, tier_of, with_cost
from shared.contract.booked import cost_nanousd
from shared.contract.entry import CostSource, Mark, Unpriced
from tests.support.entries import entry
from tests.support.prices import bill, book_of

TEXT = 'prices = [{model = "m", input = 1, output = 1}]'
BOOK, PREFERS = book_of(TEXT), book_of(TEXT, prefer="provider")
DOLLAR = 10**9


def found(priced: Priced) -> tuple[Any, ...]:
    return priced.cost_nanousd, priced.cost_source, priced.book_cost_nanousd, {*priced.marks}


@pytest.mark.parametrize(
    ("book", "used", "stated", "expected"),
    [
        (BOOK, bill(1000), None, (1_000_000, CostSource.BOOK, None, set())),
        (BOOK, bill(1000), 1_050_000, (1_000_000, CostSource.BOOK, None, set())),
        (BOOK, bill(1000), 1_060_000, (1_000_000, CostSource.BOOK, None, {Mark.COST_DIFFERS})),
        (BOOK, bill(1), 1999, (1000, CostSource.BOOK, None, set())),  # less than a micro-dollar apart
        (BOOK, bill(1000, model="x"), 7, (7, CostSource.PROVIDER, None, set())),
        (BOOK, bill(None, None), 7, (7, CostSource.PROVIDER, None, set())),
        (BOOK, bill(1000, model="x"), None, (None, CostSource.UNPRICED, None, {Mark.UNPRICED})),
        (BOOK, bill(0, 0), None, (0, CostSource.BOOK, None, set())),
        (BOOK, bill(0, 0), 7, (7, CostSource.PROVIDER, None, set())),
        (BOOK, bill(1000, tier="flex"), None, (1_000_000, CostSource.BOOK, None, {Mark.PRICE_INCOMPLETE})),
        (PREFERS, bill(1000), None, (1_000_000, CostSource.BOOK, None, set())),
        (PREFERS, bill(1000), 2_000_000, (2_000_000, CostSource.PROVIDER, 1_000_000, {Mark.COST_DIFFERS})),
        (PREFERS, bill(1000), 1_000_001, (1_000_001, CostSource.PROVIDER, 1_000_000, set())),
        (PriceBook(), bill(1000), None, (None, CostSource.UNPRICED, None, set())),
        (PriceBook(), bill(1000), 7, (7, CostSource.PROVIDER, None, set())),
        (PriceBook(), bill(None, None), None, (None, CostSource.UNPRICED, None, {Mark.UNPRICED})),
        (PriceBook(), bill(0, 0), None, (0, CostSource.BOOK, None, set())),
    ],
)
def test_whose_figure_is_booked(book: PriceBook, used: Any, stated: int | None, expected: tuple[Any, ...]) -> None:
    assert found(price(used, book, stated)) == expected


def test_why_it_is_unpriced() -> None:
    assert price(bill(1), PriceBook(), None).unpriced_reason == Unpriced.NO_BOOK
    assert price(bill(1), BOOK, None, several=True).unpriced_reason == Unpriced.SEVERAL
    assert price(bill(1, None), BOOK, None).unpriced_reason == Unpriced.UNKNOWN
    assert price(bill(1), BOOK, None).unpriced_reason == ""


def test_an_exchange_of_several_models_stays_one_when_it_is_priced_anew() -> None:
    stated = price(bill(1000), BOOK, 7, several=True)
    assert (stated.cost_nanousd, stated.cost_source, stated.unpriced_reason) == (
        7,
        CostSource.PROVIDER,
        "several_models",
    )
    booked = entry("x.0.1", model="m", input_tokens=1000, output_tokens=0, reported_cost_nanousd=7, **stated.fields)
    assert repriced(booked, BOOK).cost_nanousd == 7


def test_micro_dollars_are_rounded_from_nano_dollars() -> None:
    costs = [price(bill(1), book_of(f'prices = [{{model = "m", input = {rate}}}]'), None) for rate in (0.499, 0.5)]
    assert [(one.fields["cost_nanousd"], one.fields["cost_microusd"]) for one in costs] == [(499, 0), (500, 1)]


def test_a_fee_alone_is_not_the_cost() -> None:
    assert provider_cost(7, {"is_byok": True}) is None
    assert provider_cost(7, {"is_byok": False}) == provider_cost(7, None) == 7


@pytest.mark.parametrize(
    ("said", "usage", "tier"),
    [
        ("", None, ""),
        ("default", None, "standard"),
        ("on_demand", {}, "standard"),
        ("flex", {}, "flex"),
        ("PRIORITY", {}, "priority"),
        ("batch", {"speed": "fast"}, "batch"),
        ("standard", {"speed": "fast"}, "fast"),
        ("standard", {"speed": "standard"}, "standard"),
        ("", {"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ("", {"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
        ("", {"trafficType": 5}, ""),
    ],
)
def test_the_tier(said: str, usage: Any, tier: str) -> None:
    assert tier_of(said, usage) == tier


@pytest.mark.parametrize(
    ("usage", "path", "region"),
    [
        (None, "v1/messages", ""),
        ({"inference_geo": "US"}, "v1/messages", "us"),
        ({"inference_geo": "not_available"}, "v1/messages", ""),
        ({"inference_geo": None}, "v1/projects/p/locations/europe-west4/publishers/google/models/m:x", "europe-west4"),
        ({}, "v1/projects/p/locations/global/publishers/google/models/m:x", ""),
    ],
)
def test_the_region(usage: Any, path: str, region: str) -> None:
    assert region_of(usage, path) == region


def test_an_entry_is_priced_anew_from_itself_alone() -> None:
    book = book_of(
        """
        prices = [
            {provider = "openai", model = "gpt-4o", input = 1, output = 2, when = [{tier = "flex", times = 0.5}]},
        ]
        """
    )
    first = with_cost(entry("x", marks=("drift", "unpriced"), tier="flex"), book)
    assert (first.cost_nanousd, first.cost_microusd, first.cost_source) == (25_000, 25, CostSource.BOOK)
    assert (first.marks, first.price_version, first.price_line) == (("drift",), "1", "openai gpt-4o, flex")
    assert with_cost(first, book) == first


@pytest.mark.parametrize(
    ("requests", "micro", "nano", "cost"),
    [
        (1, 703, 702_500, 702_500),
        (1000, 0, 200_000, 200_000),  # embeddings: each is less than half a micro-dollar
        (2, 1403, 703_000, 1_403_000),  # one of them was booked by a meter of 1.0
        (0, 0, 0, 0),
    ],
)
def test_nano_dollars_count_unless_some_are_missing(requests: int, micro: int, nano: int, cost: int) -> None:
    assert cost_nanousd({"requests": requests, "cost_microusd": micro, "cost_nanousd": nano}) == cost
