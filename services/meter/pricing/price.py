"""The typed price book: sheets of prices, each with the conditions under which other rates hold. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.meter.pricing import rates
from services.meter.pricing.conditions import BATCH, STANDARD, Condition, Period, milliseconds
from services.meter.pricing.items import EACH, INPUT, LENGTHS, TOKENS, Bill
from services.meter.pricing.patterns import Pattern, compiled
from services.meter.pricing.rates import Rate, Rates

DOLLARS: Final = "USD"
ONE: Final = Fraction(1)
_MOST: Final = 10**6  # a million dollars for a million tokens, or for one of anything
_DECIMALS: Final = 100
_NAMES_KEPT: Final = 4096  # names of models that have been looked up; callers choose them

Prefer = Literal["book", "provider"]


def _amount(name: str, value: Any) -> Decimal:
    """An amount of money. A TOML integer, or a float that was read as a decimal."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError(f"{name}: not an amount")  # noqa: TRY004  # pydantic reports ValueErrors
    amount = Decimal(value)
    if not amount.is_finite() or not 0 <= amount <= _MOST:
        raise ValueError(f"{name}: an amount is from 0 to a million")
    if int(amount.as_tuple().exponent) < -_DECIMALS:  # as a fraction it would fill the memory
        raise ValueError(f"{name}: an amount has at most {_DECIMALS} decimals")
    return amount


def _rates(raw: Any) -> Any:
    """A table of a book, with its rates gathered under `tokens` and `each`."""
    if not isinstance(raw, dict):
        return raw
    table = dict(raw)
    if "tokens" in table:
        raise ValueError("tokens: not known")
    each = table.pop("each", {})
    if not isinstance(each, dict):
        raise ValueError("each: not a table")  # noqa: TRY004
    unknown = set(each) - EACH
    if unknown:
        raise ValueError(f"each.{min(unknown)}: not known; known are {', '.join(sorted(EACH))}")
    given = {name: _amount(name, table.pop(name)) for name in [*table] if name in TOKENS}
    table["tokens"] = {name: _named(name, rates.of_token, amount) for name, amount in given.items()}
    table["each"] = {name: _one(f"each.{name}", each[name]) for name in each}
    return table


def _one(name: str, value: Any) -> int:
    return _named(name, rates.of_one, _amount(name, value))


def _named(name: str, rate: Any, amount: Decimal) -> int:
    try:
        return int(rate(amount))
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from None


class When(Condition):
    """Other rates, where a condition holds."""

    tokens: Mapping[str, int] = {}
    each: Mapping[str, int] = {}
    times: Decimal = Field(default=Decimal(1), description="Multiplies all rates of tokens.")

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, raw: Any) -> Any:
        return _rates(raw)

    @field_validator("times", mode="before")
    @classmethod
    def _factor(cls, value: Any) -> Decimal:
        return _amount("times", value)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        factor = "times" in self.model_fields_set
        if not self.tokens and not self.each and not factor:
            raise ValueError("no price is named")
        if self.part and (not set(self.tokens) <= set(INPUT) or self.each or factor):
            raise ValueError("part: only prices of the input have parts")
        if not self.model_fields_set - {"tokens", "each", "times", "zone", "part"}:
            raise ValueError("no condition is named")
        return self

    def laid_over(self, before: Mapping[str, Rate]) -> Mapping[str, Rate]:
        """The rates of tokens where it holds."""
        now: dict[str, Rate] = {**before, **self.tokens}
        if self.times == 1:
            return now
        return {name: rates.times(rate, self.times) for name, rate in now.items()}


