"""The ledger entry: what was booked for one exchange, and everything that says why. Stored as JSON."""

from __future__ import annotations

from typing import Any

import msgspec


class Entry(msgspec.Struct, frozen=True, omit_defaults=False):
    """One ledger entry: what was booked for an exchange, and everything that says why. Written as JSON.

    Times are UTC milliseconds since the epoch or milliseconds; counters are tokens, None where unknown.
    """

    exchange_id: str
    key: str
    provider: str
    model: str  # as requested; totals are booked under it
    dialect: str
    opened_ms: int
    outcome: str
    source: str
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    status: int | None
    streamed: bool
    complete: bool  # the dialect's own end was seen
    response_bytes: int
    request_bytes: int
    lost_bytes: int
    first_byte_ms: int | None
    duration_ms: int
    response_model: str
    response_id: str
    request_id: str
    finish: list[Any]
    service_tier: str
    error: Any
    raw_usage: dict[str, Any] | None
    # Our own count, where there is one: always without a report, on a sample with one.
    observed_input_tokens: int | None
    observed_output_tokens: int | None
    # Where the output that is booked is an estimate: the ratio applied, and the interval it most likely lies in.
    ratio: float | None
    output_low: int | None
    output_high: int | None
    # The same interval of the input, where that is an estimate.
    input_low: int | None
    input_high: int | None
    drift: bool  # the report is further from what was observed than can be explained
    price_version: str  # of the price book; "" where there is none
    cost_microusd: int | None  # None: it has no price
