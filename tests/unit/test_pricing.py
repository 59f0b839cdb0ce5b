"""What exchanges cost: an example for everything that a price can say."""

from __future__ import annotations

import pytest

from services.meter.pricing.items import Bill
from shared.contract.entry import Unpriced
from tests.support.prices import at, bill, book_of

SONNET = """
[[prices]]
model = ["m", "claude-sonnet-5*"]
input = 3
cached_input = 0.30
cache_write = 3.75
cache_write_1h = 6
output = 15
each = {web_search = 0.01}
[[prices.when]]
tier = "batch"
input = 1.5
cached_input = 0.15
cache_write = 1.875
cache_write_1h = 3
output = 7.5
[[prices.when]]
region = "us"
times = 1.1
[[prices.when]]
tier = "fast"
times = 6
"""
PARTS = """
[[prices]]
model = "m"
input = 3
when = [
    {above = 100000, part = true, input = 6},
    {region = "us", times = 1.1},
    {tier = "priority", input = 5},
]
"""
LONG = """
[[prices]]
model = "m"
input = 2.5
cached_input = 0.25
output = 15
when = [{above = 272_000, input = 5, cached_input = 0.5, output = 22.5}]
"""
PEAK = """
[[prices]]
model = "m"
input = 0.27
output = 1.10
[[prices.when]]
hours = "09:00-12:00"
weekdays = ["mon", "tue", "wed", "thu", "fri"]
zone = "Asia/Shanghai"
since = 2026-08-17T16:00:00Z
times = 2
"""
IMAGE = """
[[prices]]
model = "m"
input = 0.30
input_audio = 1.00
cached_audio = 0.10
cached_input = 0.03
output = 2.50
output_image = 30
output_audio = 20
reasoning = 3
"""
UNITS = """
prices = [
    {model = "whisper-1", each.second = 0.0001},
    {model = "rerank*", each.search_unit = 0.002},
    {model = "tts-1", each.character = 0.000015},
    {model = "image*", each = {image = 0.04, request = 0.001}},
    {model = "call", each.request = 0.005},
    {model = "sonar", input = 1, output = 1, each = {request = 0.012, web_search = 0.005}},
]
"""
TIERS = """
[[prices]]
model = "m"
input = 1.25
output = 10
when = [{tier = ["flex", "batch"], times = 0.5}, {tier = "priority", input = 2.5, output = 20}]
"""


def nano(text: str, used: Bill) -> int | None:
    return book_of(text).cost(used).nano


M = 1_000_000


@pytest.mark.parametrize(
    ("text", "used", "expected"),
    [
        # Cache writes of five minutes and of an hour: 1.25 and 2 times the input.
        (SONNET, bill(M, 0, write=M, modalities={"cache_write_1h": 300_000}), 2_625_000_000 + 1_800_000_000),
        (SONNET, bill(M, 0, write=M), 3_750_000_000),
        (SONNET, bill(M, 0, read=M), 300_000_000),
        # Tiers, regions, and both: what each one says is laid over what came before.
        (SONNET, bill(M, M, tier="batch"), 9_000_000_000),
        (SONNET, bill(M, M, region="us"), 19_800_000_000),
        (SONNET, bill(M, M, tier="batch", region="us"), 9_900_000_000),
        (SONNET, bill(M, M, tier="fast"), 108_000_000_000),
        (SONNET, bill(M, M, tier="standard"), 18_000_000_000),
        (TIERS, bill(M, M, tier="flex"), 5_625_000_000),
        (TIERS, bill(M, M, tier="priority"), 22_500_000_000),
        # Ten dollars for a thousand searches, beside the tokens.
        (SONNET, bill(M, 0, units={"web_search_requests": 3}), 3_030_000_000),
        # Above 272,000 tokens the whole request has another price.
        (LONG, bill(272_000, 0), 680_000_000),
        (LONG, bill(272_001, 1), 1_360_005_000 + 22_500),
        (LONG, bill(300_000, 0, read=200_000), 600_000_000),
        # Peak hours on weekdays, by the clock in Beijing: from an hour in August on.
        (PEAK, bill(M, 0, at_ms=at("2026-11-30T01:00Z")), 540_000_000),
        (PEAK, bill(M, 0, at_ms=at("2026-11-30T03:59Z")), 540_000_000),
        (PEAK, bill(M, 0, at_ms=at("2026-11-30T04:00Z")), 270_000_000),
        (PEAK, bill(M, 0, at_ms=at("2026-11-29T01:00Z")), 270_000_000),  # a Sunday
        (PEAK, bill(M, 0, at_ms=at("2026-08-17T02:00Z")), 270_000_000),
        # Modalities, in and out, cached or not.
        (IMAGE, bill(M, 0, modalities={"input_audio": 400_000}), 180_000_000 + 400_000_000),
        (
            IMAGE,
            bill(M, 0, read=500_000, modalities={"input_audio": M, "cache_read_audio": 500_000}),
            50_000_000 + 500_000_000,
        ),
        (IMAGE, bill(8, 2000, thought=500, modalities={"output_image": 1290}), 2400 + 525_000 + 38_700_000 + 1_500_000),
        (IMAGE, bill(0, 1000, modalities={"output_audio": 900}), 250_000 + 18_000_000),
        (IMAGE, bill(0, 1000, modalities={"tool_output_image": 900}), 250_000 + 27_000_000),
        # What is no token.
        (UNITS, bill(None, None, model="whisper-1", units={"seconds": 11.5}), 1_150_000),
        (UNITS, bill(None, None, model="rerank-4", units={"search_units": 1.0}), 2_000_000),
        (UNITS, bill(None, None, model="tts-1", units={"total_characters": 1000}), 15_000_000),
        (UNITS, bill(None, None, model="image-1", units={"images": 2}), 81_000_000),
        (UNITS, bill(None, None, model="call"), 5_000_000),
        (UNITS, bill(1000, 1000, model="sonar", units={"num_search_queries": 2}), 2_000_000 + 12_000_000 + 10_000_000),
        # An embedding of ten tokens is not free.
        ('prices = [{model = "m", input = 0.02}]', bill(10, 0), 200),
        # The part above the limit alone; the beginning of a prompt is what is cached.
        ('prices = [{model = "m", input = 1, when = [{above = 1000, part = true, input = 2}]}]', bill(1500), 2_000_000),
        (
            'prices = [{model = "m", input = 1, cached_input = 0.5, when = [{above = 1000, part = true, input = 2}]}]',
            bill(1500, 0, read=1200),
            500_000 + 100_000 + 600_000,
        ),
        # Conditions behind that of a part hold for the part as well.
        (PARTS, bill(1_100_000, region="us"), 330_000_000 + 6_600_000_000),
        (PARTS, bill(1_100_000, tier="priority"), 500_000_000 + 5_000_000_000),
        (PARTS, bill(1_100_000), 300_000_000 + 6_000_000_000),
        # Reasoning inside the output, and beside it.
        ('prices = [{model = "m", input = 1, output = 2}]', bill(0, 100, thought=60), 200_000),
        ('prices = [{model = "m", output = 2, reasoning_beside = true}]', bill(0, 100, thought=60), 320_000),
        ('prices = [{model = "m", input = 3, citation = 2}]', bill(M, 0, modalities={"input_citation": M}), 2 * 10**9),
    ],
)
def test_what_it_costs(text: str, used: Bill, expected: int) -> None:
    assert nano(text, used) == expected


