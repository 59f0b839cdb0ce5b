"""Usage over HTTP: sums and time series, by any group. A live key sees its own usage, a management key that of all
keys. Ranges are widened, and the answer states them (decision 26)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from services.control.access import ERRORS, Caller, known_parameters
from services.control.fields import KEY_HASH, Time
from services.control.plane import ControlPlane, Plane
from shared.access import keys
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books import reports, summing
from shared.books.periods import Granularity
from shared.books.reports import Between
from shared.books.summing import TIMES, Answer, Asked, Database, Group, Sum
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


class GroupCounters(Counters):
    group: dict[Group, str] = Field(description="What it is the sum of, by the names of group_by.")


class DataPoint(Counters):
    timestamp: datetime = Field(description="Where the hour, day or month begins, in UTC.")
    group: dict[Group, str] = Field(description="As group_by asks for; else empty.")


class Covered(BaseModel):
    """The range of an answer, in whole hours or days, and how complete it is."""

    start_time: datetime
    end_time: datetime = Field(description="Exclusive.")
    as_of: datetime = Field(description="What was settled by then is in these numbers.")
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
    groups: list[GroupCounters] = Field(description="As group_by asks for; the three lists above are then empty.")


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
        group_by: Annotated[
            str, Query(max_length=100, description=f"Comma-separated: {', '.join(Group)}.", examples=["team,model"])
        ] = "",
        team: Annotated[str | None, Query(max_length=400)] = None,
        user: Annotated[str | None, Query(max_length=400, description="The end user.")] = None,
    ) -> None:
        self.by = groups(group_by)
        only = {Group.PROVIDER: provider_id, Group.MODEL: model, Group.TEAM: team, Group.USER: user}
        self.only = {group: value for group, value in only.items() if value is not None}
        self.key_id = key_id
        self.granularity = granularity
        self._start, self._end = start_time, end_time

    def asked(self, by: tuple[Group, ...], granularity: Granularity | None) -> Asked:
        return Asked(self._start, self._end, granularity, by, self.only)


def groups(text: str) -> tuple[Group, ...]:
    """The groups that a parameter names. Refused with 400 for words that are none, or that come twice."""
    try:
        found = tuple(Group(name.strip()) for name in text.split(",") if name.strip())
    except ValueError as exc:
        raise Refused(400, f"group_by: {str(exc)[:80]}; groups are {', '.join(Group)}") from None
    if len(set(found)) != len(found):
        raise Refused(400, "group_by: a group comes twice")
    return found


Question = Annotated[UsageQuery, Depends()]


_CHECKED = [Depends(known_parameters)]
_LISTED = (Group.KEY, Group.PROVIDER, Group.MODEL)  # what a summary is by where nothing is said


@router.get("/summary", summary="What was used in a range of time", dependencies=_CHECKED)
async def summary(request: Request, plane: Plane, caller: Caller, question: Question) -> Summary:
    """Sums by provider, model and key, or by the groups of `group_by`."""
    by = question.by or _LISTED
    granularity = question.granularity or summing.granularity(question.by)
    if Group.HOUR in question.by and granularity is not Granularity.HOURLY:
        raise Refused(400, "granularity: hours, as group_by asks for them, are hourly; leave it out")  # days have none
    named: dict[str, str] = {}
    async with plane.report(request) as between:
        covered, found = await _answer(plane, caller, question, question.asked(by, granularity), between)
        # An exchange with two tags is in two groups.
        whole = found if Group.TAG not in by else await _again(plane, question.asked((), granularity), between)
        if not question.by:
            hashes = [one.group[0] for one in summing.totals(found.sums, by, (Group.KEY,))]
            named = {record.hash: record.name for record in await keys.find_each(plane.store, hashes)}
    total = next(iter(summing.totals(whole.sums, by if whole is found else (), ())), Sum((), reports.no_counters()))
    listed = [] if question.by else found.sums
    return Summary(
        **covered.model_dump(),
        **_totals(_counters(total.counters)),
        by_provider=[
            ProviderCounters(provider_id=one.group[0], **_counters(one.counters).model_dump())
            for one in summing.totals(listed, _LISTED, (Group.PROVIDER,))
        ],
        by_model=[
            ModelCounters(provider_id=one.group[0], model=one.group[1], **_counters(one.counters).model_dump())
            for one in summing.totals(listed, _LISTED, (Group.PROVIDER, Group.MODEL))
        ],
        by_key=[
            KeyCounters(key_id=one.group[0], name=named.get(one.group[0], ""), **_counters(one.counters).model_dump())
            for one in summing.totals(listed, _LISTED, (Group.KEY,))
        ],
        groups=[
            GroupCounters(group=_group(by, one), **_counters(one.counters).model_dump())
            for one in (found.sums if question.by else ())
        ],
    )


@router.get("/timeseries", summary="The same over time", dependencies=_CHECKED)
async def timeseries(request: Request, plane: Plane, caller: Caller, question: Question) -> TimeSeries:
    """One data point an hour, day or month, and one for each group of `group_by` in it."""
    if set(question.by) & TIMES.keys():
        raise Refused(400, "group_by: a time series has its hours, days and months by granularity")
    granularity = question.granularity or Granularity.DAILY
    time = next(group for group, length in TIMES.items() if length is granularity)
    async with plane.report(request) as between:
        asked = question.asked((time, *question.by), granularity)
        covered, found = await _answer(plane, caller, question, asked, between)
    return TimeSeries(
        **covered.model_dump(),
        granularity=granularity,
        data_points=[
            DataPoint(
                timestamp=datetime.fromisoformat(one.group[0]),
                group=dict(zip(question.by, one.group[1:], strict=True)),
                **_counters(one.counters).model_dump(),
            )
            for one in found.sums
        ],
    )


async def _answer(
    plane: ControlPlane, caller: KeyRecord, question: UsageQuery, asked: Asked, between: Between
) -> tuple[Covered, Answer]:
    """The sums, and how complete they are. Pending requests are counted first, so that one may be in the answer twice,
    but never in neither place."""
    key = await _key(plane, caller, question.key_id)
    if key is not None:
        question.only[Group.KEY] = key.hash
    pending = await plane.pending(key)
    found = await _again(plane, asked, between)
    range_ = found.range
    covered = Covered(start_time=range_.start, end_time=range_.end, as_of=found.as_of, pending_requests=pending)
    return covered, found


async def _again(plane: ControlPlane, asked: Asked, between: Between) -> Answer:
    now = await plane.now()
    database = Database(plane.archive, lambda: plane.coverage(now))
    return await summing.answer(await plane.books(), database, asked, now, between)


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


def _group(by: tuple[Group, ...], one: Sum) -> dict[Group, str]:
    return dict(zip(by, one.group, strict=True))


def _totals(counters: Counters) -> dict[str, Any]:
    """Counters under the names that a summary gives them."""
    same = ("total_tokens", "estimated_requests", "partial_requests", "unpriced_requests", "estimated_cost_usd")
    return {name if name in same else f"total_{name}": value for name, value in counters.model_dump().items()}


def _counters(sums: dict[str, int]) -> Counters:
    cost = summing.cost_nanousd(sums)
    return Counters(
        **{name: sums[name] for name in Counters.model_fields if name in sums},
        estimated_cost_usd=None if cost is None else cost / _NANO,
    )
