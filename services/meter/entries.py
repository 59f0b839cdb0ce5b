"""The ledger entry of a measured exchange. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from services.meter.endings import cause
from services.meter.pricing.book import PriceBook
from services.meter.pricing.costs import price, provider_cost, region_of, tier_of
from services.meter.pricing.items import Bill
from services.meter.reconcile import Booked, Observed, known_input
from services.meter.sockets import is_socket
from services.meter.tails import Found, Tail, of_model
from shared.contract.entry import Ended, Entry, Mark

MAX_NAME = 256  # characters, as of a model that is asked for
# What a provider may put into an entry, which stays in Redis for days.
_MAX_ERROR_BYTES = 4096
_MAX_USAGE_BYTES = 16 * 1024
_MAX_FINISH = 128  # choices


def entry_of(
    tail: Tail, model: str, found: Found, booked: Booked, observed: Observed | None, prices: PriceBook, *, drift: bool
) -> Entry:
    """The entry of an exchange. `model`: the one that it is booked under."""
    opened, end, reading = tail.open, tail.end, found.reading
    asked = observed.asked if observed and booked.input_estimated else None
    several = reading.several or (found.note is not None and found.note.ends and found.note.several)
    bill = Bill(
        tail.provider,
        model,
        reading.model[:MAX_NAME],
        opened.opened_ms,
        booked.usage,
        reading.modalities,
        reading.units,
        tier_of(reading.service_tier[:MAX_NAME], reading.raw_usage),
        region_of(reading.raw_usage, tail.path),
        summed=is_socket(tail),
    )
    priced = price(bill, prices, provider_cost(reading.cost_nanousd, reading.raw_usage), several=several)
    model_usage = of_model(reading)
    return Entry(
        exchange_id=str(tail.id),
        key=opened.key,
        provider=tail.provider,
        model=model,
        dialect=opened.dialect,
        opened_ms=opened.opened_ms,
        outcome=end.outcome,
        source=booked.source,
        status=end.status,
        streamed=opened.streamed,
        complete=reading.complete,
        response_bytes=end.response_bytes,
        request_bytes=end.request_bytes,
        lost_bytes=end.lost_bytes,
        first_byte_ms=end.first_byte_ms,
        duration_ms=end.duration_ms,
        response_model=bill.answered,
        response_id=reading.response_id[:MAX_NAME],
        request_id=end.request_id,
        finish=[_bounded(reason, MAX_NAME) for reason in reading.finish[:_MAX_FINISH]],
        service_tier=reading.service_tier[:MAX_NAME],
        error=_bounded(reading.error, _MAX_ERROR_BYTES),
        raw_usage=_bounded_members(reading.raw_usage),
        observed_input_tokens=observed.input_tokens if observed else None,
        observed_output_tokens=observed.output_tokens if observed else None,
        ratio=round(booked.estimate.ratio, 4) if booked.estimate else None,
        output_low=booked.estimate.low if booked.estimate else None,
        output_high=booked.estimate.high if booked.estimate else None,
        input_low=max(asked.low, known_input(booked.usage)) if asked else None,
        input_high=max(asked.high, known_input(booked.usage)) if asked else None,
        drift=drift,
        team=opened.team,
        user=opened.user,
        session=opened.session,
        tags=opened.tags,
        client_address=opened.client_address,
        user_agent=opened.user_agent,
        traceparent=opened.traceparent,
        permit=opened.permit,
        requested_model=opened.requested_model,
        app=opened.app,
        credential=end.credential,
        attempts=end.attempts,
        cause=cause(end, reading, found.how),
        ended=found.how,
        marks=_marks(found, booked, priced.marks),
        units=reading.units or None,
        modalities=dict(reading.modalities) or None,
        model_input_tokens=model_usage.input_tokens,
        model_output_tokens=model_usage.output_tokens,
        reported_cost_nanousd=reading.cost_nanousd,
        input_tokens=booked.usage.input_tokens,
        output_tokens=booked.usage.output_tokens,
        cache_read_tokens=booked.usage.cache_read_tokens,
        cache_write_tokens=booked.usage.cache_write_tokens,
        reasoning_tokens=booked.usage.reasoning_tokens,
        total_tokens=booked.usage.total_tokens,
        tier=bill.tier,
        region=bill.region,
        **priced.fields,
    )


def _marks(found: Found, booked: Booked, of_price: frozenset[Mark]) -> tuple[str, ...]:
    marks = found.reading.marks | of_price
    for holds, mark in ((booked.half, Mark.HALF_REPORT), (found.how is Ended.UNREADABLE, Mark.UNREADABLE)):
        if holds:
            marks.add(mark)
    return tuple(sorted(marks))


def _bounded(value: Any, most: int) -> Any:
    """What a provider said as it came, cut where it is very long."""
    try:
        encoded = msgspec.json.encode(value)
    except RecursionError:  # no encoder goes as deep as the decoder
        return "nested too deep"
    return value if len(encoded) <= most else encoded[:most].decode("utf-8", "replace")


def _bounded_members(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """A usage object word for word; of a very long one the members that are numbers."""
    if usage is None or _bounded(usage, _MAX_USAGE_BYTES) is usage:
        return usage
    numbers = [(name[:MAX_NAME], value) for name, value in usage.items() if isinstance(value, int)]
    return dict(numbers[:_MAX_FINISH])
