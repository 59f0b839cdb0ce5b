"""Price books and bills, made by hand."""

from __future__ import annotations

import tomllib
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.meter import prices
from services.meter.pricing.book import PriceBook
from services.meter.pricing.items import Bill
from shared.contract.usage import Usage

PROVIDER = "p"


def book_of(text: str, **head: Any) -> PriceBook:
    """A book of one sheet of the second format, from the TOML of its prices, all of the provider `p`."""
    content = tomllib.loads(text, parse_float=Decimal)
    for price in content["prices"]:
        price.setdefault("provider", PROVIDER)
    return prices.parse({"format": 2, "version": "1", **head, **content})


def at(text: str) -> int:
    """A time with its zone, in milliseconds."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def bill(
    asked: int | None = 0,
    answered: int | None = 0,
    *,
    model: str = "m",
    at_ms: int = at("2026-11-01T12:00Z"),
    **more: Any,
) -> Bill:
    """A bill of so many tokens. `read`, `write`, `thought`: shares of them; else fields of a bill."""
    shares = {
        name: more.pop(short, None)
        for short, name in (
            ("read", "cache_read_tokens"),
            ("write", "cache_write_tokens"),
            ("thought", "reasoning_tokens"),
        )
    }
    usage = Usage(input_tokens=asked, output_tokens=answered, **shares).completed()
    provider, named = more.pop("provider", PROVIDER), more.pop("answering", "")
    return Bill(provider, model, named, at_ms, usage, **more)
