"""What providers publish, and what the book makes of their answers: one test for each thing that the first price book
could not say. Each names the page of its figures, and when it had them: as it was read then, or as the public lists of
the pinned versions (genai-prices, litellm) have taken it over."""

from __future__ import annotations

import pytest

from shared.contract.dialects import Dialect
from shared.contract.entry import Mark
from tests.support.answers import chat, message
from tests.support.priced import nano, priced
from tests.support.prices import book_of

M = 1_000_000


SONNET = """
[[prices]]
model = "m"
input = 3
cache_write = 3.75
cache_write_1h = 6
cached_input = 0.30
output = 15
each.web_search = 0.01
"""


def test_cache_writes_for_five_minutes_and_for_an_hour() -> None:
    """Claude Sonnet 4.6: input $3, written for 5 minutes $3.75, for an hour $6, read $0.30
    (platform.claude.com/docs/en/about-claude/pricing, 2026-11). Of a million written tokens 400,000 for an hour are
    $4.65, and not the $3.75 that one price for both makes."""
    split = {"ephemeral_5m_input_tokens": 600_000, "ephemeral_1h_input_tokens": 400_000}
    counts = {"input_tokens": 0, "cache_creation_input_tokens": M, "cache_read_input_tokens": 0, "output_tokens": 0}
    answer = message(counts | {"input_tokens": 10, "output_tokens": 10, "cache_creation": split})
    assert nano(priced(book_of(SONNET), answer, Dialect.ANTHROPIC_MESSAGES)) == (4_650_000_000 + 180_000, ())


def test_a_search_is_a_fee_beside_the_tokens() -> None:
    """$10 for 1,000 searches, and the usage of the page's example: 105 in, 7,123 read, 7,345 written, 6,039 out, one
    search (platform.claude.com/docs/en/about-claude/pricing and …/web-search-tool, 2026-11)."""
    usage = {
        "input_tokens": 105,
        "output_tokens": 6039,
        "cache_read_input_tokens": 7123,
        "cache_creation_input_tokens": 7345,
        "server_tool_use": {"web_search_requests": 1},
    }
    tokens = 105 * 3000 + 7123 * 300 + 7345 * 3750 + 6039 * 15_000
    assert nano(priced(book_of(SONNET), message(usage), Dialect.ANTHROPIC_MESSAGES)) == (tokens + 10_000_000, ())


@pytest.mark.parametrize(
    ("asked", "cost"), [(199_999, 399_998_000 + 6000), (200_000, 800_012_000), (250_000, 1_000_012_000)]
)
def test_a_long_prompt_has_another_price_from_its_limit_on(asked: int, cost: int) -> None:
    """grok-4.5: $2, and $4 for all tokens "once its prompt reaches" 200,000 (docs.x.ai/developers/pricing, 2026-11).
    `above` is more than its number, so that a limit that belongs to the dearer side is written one lower."""
    book = book_of(
        'prices = [{model = "m", input = 2, output = 6, when = [{above = 199_999, input = 4, output = 12}]}]'
    )
    assert priced(book, chat({"prompt_tokens": asked, "completion_tokens": 1})).cost_nanousd == cost


@pytest.mark.parametrize(("asked", "cost"), [(200_000, 250_000_000), (200_001, 500_002_500)])
def test_a_long_prompt_has_another_price_above_its_limit(asked: int, cost: int) -> None:
    """Gemini 2.5 Pro: $1.25 for prompts of up to 200k tokens, $2.50 above
    (ai.google.dev/gemini-api/docs/pricing, 2026-11)."""
    book = book_of('prices = [{model = "m", input = 1.25, output = 10, when = [{above = 200_000, input = 2.5}]}]')
    usage = {"promptTokenCount": asked, "candidatesTokenCount": 0, "totalTokenCount": asked}
    answer = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}
    assert priced(book, answer, Dialect.GEMINI).cost_nanousd == cost


GPT = """
[[prices]]
model = "m"
input = 2.50
cached_input = 0.25
output = 15
when = [
    {above = 272_000, input = 5, cached_input = 0.5, output = 22.5},
    {tier = ["batch", "flex"], times = 0.5},
    {tier = "priority", times = 2},
]
"""


