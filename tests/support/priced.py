"""From a provider's answer to its cost: reader, normal form and price book together."""

from __future__ import annotations

import json
from typing import Any

from services.meter.measure import measure
from services.meter.pricing.book import PriceBook
from services.meter.tails import Tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Open, Outcome, Packed
from tests.support.estimator import WordEstimator
from tests.support.prices import PROVIDER, at


def priced(
    book: PriceBook,
    answer: dict[str, Any],
    dialect: Dialect = Dialect.OPENAI_CHAT,
    *,
    model: str = "m",
    time: str = "2026-11-30T12:00Z",
    asked: dict[str, Any] | None = None,
) -> Entry:
    """The entry of a whole answer of the provider `p`. `model`: "" where the path names none; `asked`: the request."""
    body = json.dumps(answer).encode()
    opened = Open("k", dialect, PROVIDER, model, at(time), False, "/v1/x")
    end = End(
        outcome=Outcome.COMPLETED,
        status=200,
        content_type="application/json",
        content_encoding="",
        response_bytes=len(body),
        request_bytes=1,
        first_byte_ms=1,
        duration_ms=1,
        request_id="r",
        body=Packed.pack(body),
        request=Packed.pack(json.dumps(asked).encode()) if asked else None,
    )
    estimator = WordEstimator()
    estimator.prices = book
    return measure(Tail(ExchangeId(new_boot(), 0, 0), opened, [], end), estimator).entry


def nano(entry: Entry) -> tuple[int | None, tuple[str, ...]]:
    """Its cost, and its marks."""
    return entry.cost_nanousd, entry.marks
