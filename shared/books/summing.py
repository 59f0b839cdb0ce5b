"""Usage added up by any of its groups: from the totals in Redis where they can say it, else from the database.

Redis has totals by key, provider and model, hours for 35 days and days for 400. A database also has teams and end
users, as far back as its usage goes, and tags and credentials as far back as its rows go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from shared.books import periods, reports
from shared.books.books import Books
from shared.books.followers import Coverage
from shared.books.periods import HOUR, BadRange, Granularity, Range
from shared.books.reports import Between, Line
from shared.contract import booked
from shared.contract.errors import ARouterError
from shared.runtime.errors import SinkError

MOST_SUMS = 20_000  # of one answer
_RECENT = timedelta(days=2)  # which Redis answers without looking through much
_LATE = timedelta(minutes=1)  # a database that is further behind is asked for what Redis cannot say


class Group(StrEnum):
    """What usage is added up by."""

    KEY = "key"  # hash
    TEAM = "team"
    USER = "user"
    TAG = "tag"  # an exchange counts for each of its tags; "" for those without one
    MODEL = "model"
    PROVIDER = "provider"
    CREDENTIAL = "credential"
    HOUR = "hour"  # of the open, in UTC
    DAY = "day"
    MONTH = "month"


TIMES = {Group.HOUR: Granularity.HOURLY, Group.DAY: Granularity.DAILY, Group.MONTH: Granularity.MONTHLY}
_OF_ROWS = frozenset({Group.TAG, Group.CREDENTIAL})
_OF_DATABASE = frozenset({*_OF_ROWS, Group.TEAM, Group.USER})


class TooMuch(ARouterError):
    """An answer would have more sums than are given."""


@dataclass(frozen=True, slots=True)
class Question:
    """Usage of a range of time by groups, of what fits the filters; None: of all. `only`: by group, its value."""

    range: Range
    by: tuple[Group, ...] = ()
    only: Mapping[Group, str] = field(default_factory=dict)

    @property
    def groups(self) -> frozenset[Group]:
        return frozenset((*self.by, *self.only))

    @property
    def of_rows(self) -> bool:
        """Whether hourly usage cannot say it, and rows are looked through."""
        return bool(self.groups & _OF_ROWS)


class Sum(NamedTuple):
    """The counters of one group, by the names of `BOOKED`. Times are text, RFC 3339 in UTC."""

    group: tuple[str, ...]  # values in the order of the question's groups
    counters: dict[str, int]


class Kept(NamedTuple):
    """Since when a database has rows and hourly usage, where older ones were taken away."""

    rows: datetime | None
    usage: datetime | None


class Sums(Protocol):
    """A database's answers. SinkError where it has none in time."""

    async def sums(self, question: Question) -> list[Sum]:
        """The sums. TooMuch for more than `MOST_SUMS`."""

    async def kept(self) -> Kept:
        """How far back they go."""


class Answer(NamedTuple):
    """`as_of`: what was settled by then is in the sums."""

    sums: list[Sum]
    range: Range
    as_of: datetime


class Asked(NamedTuple):
    """A question as it is asked, before it is known who answers; None for what was not said."""

    start: datetime | None
    end: datetime | None
    granularity: Granularity | None
    by: tuple[Group, ...]
    only: Mapping[Group, str]


def granularity(by: tuple[Group, ...]) -> Granularity | None:
    """The finest that groups of time ask for."""
    return next((TIMES[group] for group in TIMES if group in by), None)


@dataclass(frozen=True, slots=True)
class Database:
    """A database that may be asked. `open`: it, or None where there is none; `covered`: what it has."""

    open: Callable[[], Awaitable[Sums | None]]
    covered: Callable[[], Awaitable[Coverage | None]]


async def answer(
    books: Books, database: Database, asked: Asked, now: datetime, between: Between | None = None
) -> Answer:
    """Add up. BadRange where nobody has the whole range: an error, and not a zero. SinkError where only the database
    has it, and does not answer."""
    needs_database = bool({*asked.by, *asked.only} & _OF_DATABASE)
    in_redis = None if needs_database else _in_redis(asked, now)
    found = None
    if not isinstance(in_redis, Range) or in_redis.start < now - _RECENT:
        try:
            found = await _of_database(database, asked, now, optional=isinstance(in_redis, Range))
        except SinkError:
            if not isinstance(in_redis, Range):
                raise
    return found or await _of_totals(books, asked, _or_raise(in_redis), now, between)