@pytest.mark.parametrize(
    ("tier", "cost"),
    [("default", 9_980_000), ("flex", 4_990_000), ("priority", 19_960_000), ("scale", 9_980_000)],
)
def test_tiers_have_their_prices(tier: str, cost: int) -> None:
    """gpt-5.4: $2.50, cached $0.25, out $15; half of it as flex or batch, twice as priority
    (developers.openai.com/api/docs/pricing, as genai-prices 0.2.3 has it). A tier that the price does not know is
    booked at the standard price, and marked."""
    usage = {"prompt_tokens": 1100, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 120}}
    booked = priced(book_of(GPT), chat(usage, service_tier=tier))
    assert nano(booked) == (cost, (Mark.PRICE_INCOMPLETE,) if tier == "scale" else ())


@pytest.mark.parametrize(
    ("more", "cost"),
    [({}, 30), ({"inference_geo": "us"}, 33), ({"speed": "fast"}, 60), ({"speed": "fast", "inference_geo": "us"}, 66)],
)
def test_speed_and_place_multiply(more: dict[str, str], cost: int) -> None:
    """Claude Opus 4.8: $5 and $25; $10 and $50 in fast mode, 1.1 times where `inference_geo` is us, and both of them
    together (platform.claude.com/docs/en/about-claude/pricing, 2026-11)."""
    book = book_of(
        """
        [[prices]]
        model = "m"
        input = 5
        output = 25
        when = [{tier = "fast", input = 10, output = 50}, {region = "us", times = 1.1}]
        """
    )
    booked = priced(book, message({"input_tokens": M, "output_tokens": M, **more}), Dialect.ANTHROPIC_MESSAGES)
    assert nano(booked) == (cost * 10**9, ())


@pytest.mark.parametrize(("size", "fee"), [("low", 6), ("medium", 10), ("high", 14), (None, 6)])
def test_a_request_has_a_fee_by_the_size_of_its_search(size: str | None, fee: int) -> None:
    """Sonar Pro: $3 and $15, and for 1,000 requests $6, $10 or $14 by the size of the search's context
    (docs.perplexity.ai/getting-started/pricing, request pricing; 2026-09, when Sonar's own support ended)."""
    book = book_of(
        """
        [[prices]]
        model = "m"
        input = 3
        output = 15
        each.request = 0.006
        when = [
            {search_context = "medium", each.request = 0.010},
            {search_context = "high", each.request = 0.014},
        ]
        """
    )
    usage = {"prompt_tokens": 14, "completion_tokens": 100, "total_tokens": 114}
    booked = priced(book, chat(usage | ({"search_context_size": size} if size else {})))
    assert nano(booked) == (14 * 3000 + 100 * 15_000 + fee * 1_000_000, ())
    assert ("search context" in booked.price_line) == (size in ("medium", "high"))


def test_deep_research_bills_pages_searches_and_reasoning() -> None:
    """Sonar Deep Research: input and citations $2, output $8, reasoning $3, 1,000 searches $5
    (docs.perplexity.ai/getting-started/pricing, 2026-09). 33 in, 7,163 out, 20,016 cited, 73,997 reasoned and 18
    searches are $0.409393."""
    book = book_of(
        'prices = [{model = "m", input = 2, citation = 2, output = 8, reasoning = 3, each.web_search = 0.005}]'
    )
    usage = {
        "prompt_tokens": 33,
        "completion_tokens": 7163,
        "total_tokens": 7196,
        "citation_tokens": 20016,
        "num_search_queries": 18,
        "reasoning_tokens": 73997,
    }
    assert nano(priced(book, chat(usage))) == (409_393_000, ())


