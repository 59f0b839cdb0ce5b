"""Ledger entries, made by hand."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.contract.entry import Entry
from tests.support.tails import KEY, OPENED_MS

_ENTRY = Entry(
    exchange_id="",
    key=KEY,
    provider="openai",
    model="gpt-4o",
    dialect="openai_chat",
    opened_ms=OPENED_MS,
    outcome="completed",
    source="reported",
    input_tokens=10,
    output_tokens=20,
    cache_read_tokens=None,
    cache_write_tokens=None,
    reasoning_tokens=None,
    total_tokens=30,
    status=200,
    streamed=True,
    complete=True,
    response_bytes=100,
    request_bytes=5,
    lost_bytes=0,
    first_byte_ms=1,
    duration_ms=2,
    response_model="gpt-4o-2024-08-06",
    response_id="chatcmpl-1",
    request_id="req",
    finish=["stop"],
    service_tier="",
    error=None,
    raw_usage=None,
    observed_input_tokens=None,
    observed_output_tokens=None,
    ratio=None,
    output_low=None,
    output_high=None,
    input_low=None,
    input_high=None,
    drift=False,
    price_version="",
    cost_microusd=None,
)


def entry(exchange_id: object, **changes: Any) -> Entry:
    """A whole exchange that reports 10 and 20 tokens and has no price, but for `changes`."""
    return msgspec.structs.replace(_ENTRY, exchange_id=str(exchange_id), **changes)
