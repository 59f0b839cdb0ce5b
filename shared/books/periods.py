"""The ranges of usage reports: hours and days in UTC, as totals are kept (decision 26). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.contract import names
from shared.contract.errors import ARouterError

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
_HOURS_KEPT = timedelta(seconds=names.HOUR_TTL_S)
_DAYS_KEPT = timedelta(seconds=names.DAY_TTL_S)


class Granularity(StrEnum):
    """The length of a data point."""

    HOURLY = "hourly"
    DAILY = "daily"
    MONTHLY = "monthly"


class BadRange(ARouterError):
    """A range of time that cannot be answered. `field`: the parameter that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour or one day of totals."""

    start: datetime
    whole_day: bool

    @property
    def stamp(self) -> str:
        """Its name in keys of Redis."""
        return self.start.strftime("%Y%m%d" if self.whole_day else "%Y%m%d%H")


@dataclass(frozen=True, slots=True)
class Range:
    """From `start` until before `end`, both in UTC and on whole hours, or on whole days where `daily`."""

    start: datetime
    end: datetime
    daily: bool

    def buckets(self, granularity: Granularity | None = None) -> Iterator[Bucket]:
        """The totals to add up: whole days unless hours are asked for, and hours at the edges."""
        at = self.start
        while at < self.end:
            whole = granularity is not Granularity.HOURLY and at.hour == 0 and at + DAY <= self.end
            yield Bucket(at, whole or self.daily)
            at += DAY if whole or self.daily else HOUR


def data_point(at: datetime, granularity: Granularity) -> datetime:
    """The start of the data point that `at` belongs to."""
    if granularity is Granularity.HOURLY:
        return at
    day = at.replace(hour=0)
    return day.replace(day=1) if granularity is Granularity.MONTHLY else day


def asked(
    start: datetime | None, end: datetime | None, granularity: Granularity | None, now: datetime, *, kept: bool = True
) -> Range:
    """The range that answers a question. It is widened to whole hours in UTC, or to whole days where hours are not
    asked for or not kept, and ends with tomorrow at the latest: a gateway's clock may be ahead a little, not more.
    BadRange where it is empty, or begins before what Redis keeps; without `kept`, nothing is too old."""
    until = min(end.astimezone(UTC), _day(now) + 2 * DAY) if end else now
    default = DAY if granularity is Granularity.HOURLY else 30 * DAY
    since = start.astimezone(UTC) if start else until - default
    if since >= until:
        raise BadRange("end_time", "must be after start_time")
    if not kept:
        return _widened(since, until, daily=granularity in (Granularity.DAILY, Granularity.MONTHLY))
    hours_from, days_from = _hour(now) - _HOURS_KEPT + HOUR, _day(now) - _DAYS_KEPT + DAY
    if granularity is Granularity.HOURLY and since < hours_from:
        raise BadRange("start_time", f"hours are kept for 35 days, since {_shown(hours_from)}; ask for daily")
    if since < days_from:
        raise BadRange("start_time", f"days are kept for 400 days, since {_shown(days_from)}")
    daily = granularity in (Granularity.DAILY, Granularity.MONTHLY) or since < hours_from
    return _widened(since, until, daily=daily)


def _widened(since: datetime, until: datetime, *, daily: bool) -> Range:
    floor, unit = (_day, DAY) if daily else (_hour, HOUR)
    end_floor = floor(until)
    return Range(floor(since), end_floor if end_floor == until else end_floor + unit, daily)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _day(at: datetime) -> datetime:
    return _hour(at).replace(hour=0)


def _shown(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%MZ")