def test_searches_of_gemini_are_requests_of_older_models_and_queries_of_newer_ones() -> None:
    """Grounding: $35 for 1,000 requests that searched (Gemini 2.5), $14 for 1,000 queries (Gemini 3)
    (ai.google.dev/gemini-api/docs/pricing, 2026-11)."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20}
    found = {"finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["a", "b"]}}
    answer = {"candidates": [found], "usageMetadata": usage}
    for unit, price, cost in (("grounded_request", "0.035", 35_000_000), ("web_search", "0.014", 28_000_000)):
        book = book_of(f'prices = [{{model = "m", input = 0, output = 0, each.{unit} = {price}}}]')
        assert nano(priced(book, answer, Dialect.GEMINI)) == (cost, ())


def test_tools_and_sources_of_xai() -> None:
    """$25 for 1,000 sources of a live search (docs.x.ai, 2025-10), later $5 for 1,000 searches (docs.x.ai, 2026-11)."""
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "num_sources_used": 4}
    details = {"web_search_calls": 2, "x_search_calls": 3}
    rates = "input = 0, output = 0, each = {source = 0.025, web_search = 0.005, x_search = 0.005}"
    book = book_of(f'prices = [{{model = "m", {rates}}}]')
    assert nano(priced(book, chat(usage))) == (100_000_000, ())
    searched = {"prompt_tokens": 10, "completion_tokens": 10, "server_side_tool_usage_details": details}
    assert nano(priced(book, chat(searched))) == (25_000_000, ())


def test_speech_and_pictures_have_tokens_of_their_own() -> None:
    """gpt-realtime-1.5: text $4, cached $0.40, out $16; audio $32, out $64; images $5
    (developers.openai.com/api/docs/models/gpt-realtime-1.5, 2026-11)."""
    book = book_of(
        """
        [[prices]]
        model = "m"
        input = 4
        cached_input = 0.40
        input_audio = 32
        input_image = 5
        output = 16
        output_audio = 64
        """
    )
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "prompt_tokens_details": {"audio_tokens": 600, "image_tokens": 100, "cached_tokens": 200},
        "completion_tokens_details": {"audio_tokens": 400},
    }
    text, cached = 100 * 4000, 200 * 400
    spoken, seen = 600 * 32_000 + 400 * 64_000, 100 * 5000
    assert nano(priced(book, chat(usage))) == (text + cached + spoken + seen + 100 * 16_000, ())


def test_a_picture_of_gemini_is_output_of_its_own() -> None:
    """Gemini 2.5 Flash Image: in $0.30, text out $2.50, images $30 a million: a picture of 1,290 tokens is $0.039
    (ai.google.dev/gemini-api/docs/pricing, 2026-11)."""
    book = book_of('prices = [{model = "m", input = 0.30, output = 2.50, output_image = 30}]')
    usage = {
        "promptTokenCount": 10,
        "candidatesTokenCount": 1290,
        "totalTokenCount": 1300,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    }
    answer = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}
    assert nano(priced(book, answer, Dialect.GEMINI)) == (38_700_000 + 3000, ())


@pytest.mark.parametrize(
    ("time", "cost"),
    [
        ("2026-11-30T00:59:59Z", 150_000_450),
        ("2026-11-30T01:00:00Z", 300_000_900),  # a Monday
        ("2026-11-30T04:00:00Z", 150_000_450),
        ("2026-11-30T06:00:00Z", 300_000_900),
        ("2026-11-30T10:00:00Z", 150_000_450),
        ("2026-11-28T07:00:00Z", 150_000_450),  # a Saturday
        ("2026-10-01T07:00:00Z", 150_000_450),  # a public holiday
        ("2026-08-16T15:59:59Z", 140_000_140),
        ("2026-08-16T16:00:00Z", 150_000_450),  # midnight there
    ],
)
def test_hours_weekdays_and_holidays(time: str, cost: int) -> None:
    """deepseek-flash: $0.15 and $0.60, twice as much from 01:00 to 04:00 and from 06:00 to 10:00 UTC on weekdays
    (api-docs.deepseek.com/quick_start/pricing, 2026-11-15), and not on public holidays; hours since 16:00 UTC of
    August 16. What went before was another price."""
    book = book_of(
        """
        [[prices]]
        model = "m"
        until = 2026-08-16T16:00:00Z
        input = 0.14
        output = 0.28
        [[prices]]
        model = "m"
        since = 2026-08-16T16:00:00Z
        input = 0.15
        output = 0.60
        [[prices.when]]
        hours = "09:00-12:00"
        weekdays = ["mon", "tue", "wed", "thu", "fri"]
        zone = "Asia/Shanghai"
        times = 2
        [[prices.when]]
        hours = "14:00-18:00"
        weekdays = ["mon", "tue", "wed", "thu", "fri"]
        zone = "Asia/Shanghai"
        times = 2
        [[prices.when]]
        since = 2026-10-01T00:00:00+08:00
        until = 2026-10-08T00:00:00+08:00
        input = 0.15
        output = 0.60
        """
    )
    booked = priced(book, chat({"prompt_tokens": M - 1, "completion_tokens": 1}), time=time)
    assert booked.cost_nanousd == cost
