"""The list prices against a second public list, LiteLLM's, for a grid of usages."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from services.meter import prices
from tests.support.prices import bill

HERE = Path(__file__).parent
LIST = "lib/python*/site-packages/litellm/model_prices_and_context_window_backup.json"
PEAK = round(datetime(2026, 11, 30, 2, 0, tzinfo=UTC).timestamp() * 1000)  # their standing price is that of DeepSeek's
# Their names of providers, to ours. Of Bedrock's and Azure's, names with a slash are prices of regions.
PROVIDERS = {
    **{name: name for name in ("openai", "anthropic", "gemini", "deepseek", "mistral", "groq", "xai", "openrouter")},
    **{name: name for name in ("moonshot", "minimax", "azure", "bedrock", "cohere", "perplexity", "cerebras")},
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "zai": "zhipu",
    "azure_ai": "azure",
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "voyage": "voyageai",
    "vertex_ai-anthropic_models": "vertex",
    "vertex_ai-language-models": "vertex",
}
PREFIX = re.compile(r"(?:gemini|azure|azure_ai|vertex_ai|cohere|deepseek|mistral|groq|xai|openrouter|moonshot|minimax"
                    r"|perplexity|cerebras|together_ai|fireworks_ai|zai|voyage)/")  # fmt: skip
# Input, output, cached.
GRID = ((1000, 100, 0), (100_000, 2000, 50_000), (150_000, 10, 0), (250_001, 3000, 100_000), (300_000, 100, 0))


def rate(model: dict[str, Any], name: str, asked: int) -> Decimal | None:
    """The price of a token, by the size of the input."""
    limits = {
        int(found[1]) * 1000: model[field]
        for field in model
        if (found := re.fullmatch(name + r"_above_(\d+)k_tokens", field)) and model[field] is not None
    }
    return next((limits[limit] for limit in sorted(limits, reverse=True) if asked > limit), model.get(name))


def theirs(model: dict[str, Any], asked: int, answered: int, read: int) -> int | None:
    """Nano-dollars; None where they do not say."""
    fresh, said = rate(model, "input_cost_per_token", asked), rate(model, "output_cost_per_token", asked)
    cached = rate(model, "cache_read_input_token_cost", asked)
    if fresh is None or said is None:
        return None
    exact = (asked - read) * fresh + answered * said + read * (fresh if cached is None else cached)
    return int((Decimal(exact) * 10**9).to_integral_value("ROUND_HALF_UP"))


def compared(listed: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """Provider and model that both lists know, and whether both have the same cost: for each usage."""
    book = prices.load(prices.LIST)
    for whole, model in listed.items():
        provider, kind = PROVIDERS.get(model.get("litellm_provider", "")), model.get("mode")
        name = PREFIX.sub("", whole, count=1) if PREFIX.match(whole) else whole
        if provider is None or kind not in ("chat", "completion", "responses", "embedding"):
            continue
        if provider in ("azure", "bedrock") and "/" in name:
            continue
        for asked, answered, read in GRID if kind != "embedding" else ((1000, 0, 0),):
            used = bill(asked, answered, read=read or None, provider=provider, model=name, at_ms=PEAK)
            ours, other = book.cost(used).nano, theirs(model, asked, answered, read)
            if ours is not None and other is not None:
                yield provider, name, abs(ours - other) <= 1


@cache
def pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.IGNORECASE)


def test_both_lists_price_the_models_that_they_know_equally_but_for_what_is_listed(python: str) -> None:
    """The differences are in a file, with who is right by the provider's page."""
    [path] = Path(python).parents[1].glob(LIST)
    found = list(compared(json.loads(path.read_text(), parse_float=Decimal)))
    known = tomllib.loads((HERE / "price_differences.toml").read_text())["differences"]
    assert {row["right"] for row in known} <= {"ours", "theirs", "both", "unclear"}
    used: set[int] = set()
    unknown: set[tuple[str, str]] = set()
    for provider, name in dict.fromkeys((provider, name) for provider, name, same in found if not same):
        row = next(
            (
                at
                for at, row in enumerate(known)
                if provider in row["provider"] and any(pattern(text).fullmatch(name) for text in row["models"])
            ),
            None,
        )
        if row is None:
            unknown.add((provider, name))
        else:
            used.add(row)
    assert unknown == set()
    assert used == set(range(len(known))), "a difference that there is no longer"
    equal = sum(same for _, _, same in found)
    assert equal > 3300
    assert equal > 0.85 * len(found)
