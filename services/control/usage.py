"""Usage over HTTP: sums and time series. A live key sees its own usage, a management key that of all
keys. Ranges are widened, and the answer states them (decision 26)."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from services.control.access import ERRORS, Caller
from services.control.fields import KEY_HASH, Time
from services.control.plane import ControlPlane, Plane
from shared.access import keys
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books import periods, reports
from shared.books.periods import Granularity, Range
from shared.books.reports import Line
from shared.contract import booked
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/usage", tags=["usage"], responses=ERRORS)

_NANO = 1_000_000_000


class Counters(BaseModel):
    """Tokens and requests. A count that is neither reported nor estimated adds 0, because a sum cannot say unknown."""

    requests: int
    input_tokens: int = Field(description="All input, cache included.")
    output_tokens: int = Field(description="All output, reasoning included.")
    total_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated_requests: int = Field(description="Requests that ended normally and whose usage was counted by us.")
    partial_requests: int = Field(description="Requests that did not end normally.")
    unpriced_requests: int = Field(description="Requests that have no price.")
    estimated_cost_usd: float | None = Field(description="The cost of requests that have a price; null where none has.")


class ProviderCounters(Counters):
    provider_id: str


class ModelCounters(ProviderCounters):
    model: str


class KeyCounters(Counters):
    key_id: str
    name: str


class DataPoint(Counters):
    timestamp: datetime = Field(description="Where the hour, day or month begins, in UTC.")


class Covered(BaseModel):
    """The range of an answer, in whole hours or days, and how complete it is."""

    start_time: datetime
    end_time: datetime = Field(description="Exclusive.")
    as_of: datetime = Field(description="When it was read.")
    pending_requests: int = Field(
        description="Requests that were open or waited to be booked at that time, and are not in these numbers: of the "
        "key or of all keys, whatever the range, provider and model."
    )


class Summary(Covered):
    total_requests: int
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int
    total_cache_read_tokens: int
    total_cache_write_tokens: int
    total_reasoning_tokens: int
    estimated_requests: int
    partial_requests: int
    unpriced_requests: int
    estimated_cost_usd: float | None
    by_provider: list[ProviderCounters]
    by_model: list[ModelCounters]
    by_key: list[KeyCounters]


class TimeSeries(Covered):
    granularity: Granularity
    data_points: list[DataPoint] = Field(description="Only those in which something was booked, oldest first.")


class UsageQuery:
    """The question, as both routes take it."""

    def __init__(
        self,
        start_time: Annotated[
            Time | None, Query(description="RFC 3339, with its zone. Unset: 30 days ago; hourly: one day.")
        ] = None,
        end_time: Annotated[Time | None, Query(description="Exclusive. Unset: now.")] = None,
        provider_id: Annotated[str | None, Query(max_length=64)] = None,
        model: Annotated[str | None, Query(max_length=256, description="As requested, without its provider.")] = None,
        key_id: Annotated[str | None, Query(pattern=KEY_HASH, description="The hash of a key.")] = None,
        granularity: Annotated[
            Granularity | None,
            Query(description="Hours are kept for 35 days, days for 400. Times are widened to whole ones, in UTC."),
        ] = None,
    ) -> None:
        self.start_time = start_time
        self.end_time = end_time
        self.provider_id = provider_id
        self.model = model
        self.key_id = key_id
        self.granularity = granularity

    def wants(self, line: Line) -> bool:
        return self.provider_id in (None, line.provider) and self.model in (None, line.model)


Question = Annotated[UsageQuery, Depends()]


@router.get("/summary", summary="What was used in a range of time")
async def summary(request: Request, plane: Plane, caller: Caller, question: Question) -> Summary:
    """Sums by provider, model and key."""
    total = reports.no_counters()
    providers: dict[str, dict[str, int]] = defaultdict(reports.no_counters)
    models: dict[tuple[str, str], dict[str, int]] = defaultdict(reports.no_counters)
    by_key: dict[str, dict[str, int]] = defaultdict(reports.no_counters)
    async with plane.report(request) as between:
        who, covered, range_ = await _begin(plane, caller, question)
        buckets = range_.buckets(question.granularity)
        async for line in reports.lines(await plane.books(), who, buckets, between):
            if question.wants(line):
                for sums in (total, providers[line.provider], models[line.provider, line.model], by_key[line.key]):
                    reports.add(sums, line.counters)
        named = {record.hash: record.name for record in await keys.find_each(plane.store, sorted(by_key))}
    all_of_it = _counters(total)
    return Summary(
        **covered.model_dump(),
        total_requests=all_of_it.requests,
        total_input_tokens=all_of_it.input_tokens,
        total_output_tokens=all_of_it.output_tokens,
        total_tokens=all_of_it.total_tokens,
        total_cache_read_tokens=all_of_it.cache_read_tokens,
        total_cache_write_tokens=all_of_it.cache_write_tokens,
        total_reasoning_tokens=all_of_it.reasoning_tokens,
        estimated_requests=all_of_it.estimated_requests,
        partial_requests=all_of_it.partial_requests,
        unpriced_requests=all_of_it.unpriced_requests,
        estimated_cost_usd=all_of_it.estimated_cost_usd,
        by_provider=[
            ProviderCounters(provider_id=name, **_counters(sums).model_dump())
            for name, sums in sorted(providers.items())
        ],
        by_model=[
            ModelCounters(provider_id=provider, model=model, **_counters(sums).model_dump())
            for (provider, model), sums in sorted(models.items())
        ],
        by_key=[
            KeyCounters(key_id=hash, name=named.get(hash, ""), **_counters(sums).model_dump())
            for hash, sums in sorted(by_key.items())
        ],
    )


@router.get("/timeseries", summary="The same over time")
async def timeseries(request: Request, plane: Plane, caller: Caller, question: Question) -> TimeSeries:
    """One data point an hour, day or month."""
    granularity = question.granularity or Granularity.DAILY
    question.granularity = granularity
    points: dict[datetime, dict[str, int]] = defaultdict(reports.no_counters)
    async with plane.report(request) as between:
        who, covered, range_ = await _begin(plane, caller, question)
        buckets = range_.buckets(granularity)
        async for line in reports.lines(await plane.books(), who, buckets, between):
            if question.wants(line):
                reports.add(points[periods.data_point(line.bucket.start, granularity)], line.counters)
    return TimeSeries(
        **covered.model_dump(),
        granularity=granularity,
        data_points=[
            DataPoint(timestamp=at.astimezone(UTC), **_counters(sums).model_dump())
            for at, sums in sorted(points.items())
        ],
    )


async def _begin(
    plane: ControlPlane, caller: KeyRecord, question: UsageQuery
) -> tuple[list[str] | None, Covered, Range]:
    """The keys (None: all), the range, and how complete it is. Pending requests are counted first, so that one may be
    in the answer twice, but never in neither place."""
    now = await plane.now()
    range_ = periods.asked(question.start_time, question.end_time, question.granularity, now)
    key = await _key(plane, caller, question.key_id)
    pending = await plane.pending(key)
    covered = Covered(start_time=range_.start, end_time=range_.end, as_of=now, pending_requests=pending)
    return None if key is None else [key.hash], covered, range_


async def _key(plane: ControlPlane, caller: KeyRecord, key_id: str | None) -> KeyRecord | None:
    if caller.kind is Kind.LIVE:
        if key_id not in (None, caller.hash):
            raise Refused(403, "key_id: this is not your key")
        return caller
    if key_id is None:
        return None
    record = await keys.find(plane.store, key_id)
    if record is None:
        raise Refused(404, "key_id: no key has this hash")
    return record


def _counters(sums: dict[str, int]) -> Counters:
    cost = booked.cost_nanousd(sums)
    priced = bool(cost) or not sums["unpriced_requests"]
    return Counters(
        **{name: sums[name] for name in Counters.model_fields if name in sums},
        estimated_cost_usd=cost / _NANO if priced else None,
    )