class Price(Period):
    """What models of a provider cost."""

    providers: tuple[str, ...] = Field(min_length=1, alias="provider")
    models: tuple[str, ...] = Field(min_length=1, alias="model")
    excluded: tuple[str, ...] = Field(default=(), alias="except")
    by: Literal["asked", "answered"] | None = None
    prefer: Prefer | None = None
    source: str = Field(default="", strict=True, description="For people: where it is from, and of which day.")
    reasoning_beside: bool = Field(default=False, strict=True)
    tokens: Mapping[str, int] = {}
    each: Mapping[str, int] = {}
    when: tuple[When, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, raw: Any) -> Any:
        return _rates(raw)

    @field_validator("providers", "models", "excluded", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("providers", "models", "excluded")
    @classmethod
    def _sound_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name or name != name.strip() for name in value):
            raise ValueError("a name is not empty, and has no spaces around it")
        return tuple(dict.fromkeys(value))

    @field_validator("models", "excluded")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.lower() for name in value))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.tokens and not self.each and self.prefer != "provider":
            raise ValueError("no price is named")
        if len({*self.each, *(name for when in self.when for name in when.each)} & {*LENGTHS}) > 1:
            raise ValueError(f"each: one of {', '.join(LENGTHS)}")
        return self

    def excludes(self, name: str) -> bool:
        return any(compiled(pattern).fits(name) for pattern in self.excluded)

    @cached_property
    def counts_tokens(self) -> bool:
        return bool(self.tokens) or any(when.tokens for when in self.when)

    @cached_property
    def tiers(self) -> frozenset[str]:
        """Tiers of which it says anything."""
        return frozenset(tier for when in self.when for tier in when.tier)

    @cached_property
    def limits(self) -> tuple[int, ...]:
        """Of the input, ascending."""
        return tuple(sorted({when.above for when in self.when if when.above >= 0}))

    @cached_property
    def _regions(self) -> frozenset[str]:
        return frozenset(region for when in self.when for region in when.region)

    @cached_property
    def _search_contexts(self) -> frozenset[str]:
        return frozenset(size for when in self.when for size in when.search_context)

    @cached_property
    def _times(self) -> list[int]:
        """When a condition begins or ends to hold; without hours."""
        return sorted({at for when in self.when for at in (when.since, when.until)})

    @cached_property
    def _has_hours(self) -> bool:
        return any(when.hours or when.weekdays for when in self.when)

    @cached_property
    def _known(self) -> dict[Hashable, tuple[Rates, str]]:
        return {}

    def at(self, bill: Bill, context: int) -> tuple[Rates, str]:
        """The rates under the conditions that hold, and their label; later ones are laid over earlier ones.

        What decides is known by a few words and numbers, so that the conditions are looked at once for each.
        """
        key: Hashable = ()
        if self._has_hours:
            key = self._holding(bill, context)
        elif self.when:
            key = (
                bill.tier if bill.tier in self.tiers else "",
                bill.region if bill.region in self._regions else "",
                bill.search_context if bill.search_context in self._search_contexts else "",
                bisect_left(self.limits, context),
                bisect_right(self._times, bill.opened_ms),
            )
        known = self._known.get(key)
        if known is None:
            places = self._holding(bill, context)
            label = ", ".join([self.label, *(self.when[place].label for place in places)])
            known = self._known[key] = self._laid_over(places), label
        return known

    def _holding(self, bill: Bill, context: int) -> tuple[int, ...]:
        """The places of the conditions that hold."""
        return tuple(place for place, when in enumerate(self.when) if when.holds(bill, context))

    def _laid_over(self, places: Sequence[int]) -> Rates:
        holding = [self.when[place] for place in places]
        each: Mapping[str, Rate] = self.each
        for when in holding:
            each = {**each, **when.each}
        limits = sorted({when.above for when in holding if when.part})
        beyond = [(limit, rates.filled(self._level(holding, limit))) for limit in limits]
        return Rates(rates.filled(self._level(holding)), each, beyond)

    def _level(self, holding: Sequence[When], limit: int = -1) -> Mapping[str, Rate]:
        """The rates of tokens for the part of the input above a limit; -1 for what is below all of them."""
        tokens: Mapping[str, Rate] = self.tokens
        for when in holding:
            if not when.part or when.above <= limit:
                tokens = when.laid_over(tokens)
        return tokens

    @property
    def named_rates(self) -> dict[str, Decimal]:
        """Every price that it names, as it was written, with the condition it holds under."""
        found: dict[str, Decimal] = {}
        tables: list[tuple[str, Price | When]] = [("", self), *((f"{when.label}: ", when) for when in self.when)]
        for before, table in tables:
            found |= {before + name: rates.price_of_token(rate) for name, rate in table.tokens.items()}
            found |= {before + name: rates.price_of_one(rate) for name, rate in table.each.items()}
            if isinstance(table, When) and table.times != 1:
                found[f"{before}times"] = table.times
        return found

    def incomplete(self, bill: Bill, context: int) -> bool:
        """Whether it says nothing of the tier, or of a limit that a sum of requests may have gone over."""
        unknown_tier = bill.tier not in STANDARD and bill.tier not in self.tiers
        summed = bill.tier == BATCH or bill.summed
        return unknown_tier or (summed and any(context > limit for limit in self.limits))

    @property
    def label(self) -> str:
        """For people: whose price it is, and of when."""
        more = f" +{len(self.models) - 1}" if len(self.models) > 1 else ""
        return f"{'/'.join(self.providers)} {self.models[0]}{more}{self.named}"


