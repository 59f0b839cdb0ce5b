"""What leaves the books as a file: exchanges in the order of settling, hourly usage, and charges by day."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

from shared.books.exchanges import Exchange

PRICED = ("input_tokens", "output_tokens", "total_tokens", "cost_nanousd")


class Settled(NamedTuple):
    """An exchange, and when its latest revision was settled, by Redis's clock."""

    settled_at: datetime
    exchange: Exchange


class Usage(NamedTuple):
    """One rollup: the counters of an hour (its beginning, UTC) and of a key, team, user, provider and model."""

    hour: datetime
    group: tuple[str, ...]
    counters: dict[str, int]


class Charge(NamedTuple):
    """What exchanges of one day cost together. Those without a price are charges of their own, and cost nothing that
    anybody knows."""

    day: datetime
    key: str
    team: str
    provider: str
    model: str
    region: str
    tier: str
    priced: bool
    requests: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_nanousd: int


class Exports(Protocol):
    """A database that is read from one end to the other. SinkError where it has no answer in time."""

    async def settled(
        self, after: tuple[datetime, str] | None, since: datetime | None, until: datetime, limit: int
    ) -> list[Settled]:
        """Exchanges behind (`settled_at`, `exchange_id`), settled from `since` until before `until`."""

    async def usage(self, after: Usage | None, since: datetime | None, until: datetime, limit: int) -> list[Usage]:
        """Hourly usage behind `after`, of hours from `since` until before `until`."""

    async def charges(self, since: datetime, until: datetime) -> list[Charge]:
        """The charges of exchanges that were opened in this time."""

    async def first_opened(self) -> datetime | None:
        """When the oldest exchange was opened that has a row."""
