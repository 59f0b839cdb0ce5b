"""The files of the price book: both formats, several of them, and what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.prices import load, parse, paths, read
from services.meter.pricing.patterns import Pattern
from shared.contract.entry import Unpriced
from shared.runtime.errors import SettingsError
from tests.support.prices import at, bill, book_of

FIRST = {"provider": "p", "model": "m", "input": 2_500_000, "output": 10_000_000}


@pytest.mark.parametrize(
    ("used", "rates", "nano"),
    [
        (bill(1_000_000, 0), {}, 2_500_000_000),
        (bill(1000, 100), {}, 3_500_000),
        (bill(1000, 0, read=400), {"cached_input": 1_250_000}, 2_000_000),
        (bill(1000, 0, read=400), {}, 2_500_000),
        (bill(1000, 0, write=400), {"cache_write": 5_000_000}, 3_500_000),
        (bill(0, 100, thought=60), {"reasoning": 20_000_000}, 1_600_000),
        (bill(0, 100, thought=60), {}, 1_000_000),
        (bill(1, 0), {"input": 500}, 1),  # half a nano-dollar is rounded up
        (bill(1, 0), {"input": 499}, 0),
        (bill(10, 0, read=30), {"cached_input": 0}, 0),  # a report that contradicts itself
    ],
)
def test_the_first_format_says_what_it_said(used: object, rates: dict[str, int], nano: int) -> None:
    assert parse({"version": "1", "prices": [FIRST | rates]}).cost(used).nano == nano  # type: ignore[arg-type]


def test_a_price_holds_from_one_time_to_another() -> None:
    book = book_of(
        """
        prices = [
            {model = "m", until = 2026-03-01, input = 1, output = 1},
            {model = "m", since = 2026-03-01, until = 2026-03-02T16:00:00Z, input = 2, output = 1},
        ]
        """
    )
    found = {
        text: book.cost(bill(1_000_000, at_ms=at(text))).nano
        for text in ("2026-02-28T23:59:59Z", "2026-03-01T00:00Z", "2026-03-02T15:59:59Z", "2026-03-02T16:00Z")
    }
    assert list(found.values()) == [10**9, 2 * 10**9, 2 * 10**9, None]


def test_the_longest_pattern_wins_and_a_name_over_all() -> None:
    book = book_of(
        """
        prices = [
            {model = "*", input = 1},
            {model = "gpt-4*", input = 2},
            {model = ["gpt-4o", "gpt-4o-20##-##-##"], input = 3},
            {model = "gpt-4o*", except = ["*-tts"], input = 4},
            {model = "*-mini", input = 5},
            {provider = "q", model = "x", input = 6},
        ]
        """
    )
    prices = {
        "o3": 1,
        "gpt-4.1": 2,
        "gpt-4o": 3,
        "GPT-4o": 3,
        "gpt-4o-2024-08-06": 3,
        "gpt-4o-2024-08-0x": 4,
        "gpt-4o-tts": 2,
        "o3-mini": 5,
        "gpt-4o-mini": 4,  # as long as *-mini is shorter
    }
    found = {model: book.cost(bill(1_000_000, model=model)).nano for model in prices}
    assert found == {model: price * 10**9 for model, price in prices.items()}
    assert book.cost(bill(1, model="o3", provider="q")).reason == Unpriced.NO_PRICE


def test_several_files_are_asked_in_their_order(tmp_path: Path) -> None:
    for name, model, price in (("own", "m*", 1), ("other", "m", 2), ("other2", "*", 3)):
        text = f'format = 2\nversion = "{name}"\n[[prices]]\nprovider = "p"\nmodel = "{model}"\ninput = {price}\n'
        (tmp_path / f"{name}.toml").write_text(text)
    book = load(", ".join(str(tmp_path / f"{name}.toml") for name in ("own", "other", "other2")))
    assert book.version == "own+other+other2"
    found = [book.cost(bill(1_000_000, model=model)) for model in ("m", "mm", "x")]
    assert [(cost.nano, cost.version) for cost in found] == [(10**9, "own"), (10**9, "own"), (3 * 10**9, "other2")]


def test_by_the_model_that_answered() -> None:
    book = book_of('prices = [{model = "auto", input = 9}, {model = "small*", by = "answered", input = 1}]')
    costs = [book.cost(bill(1_000_000, model="auto", answering=name)).nano for name in ("small-2", "large", "")]
    assert costs == [10**9, 9 * 10**9, 9 * 10**9]
    whole = book_of('prices = [{model = "m", input = 1}]', by="answered")
    assert whole.cost(bill(1, model="m")).reason == Unpriced.NO_PRICE


def test_a_currency_with_dated_rates() -> None:
    book = book_of(
        """
        currency = "CNY"
        rates = [
            {currency = "CNY", usd = 0.14, since = 2026-01-01},
            {currency = "CNY", usd = 0.141, since = 2026-11-01},
        ]
        prices = [{model = "m", input = 4.0}]
        """
    )
    costs = {
        day: book.cost(bill(1_000_000, at_ms=at(f"{day}T00:00Z"))) for day in ("2026-10-31", "2026-11-01", "2025-12-31")
    }
    assert [cost.nano for cost in costs.values()] == [560_000_000, 564_000_000, None]
    assert costs["2025-12-31"].reason == f"{Unpriced.NO_CURRENCY}: CNY"
    assert book.cost(bill(1)).nano == 564


def test_without_a_price_it_is_unpriced_and_without_tokens_it_is_free() -> None:
    nothing = load("")
    assert (nothing.version, nothing.cost(bill(1)).reason) == ("", Unpriced.NO_PRICE)
    assert nothing.cost(bill(0, 0)).nano == 0
    assert nothing.cost(bill(None, None)).reason == Unpriced.UNKNOWN


HEAD = 'format = 2\nversion = "1"\n'
PRICE = '[[prices]]\nprovider = "a"\nmodel = "b"\n'


TWICE = '{currency = "CNY", usd = 0.14, since = 2026-01-01}'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prices = []", "version: missing"),
        ('version = "1"\n' + PRICE + "input = 1", "prices.0.output"),
        ('version = "1"\n' + PRICE + "input = 1.5\noutput = 1", "prices.0.input"),
        ('version = "1"\n' + PRICE + "input = -1\noutput = 1", "prices.0.input"),
        ('version = "1"\n[[prices]]\nprovider = "a"\nmodel = "b*c"\ninput = 1\noutput = 1', "prices.0"),
        ('version = "1"\n' + PRICE + "input = 1\noutput = 1\ninptu = 1", "prices.0.inptu"),
        ('version = "1"\n' + (PRICE + "input = 1\noutput = 1\n") * 2, "a b has two prices"),
        ('version = "1"\n' + PRICE + "input = 1\noutput = 10_000_000_000_000", "output"),
        ("version = ", "prices.toml"),
        ('format = 3\nversion = "1"\n', "format"),
        (HEAD + PRICE, "prices.0: no price is named"),
        (HEAD + PRICE + 'input = "1"', "prices.0: input: not an amount"),
        (HEAD + PRICE + "input = true", "prices.0: input: not an amount"),
        (HEAD + PRICE + "input = -0.1", "prices.0: input: an amount is from 0"),
        (HEAD + PRICE + "input = nan", "prices.0: input: an amount is from 0"),
        (HEAD + PRICE + "input = 2e6", "prices.0: input: an amount is from 0"),
        (HEAD + PRICE + "input = 0.0000000000000000001", "prices.0: input: a price of a million"),
        (HEAD + PRICE + "inptu = 1\ninput = 1", "prices.0.inptu: not known"),
        (HEAD + PRICE + "tokens = {}\ninput = 1", "prices.0: tokens"),
        (HEAD + PRICE + "each = {web_serch = 1}", "prices.0: each.web_serch: not known"),
        (HEAD + PRICE + "input = 1\nsince = 5", "prices.0.since: not a date"),
        (HEAD + PRICE + "input = 1\nsince = 2026-01-02\nuntil = 2026-01-02", "prices.0: since must be"),
        (HEAD + PRICE + "input = 1\nwhen = [{tier = 'batch'}]", "prices.0.when.0: no price"),
        (HEAD + PRICE + "input = 1\nwhen = [{input = 1}]", "prices.0.when.0: no condition"),
        (HEAD + PRICE + "input = 1\nwhen = [{above = 1, part = true, output = 1}]", "prices.0.when.0: part"),
        (HEAD + PRICE + "input = 1\nwhen = [{part = true, input = 1}]", "prices.0.when.0: part needs above"),
        (HEAD + PRICE + "input = 1\nwhen = [{hours = '9-12', input = 1}]", "prices.0.when.0.hours"),
        (HEAD + PRICE + "input = 1\nwhen = [{hours = '09:00-09:00', input = 1}]", "prices.0.when.0.hours"),
        (HEAD + PRICE + "input = 1\nwhen = [{weekdays = 'monday', input = 1}]", "prices.0.when.0.weekdays"),
        (HEAD + PRICE + "input = 1\nwhen = [{hours = '09:00-10:00', zone = 'Mars', input = 1}]", "zone: there is no"),
        (HEAD + PRICE + "input = 1\nwhen = [{teir = 'flex', input = 1}]", "prices.0.when.0.teir"),
        (HEAD + (PRICE + "input = 1\n") * 2, "a b has two prices"),
        (HEAD + 'currency = "CNY"\n' + PRICE + "input = 1", "rates: none for CNY"),
        (HEAD + 'rates = [{currency = "CNY", usd = 0, since = 2026-01-01}]\n', "rates.0.usd"),
        (HEAD + 'rates = [{currency = "CNY", usd = 1e-99999999, since = 2026-01-01}]\n', "at most 100 decimals"),
        (HEAD + 'rates = [{currency = "USD", usd = 1, since = 2026-01-01}]\n', "rates: USD is what"),
        (HEAD + f"rates = [{TWICE}, {TWICE}]\n", "rates: two of one currency and time"),
        (HEAD + PRICE + "input = 1e-999999999", "prices.0: input: an amount has at most 100 decimals"),
        (
            HEAD + PRICE + "each.request = 999999.1234567890123456789012345",
            "prices.0: each.request: a price has at most 24",
        ),
        (HEAD + PRICE + "input = 1\nwhen = [{tier = 'a', times = 1e-99999999}]", "times: an amount has at most 100"),
        (HEAD + PRICE + "input = 1\nwhen = [{tier = [], input = 2}]", "prices.0.when.0.tier: nothing is named"),
        (HEAD + PRICE + "input = 1\nwhen = [{region = '', input = 2}]", "prices.0.when.0.region: nothing is named"),
        (HEAD + PRICE + "input = 1\nwhen = [{tier = 'default', input = 2}]", "tier: default is standard here"),
        (HEAD + PRICE + "input = 1\nsince = 0001-01-01T00:00:00+14:00", "prices.0.since: there is no such time"),
        (HEAD + PRICE + "input = 1\nuntil = 9999-12-31T23:59:59-14:00", "prices.0.until: there is no such time"),
        (HEAD + '[[prices]]\nprovider = ""\nmodel = "b"\ninput = 1', "prices.0.provider: a name is not empty"),
        (HEAD + '[[prices]]\nprovider = "a"\nmodel = "b "\ninput = 1', "prices.0.model: a name is not empty"),
        ('format = 2\nversion = "a\\nb"\n', "version"),
        (f'format = 2\nversion = "{"x" * 201}"\n', "version"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load(str(path))
    assert str(raised.value).startswith(f"AROUTER_PRICES: {path}: ")
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_file_is_an_empty_book_and_a_missing_one_is_wrong(tmp_path: Path) -> None:
    assert load("").sheets == ()
    with pytest.raises(SettingsError, match="AROUTER_PRICES"):
        load(str(tmp_path / "none"))
    assert parse({"version": "2", "prices": []}).version == "2"


def test_the_example_of_the_page_is_a_price_book() -> None:
    page = (Path(__file__).parents[2] / "docs/prices.md").read_text()
    found = parse(read(page.partition("```toml\n")[2].partition("```")[0]))
    used = bill(10**6, 10**6, provider="anthropic", model="claude-sonnet-5-20260101", tier="batch", region="us")
    assert found.cost(used).nano == 9_900_000_000


def test_a_file_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    """As editors on Windows write it."""
    path = tmp_path / "prices.toml"
    path.write_text(HEAD + PRICE + "input = 1", encoding="utf-8-sig")
    assert load(str(path)).version == "1"


def test_a_pattern_takes_few_steps_whatever_name_a_caller_chooses() -> None:
    """With a backtracking match this name would take years."""
    book = book_of(f'prices = [{{model = "{"*a" * 30}*b", input = 1}}, {{model = "*", input = 2}}]')
    assert book.cost(bill(1_000_000, model="a" * 256)).nano == 2 * 10**9
    assert book.cost(bill(1_000_000, model="a" * 256 + "b")).nano == 10**9


@given(st.text("ab1", max_size=7), st.text("ab1*#", max_size=7))
def test_a_pattern_fits_what_a_regular_expression_would(name: str, text: str) -> None:
    written = "".join({"*": ".*", "#": "[0-9]"}.get(character, character) for character in text)
    assert Pattern(text).fits(name) == (re.fullmatch(written, name) is not None)


def test_a_name_that_is_said_twice_has_one_price() -> None:
    assert book_of('prices = [{model = ["m", "M"], input = 1}]').cost(bill(1_000_000)).nano == 10**9


def test_only_files_are_watched() -> None:
    assert paths("own.toml, list,other.toml") == [Path("own.toml"), Path("other.toml")]


def test_usage_that_is_not_known_has_no_price() -> None:
    book = book_of('prices = [{model = "m", input = 1, output = 1}]')
    assert book.cost(bill(5, None)).reason == Unpriced.UNKNOWN