async def _of_database(database: Database, asked: Asked, now: datetime, *, optional: bool) -> Answer | None:
    """What the database has to say; None where there is none. `optional`: where Redis can answer as well, also None
    where the database has not all of it, or is behind."""
    opened = await database.open()
    if opened is None:
        return None
    range_ = periods.asked(asked.start, asked.end, asked.granularity, now, kept=False)
    question = Question(range_, asked.by, asked.only)
    coverage = await database.covered()
    since = _since(question, await opened.kept(), coverage)
    lacks = since is not None and range_.start < since
    if optional and (lacks or coverage is None or now - coverage.as_of > _LATE):
        return None
    if coverage is None:
        raise BadRange("group_by", "nobody knows how far the database has got: arouter books status")
    if since is not None and lacks:
        if asked.start is not None or since >= range_.end:
            what = ", ".join(sorted(question.groups)) or "such old usage"
            raise BadRange("start_time", f"the database has {what} since {since:%Y-%m-%dT%H:%MZ}")
        question = Question(Range(since, range_.end, range_.daily), asked.by, asked.only)
    return Answer(await opened.sums(question), question.range, coverage.as_of)


def _in_redis(asked: Asked, now: datetime) -> Range | BadRange:
    """The range, where the totals of Redis go back so far; else the error that says since when they do."""
    try:
        return periods.asked(asked.start, asked.end, asked.granularity, now)
    except BadRange as exc:
        if exc.field != "start_time":
            raise
        return exc


def _or_raise(found: Range | BadRange | None) -> Range:
    if found is None:
        raise BadRange(
            "group_by", "teams, users, tags and credentials are in the database (AROUTER_DATABASE_URL) alone"
        )
    if isinstance(found, BadRange):
        raise found
    return found


def _since(question: Question, kept: Kept, coverage: Coverage | None) -> datetime | None:
    """The first whole hour or day of which the database has everything; None where it has all there ever was."""
    known = [coverage.since if coverage else None, kept.rows if question.of_rows else kept.usage]
    latest = max((at for at in known if at is not None), default=None)
    if latest is None:
        return None
    floor = latest.replace(minute=0, second=0, microsecond=0)
    hour = floor if floor == latest else floor + HOUR
    return hour if not question.range.daily or hour.hour == 0 else hour.replace(hour=0) + timedelta(days=1)


async def _of_totals(books: Books, asked: Asked, range_: Range, now: datetime, between: Between | None) -> Answer:
    key = asked.only.get(Group.KEY)
    sums: dict[tuple[str, ...], dict[str, int]] = defaultdict(reports.no_counters)
    async for line in reports.lines(books, None if key is None else [key], range_.buckets(asked.granularity), between):
        if all(getattr(line, group) == value for group, value in asked.only.items()):
            reports.add(sums[_group(asked.by, line)], line.counters)
            if len(sums) > MOST_SUMS:
                raise TooMuch(f"more than {MOST_SUMS} groups; ask for a shorter range, or for fewer")
    found = [Sum(group, counters) for group, counters in sorted(sums.items()) if any(counters.values())]
    return Answer(found, range_, now)


def _group(by: tuple[Group, ...], line: Line) -> tuple[str, ...]:
    return tuple(
        stamp(periods.data_point(line.bucket.start, TIMES[group])) if group in TIMES else str(getattr(line, group))
        for group in by
    )


def stamp(at: datetime) -> str:
    """A time as groups have it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def totals(sums: Iterator[Sum] | list[Sum], by: tuple[Group, ...], wanted: tuple[Group, ...]) -> list[Sum]:
    """Sums by fewer groups."""
    places = [by.index(group) for group in wanted]
    found: dict[tuple[str, ...], dict[str, int]] = defaultdict(reports.no_counters)
    for one in sums:
        reports.add(found[tuple(one.group[place] for place in places)], one.counters)
    return [Sum(group, counters) for group, counters in sorted(found.items())]


def cost_nanousd(counters: dict[str, int]) -> int | None:
    """The cost of what has a price, in billionths of a US dollar; None where nothing has one."""
    cost = booked.cost_nanousd(counters)
    return cost if cost or not counters["unpriced_requests"] else None
