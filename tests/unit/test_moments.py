"""Times as people give them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli import exchanges, main
from shared.books.books import Books
from shared.books.exchanges import BadToken, Place
from shared.books.moments import BadMoment, between, moment
from shared.contract.ids import MAX_N
from shared.runtime import store

NOW = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", "2026-11-29T12:30:00"),
        ("90m", "2026-11-30T11:00:00"),
        ("7d", "2026-11-23T12:30:00"),
        ("2w", "2026-11-16T12:30:00"),
        ("30s", "2026-11-30T12:29:30"),
        ("10:42", "2026-11-30T10:42:00"),
        ("12:30:00", "2026-11-30T12:30:00"),
        ("23:59", "2026-11-29T23:59:00"),  # the last one
        ("2026-10-01", "2026-10-01T00:00:00"),
        ("2026-10-01T05:00", "2026-10-01T05:00:00"),
        ("2026-10-01T05:00:00Z", "2026-10-01T05:00:00"),
        ("2026-10-01T05:00:00+05:45", "2026-09-30T23:15:00"),
        ("99999w", "1971-01-01T00:00:00"),
    ],
)
def test_times_and_spans(text: str, expected: str) -> None:
    assert moment(text, NOW) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "soon", "24", "-7d", "1.5h", "25:00", "2026-13-01", "1e9d", "0001-01-01", "9999-12-31"]
)
def test_what_is_no_time_is_an_error_that_says_what_is(text: str) -> None:
    with pytest.raises(BadMoment, match="is no time"):
        moment(text, NOW)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("12:25", "12:28", ("30T12:25", "30T12:28")),
        ("12:25", "12:35", ("30T12:25", "30T12:35")),  # it is not over, and is not yesterday's
        ("23:50", "00:05", ("29T23:50", "30T00:05")),
        ("2026-11-29T20:00", "19:00", ("29T20:00", "30T19:00")),
        ("2d", "1d", ("28T12:30", "29T12:30")),
    ],
)
def test_a_range_ends_behind_its_beginning(since: str, until: str, expected: tuple[str, str]) -> None:
    start, end = (datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=UTC) for text in expected)
    assert between(since, until, NOW) == (start, end)
    assert between(None, None, NOW) == (None, None)


@pytest.mark.parametrize(("since", "until"), [("1d", "2d"), ("2026-12-01", "2026-11-01"), ("2027-01-01", "12:00")])
def test_a_range_that_ends_before_it_begins_is_an_error(since: str, until: str) -> None:
    with pytest.raises(BadMoment, match="is not after"):
        between(since, until, NOW)


async def test_exchanges_before_a_time_are_those_of_the_day_before_it() -> None:
    books = Books(store.connect("redis://127.0.0.1:9"), 1)  # which is not asked
    arguments = main.parse(["exchanges", "--until", "2026-11-01"])
    wanted = await exchanges.wanted_of(books, arguments, NOW)
    assert (wanted.since, wanted.until) == (datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(0, MAX_N - 1))  # noqa: DTZ001
def test_a_page_token_is_read_as_it_was_written(at: datetime, n: int) -> None:
    place = Place(at.replace(tzinfo=UTC), f"01K00000000000000000000000.3.{n}")
    assert Place.parse(place.token) == place


@pytest.mark.parametrize("token", ["", "nonsense", "ä", "MTIz", "x" * 500, "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS4x"])
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(BadToken, match="page_token"):
        Place.parse(token)
