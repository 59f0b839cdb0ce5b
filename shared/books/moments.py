"""Times as people give them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from shared.contract.errors import ARouterError

FORMS = "RFC 3339, a date, a time of day like 10:42, or a span back like 90m, 24h, 7d; UTC without a zone"
_SPAN = re.compile(r"([0-9]{1,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
_FIRST, _LAST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


class BadMoment(ARouterError):
    """A text that is no time."""


def moment(text: str, now: datetime) -> datetime:
    """The time, in UTC. A span is counted back from `now`; a time of day is the last one. BadMoment for other texts."""
    if span := _SPAN.fullmatch(text):
        return max(_FIRST, now.astimezone(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])}))
    if of_day := _OF_DAY.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in of_day.groups())
        at = now.astimezone(UTC).replace(hour=hour, minute=minute, second=second, microsecond=0)
        return at if at <= now else at - timedelta(days=1)
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadMoment(f"{text[:60]!r} is no time: {FORMS}") from None
    if not _FIRST <= at < _LAST:
        raise BadMoment(f"{text[:60]!r} is no time: must be between 1971 and 9998")
    return at


def between(since: str | None, until: str | None, now: datetime) -> tuple[datetime | None, datetime | None]:
    """A range of time; None where nothing is said. An end that is a time of day is the first one behind the beginning,
    even where that is not over. BadMoment also where it ends before it begins."""
    start, end = (moment(text, now) if text else None for text in (since, until))
    if start is None or end is None or start < end:
        return start, end
    if until and _OF_DAY.fullmatch(until) and start < end + timedelta(days=1):
        return start, end + timedelta(days=1)
    raise BadMoment(f"{until!r} is not after {since!r}")
