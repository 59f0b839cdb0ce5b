"""What providers publish beside the prices of tokens, and what the book makes of their answers: units, models, figures
of their own, currencies and caches. Pages and dates as in `test_published_prices`."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contract.dialects import Dialect
from shared.contract.entry import CostSource, Mark
from tests.support.answers import chat, message
from tests.support.priced import nano, priced
from tests.support.prices import book_of


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
