"""The price book: what costs what, when, and what is wrong with a file."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.prices import Price, PriceBook, load, parse
from shared.contract.usage import Usage
from shared.runtime.errors import SettingsError

DAY = date(2026, 3, 1)


def price(**given: Any) -> Price:
    return Price(**{"provider": "openai", "model": "gpt-4o", "input": 2_500_000, "output": 10_000_000, **given})


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("usage", "rates", "expected"),
    [
        (Usage(input_tokens=1_000_000, output_tokens=0), {}, 2_500_000),
        (Usage(input_tokens=1000, output_tokens=100), {}, 2500 + 1000),
        (Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=400), {"cached_input": 1_250_000}, 1500 + 500),
        (Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=400), {}, 2500),
        (Usage(input_tokens=1000, output_tokens=0, cache_write_tokens=400), {"cache_write": 5_000_000}, 1500 + 2000),
        (Usage(input_tokens=0, output_tokens=100, reasoning_tokens=60), {"reasoning": 20_000_000}, 400 + 1200),
        (Usage(input_tokens=0, output_tokens=100, reasoning_tokens=60), {}, 1000),
        (Usage(input_tokens=1, output_tokens=None), {"input": 500_000}, 1),  # half a micro-dollar is rounded up
        (Usage(input_tokens=1, output_tokens=None), {"input": 499_999}, 0),
        (Usage(input_tokens=10, cache_read_tokens=30), {"cached_input": 0}, 0),  # a report that contradicts itself
    ],
)
def test_what_it_costs(usage: Usage, rates: dict[str, int], expected: int) -> None:
    assert price(**rates).cost(usage) == expected


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_parts_are_never_counted_twice(fresh: int, read: int, said: int) -> None:
    usage = Usage(input_tokens=fresh + read, cache_read_tokens=read, output_tokens=said)
    book = price(cached_input=1_000_000)
    assert book.cost(usage) == (fresh * 2_500_000 + read * 1_000_000 + said * 10_000_000 + 500_000) // 1_000_000


def test_the_price_of_the_day_in_utc() -> None:
    book = PriceBook(
        version="1",
        prices=[price(until=DAY, input=1_000_000), price(since=DAY, until=date(2026, 3, 2), input=2_000_000)],
    )
    usage = Usage(input_tokens=1_000_000)
    assert book.cost("openai", "gpt-4o", at("2026-02-28T23:59:59"), usage) == 1_000_000
    assert book.cost("openai", "gpt-4o", at("2026-03-01T00:00:00"), usage) == 2_000_000
    assert book.cost("openai", "gpt-4o", at("2026-03-02T00:00:00"), usage) is None


def test_the_longest_pattern_wins_and_a_name_over_all() -> None:
    book = PriceBook(
        version="1", prices=[price(model="*"), price(model="gpt-4*"), price(model="gpt-4o"), price(model="gpt-4o*")]
    )
    found = {model: book.find("openai", model, DAY) for model in ("o3", "gpt-4.1", "gpt-4o", "gpt-4o-mini")}
    assert {model: one.model for model, one in found.items() if one} == {
        "o3": "*",
        "gpt-4.1": "gpt-4*",
        "gpt-4o": "gpt-4o",
        "gpt-4o-mini": "gpt-4o*",
    }
    assert book.find("azure", "gpt-4o", DAY) is None


def test_without_a_price_it_is_unpriced_and_without_tokens_it_is_free() -> None:
    book = PriceBook()
    assert book.cost("openai", "gpt-4o", 0, Usage(input_tokens=1)) is None
    assert book.cost("openai", "gpt-4o", 0, Usage(input_tokens=0, output_tokens=0)) == 0
    assert book.cost("openai", "gpt-4o", 0, Usage()) == 0
    assert book.unpriced([("openai", "x")], DAY) == [("openai", "x")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prices = []", "version"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b"\ninput = 1', "prices.0.output"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b"\ninput = 1.5\noutput = 1', "prices.0.input"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b"\ninput = -1\noutput = 1', "prices.0.input"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b*c"\ninput = 1\noutput = 1', "prices.0"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b"\ninput = 1\noutput = 1\ninptu = 1', "prices.0.inptu"),
        ('version = "1"\n' + '[[prices]]\nprovider = "a"\nmodel = "b"\ninput = 1\noutput = 1\n' * 2, "two prices"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b"\ninput = 1\noutput = 10_000_000_000_000', "output"),
        ("version = ", "prices.toml"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=named) as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_no_file_is_an_empty_book_and_a_missing_one_is_wrong(tmp_path: Path) -> None:
    assert load(None).prices == []
    with pytest.raises(SettingsError, match="AROUTER_PRICES"):
        load(tmp_path / "none")
    assert parse({"version": "2", "prices": []}).version == "2"
