"""What holds of every cost: it never falls as more is used, it adds up, and no token is priced twice."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.meter.prices import parse
from services.meter.pricing.book import PriceBook
from services.meter.pricing.costs import with_cost
from services.meter.pricing.items import TOKENS, Bill, tokens_of
from services.meter.pricing.rates import MOST
from shared.contract.entry import CostSource, Unpriced
from tests.support.entries import entry
from tests.support.prices import bill, book_of

counts = st.integers(0, 1 << 32)
shares = st.dictionaries(
    st.sampled_from(
        [
            *("cache_write_1h", "input_audio", "input_image", "cache_read_audio", "output_audio", "output_image"),
            "cache_read_explicit",
            *("input_tools_image", "input_document", "input_citation", "tool_input_image", "tool_output_image"),
        ]
    ),
    counts,
    max_size=4,
)


@st.composite
def bills(draw: st.DrawFn) -> Bill:
    asked, answered = draw(counts), draw(counts)
    used = bill(asked, answered, read=draw(st.integers(0, asked)), thought=draw(st.integers(0, answered)))
    written = draw(st.integers(0, asked - (used.usage.cache_read_tokens or 0)))
    return bill(
        asked,
        answered,
        read=used.usage.cache_read_tokens,
        thought=used.usage.reasoning_tokens,
        write=written,
        tier=draw(st.sampled_from(["", "flex"])),
        modalities=draw(shares),
        units=draw(st.dictionaries(st.sampled_from(["web_search_requests", "seconds"]), st.floats(0.5, 10**6))),
    )


@given(bills())
def test_each_token_is_in_one_item(used: Bill) -> None:
    found = tokens_of(used)
    assert sum(found.values()) == used.usage.total_tokens
    assert min(found.values()) >= 0
    assert set(found) <= set(TOKENS)


prices = st.decimals(0, 1000, places=4)
ITEMS = sorted(TOKENS)


@st.composite
def linear(draw: st.DrawFn) -> PriceBook:
    """A book without limits."""
    rates = draw(st.dictionaries(st.sampled_from(ITEMS), prices))
    price: dict[str, Any] = {"model": "m", **rates, "input": draw(prices), "output": draw(prices)}
    price["each"] = {"web_search": draw(prices), "second": draw(prices)}
    if draw(st.booleans()):
        price["when"] = [{"tier": "flex", "times": draw(prices)}]
    return parse({"format": 2, "version": "1", "prices": [{"provider": "p", **price}]})


def cost(book: PriceBook, used: Bill) -> int:
    found = book.cost(used)
    assert (found.nano is None) == (found.reason == Unpriced.TOO_LARGE)
    return MOST if found.nano is None else found.nano


def raised(used: Bill, counter: str, by: int) -> Bill:
    """More of one thing: of cached or written input, or of reasoning, which are input and output, too."""
    more = {counter: getattr(used.usage, counter) + by}
    if counter.startswith("cache"):
        more["input_tokens"] = (used.usage.input_tokens or 0) + by
    if counter == "reasoning_tokens":
        more["output_tokens"] = (used.usage.output_tokens or 0) + by
    changed = {**used.usage.as_dict(), **more, "total_tokens": None}
    return used._replace(usage=type(used.usage)(**changed).completed())


@given(linear(), bills(), st.integers(0, 10**6), st.sampled_from(["input_tokens", "output_tokens"]))
def test_more_tokens_never_cost_less(book: PriceBook, used: Bill, more: int, counter: str) -> None:
    used = used._replace(modalities=None)
    assert 0 <= cost(book, used) <= cost(book, raised(used, counter, more))


@given(linear(), counts, counts, counts, counts, counts, shares)
def test_nothing_costs_less_than_nothing_however_a_report_contradicts_itself(
    book: PriceBook, asked: int, answered: int, read: int, write: int, thought: int, of: dict[str, int]
) -> None:
    used = bill(asked, answered, read=read, write=write, thought=thought, modalities=of)
    assert min(tokens_of(used).values()) >= 0
    assert min(tokens_of(used, reasoning_beside=True).values()) >= 0
    assert cost(book, used) >= 0


@given(linear(), bills(), st.integers(0, 10**6))
def test_more_of_a_part_never_costs_less(book: PriceBook, used: Bill, more: int) -> None:
    used = used._replace(modalities=None)
    for counter in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        assert cost(book, used) <= cost(book, raised(used, counter, more))


@given(linear(), bills(), st.floats(0, 10**6))
def test_more_units_never_cost_less(book: PriceBook, used: Bill, more: float) -> None:
    units = {name: amount + more for name, amount in (used.units or {}).items()}
    assert cost(book, used) <= cost(book, used._replace(units=units))


small = st.integers(0, 10**6)


@given(linear(), small, small, small, small)
def test_where_there_are_no_limits_two_costs_are_the_cost_of_both(
    book: PriceBook, one: int, two: int, three: int, four: int
) -> None:
    apart = cost(book, bill(one, two)) + cost(book, bill(three, four))
    together = cost(book, bill(one + three, two + four))
    assert abs(apart - together) <= 1 or together == MOST  # of rounding


@given(linear(), linear(), bills(), st.one_of(st.none(), st.integers(0, 10**15)))
def test_pricing_again_changes_nothing_whatever_was_booked_before(
    book: PriceBook, other: PriceBook, used: Bill, stated: int | None
) -> None:
    booked = entry(
        "x",
        provider="p",
        model="m",
        modalities=used.modalities,
        units=used.units,
        tier=used.tier,
        reported_cost_nanousd=stated,
        **used.usage.as_dict(),
    )
    once = with_cost(booked, book)
    assert with_cost(once, book) == once
    assert with_cost(with_cost(booked, other), book) == once
    assert once.cost_nanousd is None or 0 <= once.cost_nanousd <= MOST or once.cost_source == CostSource.PROVIDER


LEVELS = """
[[prices]]
model = "m"
input = 1
cached_input = 0.1
output = 2
when = [
    {above = 1000, input = 2, cached_input = 0.2, output = 3},
    {above = 5000, input = 2.5, cached_input = 0.3, output = 3},
    {above = 7000, part = true, input = 4},
    {above = 9000, part = true, input = 5},
]
"""


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 1000))
def test_above_a_limit_it_never_costs_less(asked: int, cached: int, answered: int, more: int) -> None:
    book, used = book_of(LEVELS), bill(asked + cached, answered, read=cached)
    for counter in ("input_tokens", "output_tokens", "cache_read_tokens"):
        assert cost(book, used) <= cost(book, raised(used, counter, more))
