"""The price book: what tokens cost, by provider and model. Pure, except for reading the file.

Money is whole micro-dollars (a millionth of a dollar); prices are micro-dollars per million tokens, so that $2.50 per
million is 2_500_000. docs/prices.md describes the file.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.contract.usage import Usage
from shared.runtime.errors import SettingsError

_MILLION = 1_000_000
_MOST = 10**12  # a million dollars per million tokens; sums must stay numbers that Redis can add


class Price(BaseModel):
    """What one model costs for a while."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    provider: str = Field(min_length=1)
    model: str = Field(min_length=1)  # as requested; a trailing * stands for any rest
    since: date = date.min  # UTC, inclusive
    until: date = date.max  # exclusive
    input: int = Field(ge=0, le=_MOST)
    output: int = Field(ge=0, le=_MOST)
    cached_input: int | None = Field(default=None, ge=0, le=_MOST)  # None: as input
    cache_write: int | None = Field(default=None, ge=0, le=_MOST)  # None: as input
    reasoning: int | None = Field(default=None, ge=0, le=_MOST)  # None: as output

    @model_validator(mode="after")
    def _some_time(self) -> Price:
        if self.since >= self.until:
            raise ValueError("since must be before until")
        if "*" in self.model[:-1]:
            raise ValueError("a * may only end a model's name")
        return self

    def matches(self, provider: str, model: str) -> bool:
        if provider != self.provider:
            return False
        return model.startswith(self.model[:-1]) if self.model.endswith("*") else model == self.model

    def cost(self, usage: Usage) -> int:
        """Micro-dollars, rounded half up once for the whole exchange. What is unknown costs nothing."""
        read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        reasoning = usage.reasoning_tokens or 0
        fresh = max(0, (usage.input_tokens or 0) - read - write)
        said = max(0, (usage.output_tokens or 0) - reasoning)
        total = (
            fresh * self.input
            + read * (self.input if self.cached_input is None else self.cached_input)
            + write * (self.input if self.cache_write is None else self.cache_write)
            + said * self.output
            + reasoning * (self.output if self.reasoning is None else self.reasoning)
        )
        return (total + _MILLION // 2) // _MILLION


class PriceBook(BaseModel):
    """All prices of one version."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: str = ""
    prices: list[Price] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_price_a_day(self) -> PriceBook:
        by_model: dict[tuple[str, str], list[Price]] = {}
        for price in self.prices:
            by_model.setdefault((price.provider, price.model), []).append(price)
        for (provider, model), prices in by_model.items():
            prices.sort(key=lambda price: price.since)
            for earlier, later in itertools.pairwise(prices):
                if later.since < earlier.until:
                    raise ValueError(f"{provider} {model} has two prices from {later.since}")
        return self

    def find(self, provider: str, model: str, day: date) -> Price | None:
        """The price of that day; of several patterns that match, the longest."""
        matching = [
            price for price in self.prices if price.matches(provider, model) and price.since <= day < price.until
        ]
        return max(matching, key=lambda price: (not price.model.endswith("*"), len(price.model)), default=None)

    def cost(self, provider: str, model: str, opened_ms: int, usage: Usage) -> int | None:
        """Micro-dollars of an exchange; None where it has no price. One without tokens costs nothing."""
        if not usage.any:
            return 0
        price = self.find(provider, model, datetime.fromtimestamp(opened_ms / 1000, UTC).date())
        return None if price is None else price.cost(usage)

    def unpriced(self, models: Iterable[tuple[str, str]], day: date) -> list[tuple[str, str]]:
        """Which of these (provider, model) have no price on that day."""
        return [(provider, model) for provider, model in models if self.find(provider, model, day) is None]


def load(path: Path | None) -> PriceBook:
    """The price book in that file; an empty one for None. SettingsError, one line, names the first error."""
    if path is None:
        return PriceBook()
    try:
        return parse(tomllib.loads(path.read_text()))
    except (OSError, ValueError) as exc:
        raise SettingsError(f"AROUTER_PRICES: {path}: {' '.join(str(exc).split())}") from None


def parse(content: Mapping[str, Any]) -> PriceBook:
    """The price book of a file's content. ValueError, one line, names the first error."""
    if not content.get("version"):
        raise ValueError("version: missing")
    try:
        return PriceBook.model_validate(dict(content))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "prices"
        raise ValueError(f"{where}: {first['msg']}") from None
