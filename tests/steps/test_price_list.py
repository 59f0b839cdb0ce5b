"""The list prices: the book prices as the public list does, whatever it says of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from genai_prices import types
from genai_prices.data import providers

from services.cli import price_list
from services.cli.price_list import NotSaid
from services.meter import prices
from services.meter.pricing.book import PriceBook
from shared.contract.entry import Unpriced
from tests.support.prices import at, bill

NOW = datetime(2026, 11, 30, 2, 0, tzinfo=UTC)  # in DeepSeek's peak
LISTED = {provider.id: provider for provider in providers}
TIERS: dict[str, dict[str, str]] = {
    "": {},
    "standard": {"service_tier": "default"},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
# Input, output, cached, written, written for an hour. A batch has no limits, and is asked below them alone.
GRID = ((1000, 100, 0, 0, 0), (250_001, 3000, 100_000, 50_000, 20_000), (600_000, 10, 10, 10, 0))


@pytest.fixture(scope="module")
def written() -> tuple[str, list[str]]:
    left_out: list[str] = []
    rows = price_list.rows(providers, NOW.date(), keep=timedelta(35), left_out=left_out)
    return price_list.written(rows, NOW.date(), left_out), left_out


def names(clause: Any) -> Iterator[str]:
    """Names that a clause of the list speaks of, and some beside."""
    forms = {"equals": "{}", "starts_with": "{}|{}-zz", "contains": "{}|zz-{}-zz", "ends_with": "zz-{}"}
    for attribute, form in forms.items():
        for shape in form.split("|") if hasattr(clause, attribute) else ():
            yield shape.format(getattr(clause, attribute))
    if hasattr(clause, "regex") and "(" not in clause.regex:
        digits = re.sub(r"\\d\{(\d)\}", lambda found: "1" * int(found[1]), clause.regex)
        yield digits.strip("^$").replace("\\d", "7").replace("\\.", ".").replace("[-@]", "@")
    for part in getattr(clause, "or_", ()) or getattr(clause, "and_", ()):
        yield from names(part)


def asked_at(model: types.ModelInfo) -> Iterable[str]:
    """All tiers, of models that have any."""
    return TIERS if model.price_variants else [""]


def test_every_model_costs_what_the_list_says(written: tuple[str, list[str]]) -> None:
    text, left_out = written
    book, skipped = PriceBook(prices.sheet(prices.read(text))), {line.partition(":")[0] for line in left_out}
    compared = 0
    for (ours, *_), id in price_list.PROVIDERS.items():
        for name in dict.fromkeys(name for model in LISTED[id].models for name in names(model.match)):
            model = LISTED[id].find_model(name)
            if model is None or f"{id} {model.id}" in skipped:
                continue
            for (asked, answered, read, write, hour), tier in ((row, tier) for row in GRID for tier in asked_at(model)):
                if tier == "batch" and asked > 1000:
                    continue
                used = types.Usage(
                    input_tokens=asked,
                    output_tokens=answered,
                    cache_read_tokens=read,
                    cache_write_tokens=write,
                    cache_write_1h_tokens=hour,
                )
                try:
                    calculated = model.calc_price(
                        used, LISTED[id], genai_request_timestamp=NOW, price_context=TIERS[tier]
                    )
                except ValueError:
                    continue  # a combination that the list itself refuses
                cost = book.cost(
                    bill(asked, answered, read=read, write=write, provider=ours, model=name, tier=tier)._replace(
                        modalities={"cache_write_1h": hour}, opened_ms=round(NOW.timestamp() * 1000)
                    )
                )
                listed = int((calculated.total_price * 10**9).to_integral_value("ROUND_HALF_UP"))
                if cost.nano is None:  # what the list says nothing of is free there, and unpriced here
                    no_rate = cost.reason.startswith((Unpriced.NO_RATE, Unpriced.UNKNOWN))
                    assert no_rate or listed == 0, (id, name, tier, cost.reason)
                    continue
                assert cost.nano == listed, (id, name, tier, asked, cost.label)
                compared += 1
    assert compared > 6000


def test_the_list_that_comes_with_this_version_is_that_of_the_pinned_package(written: tuple[str, list[str]]) -> None:
    """But for its date, and for prices that have ended since."""
    shipped = prices.list_prices()
    assert (shipped.list_prices, shipped.prefer) == (True, "provider")
    day = date.fromisoformat(shipped.version[len("list-") :][:10])
    left_out: list[str] = []
    rows = price_list.rows(providers, day, keep=timedelta(35), left_out=left_out)
    assert prices.sheet(prices.read(price_list.written(rows, day, left_out))) == shipped
    assert written[1] == left_out


def test_the_list_knows_who_serves_models_of_others() -> None:
    book = PriceBook(prices.list_prices())
    claude, gpt = (
        [
            book.cost(bill(10**6, provider=provider, model=model, at_ms=at("2026-11-30T00:00Z"))).nano
            for provider in both
        ]
        for model, both in (("claude-sonnet-4-6", ("anthropic", "vertex")), ("gpt-4o-mini", ("openai", "azure")))
    )
    assert (claude, gpt) == ([3 * 10**9] * 2, [150_000_000] * 2)


@pytest.mark.parametrize("name", ["deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro"])
def test_a_correction_is_needed_and_changes_nothing_else(name: str) -> None:
    """On Mondays the list is right about DeepSeek, and on Saturdays it is not: the hours are those of weekdays. Once it
    is right, the correction goes."""
    listed, corrected = PriceBook(prices.list_prices()), prices.load(prices.LIST)
    for when, right in (("2026-11-30T02:00Z", True), ("2026-11-30T05:00Z", True), ("2026-11-28T02:00Z", False)):
        used = bill(1000, 100, read=400, provider="deepseek", model=name, at_ms=at(when))
        ours, theirs = corrected.cost(used), listed.cost(used)
        assert (ours.version, theirs.version) == (corrected.sheets[0].version, corrected.sheets[1].version)
        assert (ours.nano == theirs.nano) == right
        assert right or 2 * (ours.nano or 0) == theirs.nano


def test_corrections_name_their_source_and_its_day() -> None:
    sheet = prices.corrections()
    assert (sheet.list_prices, sheet.prefer) == (True, "provider")
    sources = [re.fullmatch(r"https://\S+ (20\d\d-\d\d-\d\d)", price.source) for price in sheet.prices]
    assert sources
    assert all(found and found[1] <= sheet.version.removeprefix("corrections-") for found in sources)


def test_searches_of_googles_older_models_are_billed_by_the_request() -> None:
    """$35 for 1,000 requests that searched, and not for 1,000 searches
    (ai.google.dev/gemini-api/docs/pricing, 2026-11); newer models $14 for 1,000 searches."""
    book = PriceBook(prices.list_prices())
    searched = {"web_search_calls": 3, "grounded_request": 1}
    for name, fee in (("gemini-2.5-flash", 35_000_000), ("gemini-3.5-flash", 42_000_000)):
        without, with_searches = (
            book.cost(bill(10, provider="gemini", model=name, units=units)).nano for units in (None, searched)
        )
        assert without is not None
        assert with_searches == without + fee


EQUALS = types.ClauseEquals(equals="m")


def model(**changes: Any) -> types.ModelInfo:
    plain: dict[str, Any] = {"id": "m", "match": EQUALS, "prices": types.ModelPrice(input_mtok=Decimal(1))}
    return types.ModelInfo(**{**plain, **changes})


def conditional(constraint: Any, amount: int = 2, **more: Decimal) -> types.ConditionalPrice:
    return types.ConditionalPrice(constraint, prices=types.ModelPrice(input_mtok=Decimal(amount), **more))


HOURS = types.TimeOfDateConstraint(time(1, 0, tzinfo=UTC), time(4, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"prices": types.ModelPrice(input_mtok=Decimal(1), input_gpixels=Decimal(1))}, "unknown unit input_gpixels"),
        (
            {"price_variants": [types.PriceVariant({"route": "eu"}, types.ModelPrice(input_mtok=Decimal(2)))]},
            "unknown condition route = eu",
        ),
        (
            {"price_variants": [types.PriceVariant({"speed": "slow"}, types.ModelPrice(input_mtok=Decimal(2)))]},
            "unknown condition speed = slow",
        ),
        ({"prices": [conditional(None), conditional(SimpleNamespace())]}, "unknown condition SimpleNamespace"),
        ({"prices": [conditional(None), conditional(HOURS, output_mtok=Decimal(2))]}, "hours with prices for other"),
        ({"prices": [conditional(None), conditional(replace(HOURS, end_time=time(4, 0, 1)))]}, "unknown condition 04"),
        ({"match": types.ClauseRegex(regex="^a(b|c)$")}, "unknown pattern"),
        ({"match": types.ClauseAnd(and_=[EQUALS, EQUALS])}, "unknown pattern"),
        ({"match": types.ClauseEquals(equals="a*")}, "unknown name"),
    ],
)
def test_what_the_book_cannot_say_is_an_error(changed: Any, named: str) -> None:
    fakes = {id: SimpleNamespace(id=id, models=[], fallback_model_providers=None) for id in LISTED}
    fakes["openai"].models = [model(**changed), model(id="n", match=types.ClauseEquals(equals="n"))]
    with pytest.raises(NotSaid, match=f"^openai m: {named}"):
        price_list.rows(fakes.values(), NOW.date(), keep=timedelta(0))
    left_out: list[str] = []
    rows = price_list.rows(fakes.values(), NOW.date(), keep=timedelta(0), left_out=left_out)
    assert [row.models for row in rows] == [["n"]]
    assert [line.startswith(f"openai m: {named}") for line in left_out] == [True]