class Exchange(BaseModel):
    """What a currency is worth, from a day on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = Field(pattern="^[A-Z]{3}$")
    usd: Decimal
    since: int

    @field_validator("usd", mode="before")
    @classmethod
    def _worth(cls, value: Any) -> Decimal:
        if _amount("usd", value) == 0:
            raise ValueError("usd: a currency is worth something")
        return Decimal(value)

    @field_validator("since", mode="before")
    @classmethod
    def _time(cls, value: Any) -> int:
        return milliseconds(value)


class Sheet(BaseModel):
    """The prices of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    version: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$", strict=True)
    list_prices: bool = Field(default=False, strict=True)
    currency: str = Field(default=DOLLARS, pattern="^[A-Z]{3}$")
    by: Literal["asked", "answered"] = "asked"
    prefer: Prefer = "book"
    rates: tuple[Exchange, ...] = ()
    prices: tuple[Price, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.currency != DOLLARS and not any(rate.currency == self.currency for rate in self.rates):
            raise ValueError(f"rates: none for {self.currency}")
        if any(rate.currency == DOLLARS for rate in self.rates):
            raise ValueError(f"rates: {DOLLARS} is what the others are worth")
        if len({(rate.currency, rate.since) for rate in self.rates}) < len(self.rates):
            raise ValueError("rates: two of one currency and time")
        for (provider, name, _), prices in self._by_name().items():
            prices.sort(key=lambda price: price.since)
            for earlier, later in itertools.pairwise(prices):
                if later.since < earlier.until:
                    raise ValueError(f"{provider} {name} has two prices{later.named or ' at any time'}")
        return self

    def _by_name(self) -> dict[tuple[str, str, str], list[Price]]:
        found: dict[tuple[str, str, str], list[Price]] = defaultdict(list)
        for price in self.prices:
            for provider, name in itertools.product(price.providers, price.models):
                found[provider, name, price.by or self.by].append(price)
        return found

    @cached_property
    def _index(self) -> Index:
        return Index(self._by_name())

    def find(self, bill: Bill) -> Price | None:
        """The price at that time: by the model that answered, where there is one; else by the one asked for."""
        for by, name in (("answered", bill.answered), ("asked", bill.model)):
            for price in self._index.of(bill.provider, by, name):
                if price.holds_at(bill.opened_ms):
                    return price
        return None

    def dollars(self, at_ms: int) -> Fraction | None:
        """What one of the currency was worth; None where no rate is that old."""
        if self.currency == DOLLARS:
            return ONE
        known = [rate for rate in self.rates if rate.currency == self.currency and rate.since <= at_ms]
        return Fraction(max(known, key=lambda rate: rate.since).usd) if known else None


class Index:
    """Prices by the name of a model: a whole name goes before a pattern, a longer pattern before a shorter one."""

    def __init__(self, prices: Mapping[tuple[str, str, str], Iterable[Price]]) -> None:
        self._whole: dict[tuple[str, str, str], list[Price]] = {}
        self._patterns: dict[tuple[str, str], list[tuple[int, Pattern, list[Price]]]] = defaultdict(list)
        for (provider, name, by), found in prices.items():
            if set(name).isdisjoint("*#"):
                self._whole[provider, by, name] = [*found]
            else:
                self._patterns[provider, by].append((len(name.replace("*", "")), compiled(name), [*found]))
        for patterns in self._patterns.values():
            patterns.sort(key=lambda pattern: -pattern[0])
        self.of = lru_cache(_NAMES_KEPT)(self._of)

    def _of(self, provider: str, by: str, model: str) -> tuple[Price, ...]:
        return tuple(self._matching(provider, by, model.lower()))

    def _matching(self, provider: str, by: str, name: str) -> Iterator[Price]:
        yield from self._whole.get((provider, by, name), ())
        for _, pattern, prices in self._patterns.get((provider, by), ()):
            if pattern.fits(name):
                yield from (price for price in prices if not price.excludes(name))
