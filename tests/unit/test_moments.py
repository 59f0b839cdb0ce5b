"""Times as people give them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.books.exchanges import BadToken, Place
from shared.books.moments import BadMoment, moment

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


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.text("0123456789ABC.", max_size=40))  # noqa: DTZ001
def test_a_page_token_is_read_as_it_was_written(at: datetime, id: str) -> None:
    place = Place(at.replace(tzinfo=UTC), id)
    assert Place.parse(place.token) == place


@pytest.mark.parametrize("token", ["", "nonsense", "ä", "MTIz", "x" * 500, "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OS4x"])
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(BadToken, match="page_token"):
        Place.parse(token)
