"""Limits: what a key, a team or everything together may use, and the periods in which it is counted. Pure.

A *scope* is what a limit holds for: `key:HASH`, `team:ID` or `all`, each also for the models of one pattern. Records of
limits are stored as JSON. Fields are appended with a default that means "no limit"; none is ever renamed or removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from shared.contract.errors import BadRecord

DAY_MS = 86_400_000
MINUTE_MS = 60_000

# The scripts count in doubles, which are exact up to 2^53 - 1 = 9,007,199,254,740,991: budgets end there. Rates are
# multiplied with the milliseconds of their period.
MOST_NANOUSD = 9_007_199_254_740_991  # about nine million dollars
MOST_TOKENS = 1_000_000_000_000_000
MOST_PER_MINUTE = 10_000_000_000
MOST_PER_DAY = 10_000_000
MOST_AT_ONCE = 1_000_000

EVERYTHING = "all"


class Reset(StrEnum):
    """When a budget begins anew, in UTC."""

    NEVER = "never"
    DAILY = "daily"
    WEEKLY = "weekly"  # on Mondays
    MONTHLY = "monthly"


class Amounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Budgets and rates. None: no limit."""

    limit_nanousd: int | None = None  # billionths of a US dollar, in a period
    limit_tokens: int | None = None  # in a period
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    concurrent_requests: int | None = None


class Raise(Amounts, frozen=True, omit_defaults=True, kw_only=True):
    """Amounts that hold instead until a time; None leaves one as it is."""

    until: int  # UTC seconds


class ModelLimits(Amounts, frozen=True, omit_defaults=True, kw_only=True):
    """The limits of some models."""

    limit_reset: Reset = Reset.NEVER
    soft: bool = False
    raised: Raise | None = None


class Limits(ModelLimits, frozen=True, omit_defaults=True, kw_only=True):
    """The limits of a key, a team or everything. `soft`: what exceeds them is told, and not refused."""

    models: dict[str, ModelLimits] = {}  # by pattern, in addition; msgspec copies the default

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return any(True for _ in self.parts())

    def parts(self) -> Iterator[tuple[str, ModelLimits]]:
        """By pattern, what is limited; the pattern "" stands for all models."""
        if limits_something(self):
            yield "", self
        for pattern, limits in self.models.items():
            if limits_something(limits):
                yield pattern, limits


AMOUNTS: tuple[str, ...] = Amounts.__struct_fields__

_MOST: Mapping[str, int] = {
    "limit_nanousd": MOST_NANOUSD,
    "limit_tokens": MOST_TOKENS,
    "requests_per_minute": MOST_PER_MINUTE,
    "tokens_per_minute": MOST_PER_MINUTE,
    "requests_per_day": MOST_PER_DAY,
    "concurrent_requests": MOST_AT_ONCE,
}


def most(name: str) -> int:
    """The largest amount of this name."""
    return _MOST[name]


def least(name: str) -> int:
    """The smallest amount of this name: nothing may be spent of a budget of 0, and a rate has at least 1."""
    return 0 if name.startswith("limit_") else 1


def limits_something(limits: Amounts) -> bool:
    """Whether one of these amounts is a limit, now or while it is raised."""
    raised = getattr(limits, "raised", None)
    return any(getattr(one, name) is not None for one in (limits, raised) if one is not None for name in AMOUNTS)


def effective(limits: ModelLimits, now: float) -> ModelLimits:
    """The limits at a time (UTC seconds), with what is raised until later."""
    raised = limits.raised
    if raised is None or raised.until <= now:
        return limits
    changes = {name: value for name in AMOUNTS if (value := getattr(raised, name)) is not None}
    return msgspec.structs.replace(limits, **changes)


def matches(pattern: str, provider: str, model: str) -> bool:
    """Whether a pattern names a model, with or without its provider; a trailing * stands for any rest. Letter case says
    nothing: there are providers that take a name in any."""
    pattern, model, provider = pattern.lower(), model.lower(), provider.lower()
    bare = model.removeprefix("models/")  # Google takes a name with it, too
    named = (model, f"{provider}/{model}", bare, f"{provider}/{bare}")
    if pattern.endswith("*"):
        return any(name.startswith(pattern[:-1]) for name in named)
    return not pattern or pattern in named


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Limits)


def encode(limits: Limits) -> str:
    """Limits as they are stored."""
    return _ENCODER.encode(limits).decode()


def decode(stored: str | bytes) -> Limits:
    """The inverse of `encode`. BadRecord for anything else."""
    try:
        return _DECODER.decode(stored)
    except msgspec.MsgspecError as exc:
        raise BadRecord(f"not a record of limits: {exc}") from exc


def as_dict(limits: Limits) -> dict[str, Any]:
    """Limits as JSON shows them: what is not limited is left out."""
    found: dict[str, Any] = msgspec.to_builtins(limits)
    return found


def key_scope(key_hash: str) -> str:
    """The scope of a key."""
    return f"key:{key_hash}"


def team_scope(team: str) -> str:
    """The scope of a team."""
    return f"team:{team}"


def part(owner: str, pattern: str) -> str:
    """The scope of an owner's models that a pattern names."""
    return f"{owner}:{pattern}" if pattern else owner


class Period(NamedTuple):
    """The day, week and month (UTC) in which something is counted, as numbers since the epoch."""

    day: int
    week: int  # from Monday
    month: int

    def field(self, reset: Reset) -> str:
        """The period of a budget, as scripts spell it."""
        words = {Reset.DAILY: f"d:{self.day}", Reset.WEEKLY: f"w:{self.week}", Reset.MONTHLY: f"m:{self.month}"}
        return words.get(reset, "e")


def period(at_ms: int) -> Period:
    """The period of a time, UTC milliseconds."""
    return _of_day(at_ms // DAY_MS)


_days: dict[int, Period] = {}


def _of_day(day: int) -> Period:
    found = _days.get(day)
    if found is None:
        date = datetime.fromtimestamp(day * 86_400, UTC)
        found = Period(day, (day + 3) // 7, date.year * 12 + date.month - 1)  # the epoch's first day was a Thursday
        if len(_days) > 1000:
            _days.clear()
        _days[day] = found
    return found


def begins_anew(reset: Reset, at_ms: int) -> int | None:
    """When a budget begins anew after a time, UTC seconds; None for never."""
    now = period(at_ms)
    if reset is Reset.DAILY:
        return (now.day + 1) * 86_400
    if reset is Reset.WEEKLY:
        return ((now.week + 1) * 7 - 3) * 86_400
    if reset is Reset.MONTHLY:
        year, month = divmod(now.month + 1, 12)
        return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())
    return None


def named(field: str) -> str:
    """A period that `Period.field` spells, for people: a day, the Monday of a week, a month, or ever."""
    kind, _, number = field.partition(":")
    if kind == "m":
        year, month = divmod(int(number), 12)
        return f"{year}-{month + 1:02d}"
    if kind == "e":
        return "ever"
    day = int(number) if kind == "d" else int(number) * 7 - 3
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
