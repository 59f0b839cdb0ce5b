"""What providers publish, and what the book makes of their answers: one test for each thing that the first price book
could not say. Each names the page of its figures, and when it had them: as it was read then, or as the public lists of
the pinned versions (genai-prices, litellm) have taken it over."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contract.dialects import Dialect
from shared.contract.entry import CostSource, Entry, Mark
from tests.support.answers import chat, message
from tests.support.priced import priced
from tests.support.prices import book_of

M = 1_000_000


def nano(entry: Entry) -> tuple[int | None, tuple[str, ...]]:
    return entry.cost_nanousd, entry.marks


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


@pytest.mark.parametrize(
    ("unit", "price", "answer", "cost"),
    [
        # whisper-1: $0.006 a minute (developers.openai.com/api/docs/pricing, 2026-11).
        ("minute", "0.006", {"text": "x", "usage": {"type": "duration", "seconds": 11}}, 1_100_000),
        # Rerank 4 Fast: $2 for 1,000 searches of up to 100 documents (cohere.com/pricing, 2026-06).
        ("search_unit", "0.002", {"results": [], "meta": {"billed_units": {"search_units": 3}}}, 6_000_000),
        # DALL-E 3: $0.04 for a standard picture of 1024 by 1024 (developers.openai.com/api/docs/pricing, 2026-04).
        ("image", "0.04", {"created": 1, "data": [{"url": "u"}, {"b64_json": "AA"}]}, 80_000_000),
        # Imagen 4: $0.04 for a picture (ai.google.dev/gemini-api/docs/pricing, 2026-11).
        ("image", "0.04", {"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "AA"}]}, 40_000_000),
        # Mistral OCR: $1 for 1,000 pages (mistral.ai/pricing, 2025-05).
        ("page", "0.001", {"pages": [], "usage_info": {"pages_processed": 29}}, 29_000_000),
        # Speech by the character: $60 for a million (tried with MiniMax's form of an answer).
        ("character", "0.00006", {"data": {"audio": "ff"}, "extra_info": {"usage_characters": 26}}, 1_560_000),
    ],
)
def test_what_is_no_token(unit: str, price: str, answer: dict[str, Any], cost: int) -> None:
    """Minutes, search units, pictures, pages and characters, each with its page beside it."""
    book = book_of(f'prices = [{{model = "m", each.{unit} = {price}}}]')
    booked = priced(book, answer, Dialect.PASSTHROUGH)
    assert (booked.cost_nanousd, booked.input_tokens, booked.unpriced_reason) == (cost, None, "")


def test_on_paths_without_a_model_it_is_the_requests() -> None:
    """$0.04 for a picture: the price of that model, and not of any that is drawn, spoken or ranked with."""
    book = book_of('prices = [{model = "dall-e-3", each.image = 0.04}, {model = "*", each.image = 1}]')
    answer, asked = {"created": 1, "data": [{"url": "u"}]}, {"model": "dall-e-3", "prompt": "x"}
    booked = priced(book, answer, Dialect.PASSTHROUGH, model="", asked=asked)
    assert (booked.model, booked.cost_nanousd) == ("dall-e-3", 40_000_000)


def test_the_model_that_answered() -> None:
    """Haiku 4.5 ($1 and $5) answers where Sonnet ($3 and $15) was asked for
    (platform.claude.com/docs/en/about-claude/pricing, 2026-11): $0.00866 for what would have been $0.02598."""
    book = book_of(
        """
        by = "answered"
        [[prices]]
        model = "claude-sonnet-*"
        input = 3
        output = 15
        [[prices]]
        model = "claude-haiku-*"
        input = 1
        output = 5
        """
    )
    answer = message({"input_tokens": 6160, "output_tokens": 500}) | {"model": "claude-haiku-4-5-20251001"}
    booked = priced(book, answer, Dialect.ANTHROPIC_MESSAGES, model="claude-sonnet-4-6")
    assert nano(booked) == (8_660_000, ())


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        # The page's example, $0.0038 (docs.x.ai/developers/cost-tracking, 2026-11).
        ({"cost_in_usd_ticks": 37_756_000}, 3_775_600),
        # In the form of openrouter.ai/docs/use-cases/usage-accounting, 2026-11.
        ({"cost": 0.95}, 950_000_000),
        ({"cost": 0.95, "is_byok": True}, None),
        # In that of docs.perplexity.ai, 2026-09.
        ({"cost": {"input_tokens_cost": 0.0, "request_cost": 0.006, "total_cost": 0.0061}}, 6_100_000),
    ],
)
def test_the_providers_own_figure(usage: dict[str, Any], cost: int | None) -> None:
    """What xAI, OpenRouter and Perplexity say that an answer has cost, each with its page beside it."""
    booked = priced(book_of("prices = []"), chat({"prompt_tokens": 10, "completion_tokens": 10} | usage))
    source = CostSource.UNPRICED if cost is None else CostSource.PROVIDER
    assert (booked.cost_nanousd, booked.cost_source) == (cost, source)


QWEN = """
currency = "CNY"
rates = [{currency = "CNY", usd = 0.14, since = 2026-01-01}]
[[prices]]
model = "m"
input = 1
cached_input = 0.2
cached_explicit = 0.1
cache_write = 1.25
output = 10
"""


@pytest.mark.parametrize(
    ("details", "parts"),
    [
        # The page's example: 10,000 tokens, of which 5,000 hit the implicit cache, cost 60 % of as many fresh ones.
        ({"cached_tokens": 5000}, 6000),
        ({"cached_tokens": 5000, "cache_type": "ephemeral"}, 5500),
        ({"cached_tokens": 0, "cache_creation_input_tokens": 5000, "cache_type": "ephemeral"}, 11_250),
    ],
)
def test_ordered_and_other_caches_and_another_currency(details: dict[str, Any], parts: int) -> None:
    """Qwen: a hit of the implicit cache 20 % of the input, of an ordered one 10 %, writing that 125 %
    (help.aliyun.com/zh/model-studio/context-cache, 2026-10-11), in yuan."""
    usage = {"prompt_tokens": 10_000, "completion_tokens": 1, "prompt_tokens_details": details}
    assert nano(priced(book_of(QWEN), chat(usage))) == ((parts + 10) * 140, ())


@pytest.mark.parametrize(
    ("kept", "marks"), [("each.cache_token_hour = 0.0000045", ()), ("output = 1", (Mark.PRICE_INCOMPLETE,))]
)
def test_a_cache_costs_by_the_hour(kept: str, marks: tuple[str, ...]) -> None:
    """Gemini 2.5 Pro: $4.50 for a million tokens and hour of storage, beside the input
    (ai.google.dev/gemini-api/docs/pricing, 2026-11). 100,000 tokens for two hours are $0.90."""
    answer = {
        "name": "cachedContents/a",
        "model": "models/gemini-2.5-pro",
        "createTime": "2026-11-30T10:00:00.123456789Z",
        "updateTime": "2026-11-30T10:00:00.123456789Z",
        "expireTime": "2026-11-30T12:00:00.123456789Z",
        "usageMetadata": {"totalTokenCount": 100_000},
    }
    book = book_of(f'prices = [{{model = "gemini-2.5-pro", input = 1.25, {kept}}}]')
    booked = priced(book, answer, Dialect.PASSTHROUGH, model="")
    storage = 0 if marks else 900_000_000
    assert nano(booked) == (125_000_000 + storage, marks)
    looked_at = priced(book, answer, Dialect.METADATA, model="")
    assert (nano(looked_at), looked_at.units) == ((0, ()), None)


def test_reasoning_that_the_output_leaves_out() -> None:
    """Answers of xAI's Grok 3 Mini count reasoning beside the completion, and the total tells (docs.x.ai, 2025); a
    model whose total does not is said to do so."""
    book = book_of('prices = [{model = "m", input = 0.30, output = 0.50}]')
    usage = {"prompt_tokens": 12, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 190}}
    assert nano(priced(book, chat(usage | {"total_tokens": 211}))) == (12 * 300 + 199 * 500, ())
    beside = book_of('prices = [{model = "m", input = 0.30, output = 0.50, reasoning_beside = true}]')
    assert priced(beside, chat(usage)).cost_nanousd == 12 * 300 + 199 * 500


def test_ten_tokens_are_not_free() -> None:
    """text-embedding-3-small: $0.02 (developers.openai.com/api/docs/pricing, 2026-11). Ten tokens are 200
    nano-dollars, and a million of such requests $0.20."""
    answer = {"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 10, "total_tokens": 10}}
    booked = priced(book_of('prices = [{model = "m", input = 0.02}]'), answer, Dialect.OPENAI_EMBEDDINGS)
    assert (booked.cost_nanousd, booked.cost_microusd) == (200, 0)
