"""Ranges of time: widened to whole hours and days in UTC, over month's ends and leap days, in any zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.books.periods import DAY, HOUR, BadRange, Bucket, Granularity, asked, data_point

NOW = datetime(2028, 3, 1, 10, 20, 30, tzinfo=UTC)  # the day after a leap day
HOURLY, DAILY, MONTHLY = Granularity.HOURLY, Granularity.DAILY, Granularity.MONTHLY


def at(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def stamps(start: str, end: str, granularity: Granularity | None = None) -> list[str]:
    return [bucket.stamp for bucket in asked(at(start), at(end), granularity, NOW).buckets(granularity)]


def test_edges_are_hours_and_the_middle_is_days() -> None:
    assert stamps("2028-02-27T22:30", "2028-03-01T02:00") == [
        "2028022722",
        "2028022723",
        "20280228",
        "20280229",
        "2028030100",
        "2028030101",
    ]


def test_a_leap_day_is_a_day() -> None:
    assert stamps("2028-02-28", "2028-03-01", DAILY) == ["20280228", "20280229"]
    assert len(stamps("2028-02-29", "2028-03-01", HOURLY)) == 24
    assert stamps("2027-02-28", "2027-03-02", DAILY) == ["20270228", "20270301"]


def test_months_are_made_of_days() -> None:
    buckets = list(asked(at("2028-01-30"), at("2028-03-02"), MONTHLY, NOW).buckets(MONTHLY))
    months = [data_point(bucket.start, MONTHLY) for bucket in buckets]
    assert [months.count(at(f"2028-0{month}-01")) for month in (1, 2, 3)] == [2, 29, 1]
    assert data_point(at("2028-12-31T23:00"), MONTHLY) == at("2028-12-01")


@pytest.mark.parametrize(
    ("start", "utc"),
    [
        ("2028-02-20T00:00:00+05:30", "2028-02-19T18:00"),  # widened to the hour
        ("2028-02-20T00:00:00+14:00", "2028-02-19T10:00"),
        ("2028-02-20T00:00:00-08:00", "2028-02-20T08:00"),
    ],
)
def test_other_zones_are_turned_into_utc(start: str, utc: str) -> None:
    assert asked(at(start), None, None, NOW).start == at(utc)


def test_defaults() -> None:
    assert asked(None, None, HOURLY, NOW).start == at("2028-02-29T10:00")
    assert asked(None, None, None, NOW).end == at("2028-03-01T11:00")
    assert asked(None, at("2028-03-01T11:00"), None, NOW).end == at("2028-03-01T11:00")
    daily = asked(None, None, DAILY, NOW)
    assert (daily.start, daily.end) == (at("2028-01-31"), at("2028-03-02"))


def test_the_future_is_not_looked_through() -> None:
    far = asked(NOW, at("2204-12-26T07:52:30"), HOURLY, NOW)
    assert far.end == at("2028-03-03")
    with pytest.raises(BadRange, match="end_time"):
        asked(at("2100-01-01"), at("2204-01-01"), None, NOW)


def test_what_is_not_kept_is_an_error_and_no_silent_zero() -> None:
    with pytest.raises(BadRange, match="start_time: hours are kept for 35 days"):
        asked(NOW - timedelta(days=36), None, HOURLY, NOW)
    with pytest.raises(BadRange, match="start_time: days are kept for 400 days"):
        asked(NOW - timedelta(days=401), None, DAILY, NOW)
    with pytest.raises(BadRange, match="end_time: must be after"):
        asked(NOW, NOW, None, NOW)
    old = asked(NOW - timedelta(days=36), NOW, None, NOW)  # no hours were asked for
    assert old.daily
    assert old.start.hour == 0


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    st.datetimes(datetime(2027, 2, 10), datetime(2028, 3, 1), timezones=ZONES),  # noqa: DTZ001  # as Hypothesis asks
    st.integers(1, 60 * 24 * 60),
    st.sampled_from([None, DAILY, MONTHLY]),
)
def test_every_hour_of_a_range_is_in_one_bucket(start: datetime, minutes: int, granularity: Granularity | None) -> None:
    start = min(start, NOW - HOUR)
    end = start + timedelta(minutes=minutes)
    found = asked(start, end, granularity, NOW)
    assert found.start <= start
    assert found.end >= min(end, at("2028-03-03"))
    at_ = found.start
    for bucket in found.buckets(granularity):
        assert bucket.start == at_, "no gap, and nothing twice"
        at_ += DAY if bucket.whole_day else HOUR
        assert not found.daily or bucket == Bucket(bucket.start.replace(hour=0), True)
    assert at_ == found.end
