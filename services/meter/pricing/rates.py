"""Exact amounts: rates as whole numbers of 10^-24 dollars, and their sum, rounded once. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from services.meter.pricing.items import INPUT, TOKENS

_NANO: Final = 10**15  # rates in a nano-dollar
_PER_TOKEN: Final = 10**18  # a price of a million tokens, in dollars, to the rate of one token
_PER_ONE: Final = 10**24

Rate = int | Fraction  # of one token or of one of something, in 10^-24 of the currency

# What one entry can cost at most, in nano-dollars: Redis's scripts count in doubles.
MOST: Final = (1 << 53) - 1


class Line(NamedTuple):
    """One line of a cost."""

    item: str
    quantity: int | Fraction
    rate: Rate

    @property
    def amount(self) -> Decimal:
        """In the book's currency."""
        exact = Fraction(self.quantity) * self.rate
        return Decimal(exact.numerator) / Decimal(exact.denominator) / _PER_ONE


class Rates(NamedTuple):
    """The prices of an exchange, once the conditions are known; of tokens, as `filled` makes them."""

    tokens: Mapping[str, Rate]
    each: Mapping[str, Rate]
    # From this many input tokens on, other rates hold for the input behind them; ascending.
    beyond: Sequence[tuple[int, Mapping[str, Rate]]] = ()


def of_token(price: Decimal) -> int:
    """The rate of a token from the price of a million. ValueError where that has more than 18 decimals."""
    return _whole(price, _PER_TOKEN, "a price of a million tokens has at most 18 decimals")


def of_one(price: Decimal) -> int:
    """The rate of one from its price. ValueError where that has more than 24 decimals."""
    return _whole(price, _PER_ONE, "a price has at most 24 decimals")


def price_of_token(rate: int) -> Decimal:
    """The inverse of `of_token`."""
    return Decimal(rate) / _PER_TOKEN


def price_of_one(rate: int) -> Decimal:
    """The inverse of `of_one`."""
    return Decimal(rate) / _PER_ONE


def times(rate: Rate, factor: Decimal) -> Rate:
    """A rate, multiplied: exactly, which may leave a fraction."""
    product = Fraction(rate) * Fraction(factor)
    return product.numerator if product.denominator == 1 else product


def _whole(price: Decimal, per: int, else_: str) -> int:
    rate = Fraction(price) * per  # a decimal's product would be rounded
    if rate.denominator != 1:
        raise ValueError(else_)
    return rate.numerator


def filled(rates: Mapping[str, Rate]) -> dict[str, Rate]:
    """The same, with the rates of items for which others stand in."""
    found = {
        item: next((rates[name] for name in (item, *others) if name in rates), None) for item, others in TOKENS.items()
    }
    return {item: rate for item, rate in found.items() if rate is not None}


class NoRate(ValueError):
    """Something was used that has no rate."""


def token_lines(tokens: Mapping[str, int], rates: Rates) -> list[Line]:
    """The lines of the tokens. NoRate names the first item that has none."""
    if rates.beyond:
        return list(_split(tokens, rates))
    try:
        return [Line(item, count, rates.tokens[item]) for item, count in tokens.items() if count]
    except KeyError as exc:
        raise NoRate(exc.args[0]) from None


def _rate(item: str, rates: Mapping[str, Rate]) -> Rate:
    if item not in rates:
        raise NoRate(item)
    return rates[item]


def _split(tokens: Mapping[str, int], rates: Rates) -> Iterator[Line]:
    """The same, where the input is cut at limits: its items follow each other as in the prompt."""
    starts = (0, *(start for start, _ in rates.beyond))
    ranges = [*itertools.pairwise(starts), (starts[-1], None)]
    levels = [*zip(ranges, (rates.tokens, *(level for _, level in rates.beyond)), strict=True)]
    at = 0
    for item in INPUT:
        end = at + tokens.get(item, 0)
        for (start, stop), level in levels:
            part = (end if stop is None else min(end, stop)) - max(at, start)
            if part > 0:
                yield Line(item, part, _rate(item, level))
        at = end
    for item, count in tokens.items():
        if item not in INPUT and count:
            yield Line(item, count, _rate(item, rates.tokens))


def nano_dollars(lines: Iterable[Line], dollars: Fraction = Fraction(1)) -> int:
    """The sum, rounded half up once, to a nano-dollar. `dollars`: of one unit of the book's currency."""
    total = sum(quantity * rate for _, quantity, rate in lines)
    if isinstance(total, int) and dollars == 1:
        return (total + _NANO // 2) // _NANO
    return int((Fraction(total) * dollars + Fraction(_NANO, 2)) // _NANO)
