"""When a price, or a part of one, holds. Pure, except that zones come from the machine's zone files."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.meter.pricing.items import Bill

STANDARD: Final = ("", "standard")
BATCH: Final = "batch"
# Words of answers, to ours.
TIERS: Final = {
    "default": "standard",
    "auto": "standard",
    "on_demand": "standard",
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}

_ALWAYS: Final = 1 << 62  # milliseconds
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999  # the years from 1 to 9999
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def milliseconds(value: Any) -> int:
    """A TOML date (its first moment) or time; UTC without a zone. ValueError for anything else."""
    if isinstance(value, datetime):
        at = value
    elif isinstance(value, date):
        at = datetime.combine(value, time())
    else:
        raise ValueError("not a date or a time")  # noqa: TRY004  # pydantic reports ValueErrors
    found = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if not _FIRST <= found <= _LAST:
        raise ValueError("there is no such time in UTC")
    return found


class Period(BaseModel):
    """From when until when something holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: int = Field(default=-_ALWAYS, description="Inclusive.")
    until: int = Field(default=_ALWAYS, description="Exclusive.")

    @field_validator("since", "until", mode="before")
    @classmethod
    def _time(cls, value: Any) -> int:
        return milliseconds(value)

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.since >= self.until:
            raise ValueError("since must be before until")
        return self

    def holds_at(self, at_ms: int) -> bool:
        return self.since <= at_ms < self.until

    @property
    def named(self) -> str:
        """For people: ` since 2026-03-13`; "" where it is always."""
        ends = (("since", self.since), ("until", self.until))
        return "".join(f" {word} {_shown(at)}" for word, at in ends if abs(at) != _ALWAYS)


def _shown(at_ms: int) -> str:
    shown = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
    return shown.removesuffix("T00:00Z")


class Condition(Period):
    """What has to be so for other rates to hold; everything that is named has to be."""

    tier: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    search_context: tuple[str, ...] = ()
    above: int = Field(default=-1, ge=0, strict=True, description="The input has more tokens than these.")
    part: bool = Field(default=False, strict=True, description="Only the input behind them has the other rates.")
    hours: str = ""
    weekdays: tuple[str, ...] = ()
    zone: str = "UTC"

    @field_validator("tier", "region", "search_context", "weekdays", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("tier", "region", "search_context", "weekdays")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or "" in value:
            raise ValueError("nothing is named")
        return tuple(word.lower() for word in value)

    @field_validator("tier")
    @classmethod
    def _our_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if word in TIERS:
                raise ValueError(f"{word} is {TIERS[word]} here")
        return value

    @field_validator("weekdays")
    @classmethod
    def _days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= set(_DAYS):
            raise ValueError(f"days are {', '.join(_DAYS)}")
        return value

    @field_validator("hours")
    @classmethod
    def _range(cls, value: str) -> str:
        found = _HOURS.fullmatch(value)
        if found is None or found[1] + found[2] == found[3] + found[4] or (found[3] == "24" and found[4] != "00"):
            raise ValueError("hours are HH:MM-HH:MM")
        return value

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        _zone(value)
        return value

    @model_validator(mode="after")
    def _part_of_something(self) -> Self:
        if self.part and self.above < 0:
            raise ValueError("part needs above")
        return self

    def holds(self, bill: Bill, context: int) -> bool:
        """`context`: tokens of the input; -1 where it is the sum of several requests, which has no limit."""
        return (
            (not self.tier or bill.tier in self.tier)
            and (not self.region or bill.region in self.region)
            and (not self.search_context or bill.search_context in self.search_context)
            and context > self.above - (self.above < 0)
            and self.holds_at(bill.opened_ms)
            and ((not self.hours and not self.weekdays) or self._in_hours(bill.opened_ms))
        )

    def _in_hours(self, at_ms: int) -> bool:
        """By the clock of the zone. Hours that span midnight belong to the day that each moment is on."""
        at = datetime.fromtimestamp(at_ms / 1000, _zone(self.zone))
        if self.weekdays and _DAYS[at.weekday()] not in self.weekdays:
            return False
        if not self.hours:
            return True
        start, end = (int(clock[:2]) * 60 + int(clock[3:]) for clock in self.hours.split("-"))
        now = at.hour * 60 + at.minute
        return start <= now < end if start < end else now >= start or now < end

    @property
    def label(self) -> str:
        """For people: what it asks for."""
        parts = [
            "/".join(self.tier),
            "/".join(self.region),
            f"search context {'/'.join(self.search_context)}" if self.search_context else "",
            f"{'the part ' if self.part else ''}above {self.above}" if self.above >= 0 else "",
            f"{self.hours} {'/'.join(self.weekdays)} {self.zone}".strip() if self.hours or self.weekdays else "",
            self.named.strip(),
        ]
        return " ".join(filter(None, parts))


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"there is no zone {name!r}") from None