@pytest.mark.parametrize(
    ("text", "used", "reason"),
    [
        ('prices = [{model = "m", input = 1}]', bill(1, 1), f"{Unpriced.NO_RATE}: output"),
        ('prices = [{model = "m", input = 1}]', bill(1, 0, model="x"), Unpriced.NO_PRICE),
        ('prices = [{model = "m", input = 1, output = 1}]', bill(None, 1), Unpriced.UNKNOWN),
        (UNITS, bill(None, None, model="whisper-1"), Unpriced.UNKNOWN),
        ('prices = [{model = "m", prefer = "provider"}]', bill(1, 1), Unpriced.NO_PRICE),
        ('prices = [{model = "m", input = 1000000}]', bill(1 << 32), Unpriced.TOO_LARGE),
    ],
)
def test_why_it_has_no_price(text: str, used: Bill, reason: str) -> None:
    found = book_of(text).cost(used)
    assert (found.nano, found.reason) == (None, reason)


@pytest.mark.parametrize(
    ("text", "used", "incomplete"),
    [
        (TIERS, bill(1), False),
        (TIERS, bill(1, tier="standard"), False),
        (TIERS, bill(1, tier="flex"), False),
        (TIERS, bill(1, tier="scale"), True),
        (TIERS, bill(1, units={"web_search_requests": 1}), True),
        (TIERS, bill(1, units={"num_sources_used": 1}), False),  # a fact that nobody bills
        ('prices = [{model = "m", input = 1, each.web_search = 0}]', bill(1, units={"num_search_queries": 1}), False),
        (LONG, bill(300_000, tier="batch"), True),
    ],
)
def test_what_a_price_says_nothing_of_is_told(text: str, used: Bill, incomplete: bool) -> None:
    found = book_of(text).cost(used)
    assert (found.nano is not None, found.incomplete) == (True, incomplete)


def test_a_batch_has_no_size() -> None:
    assert nano(LONG, bill(300_000, tier="batch")) == 750_000_000


def test_a_socket_costs_as_much_as_its_requests_and_says_that_one_may_have_been_above_a_limit() -> None:
    found = book_of(LONG).cost(bill(300_000)._replace(summed=True))
    each = nano(LONG, bill(100_000))
    assert each is not None
    assert (found.nano, found.incomplete) == (3 * each, True)
    assert found.nano != nano(LONG, bill(300_000))


def test_a_cost_tells_its_lines() -> None:
    found = book_of(SONNET).cost(
        bill(1000, 20, read=400, tier="batch", model="claude-sonnet-5-1", units={"web_search_requests": 1})
    )
    assert found.label == "p m +1, batch"
    assert {line.item: (line.quantity, str(line.amount)) for line in found.lines} == {
        "cached_input": (400, "0.00006"),
        "input": (600, "0.0009"),
        "output": (20, "0.00015"),
        "web_search": (1, "0.01"),
    }
