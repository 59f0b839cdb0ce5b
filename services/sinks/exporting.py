"""Reading the database from one end to the other, in pages of bounded size."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.sinks.tables import EXCHANGES, GROUP, USAGE
from shared.books import exchanges
from shared.books.exchanges import FIELDS
from shared.books.exporting import PRICED, Charge, Settled, Usage
from shared.contract.booked import BOOKED

_USAGE_KEY = ("hour", *GROUP)
_CHARGED = ("key", "team", "provider", "model", "region", "tier")


def settled(
    connection: Connection, after: tuple[datetime, str] | None, since: datetime | None, until: datetime, limit: int
) -> list[Settled]:
    """Exchanges in the order of settling, behind `after`: those settled from `since` until before `until`."""
    place = sa.tuple_(EXCHANGES.c.settled_at, EXCHANGES.c.exchange_id)
    where: list[Any] = [EXCHANGES.c.settled_at < until]
    if since is not None:
        where.append(EXCHANGES.c.settled_at >= since)
    if after is not None:
        where += [EXCHANGES.c.settled_at >= after[0], place > sa.tuple_(*after)]
    columns = [EXCHANGES.c[name] for name in ("settled_at", *FIELDS)]
    query = sa.select(*columns).where(*where).order_by(EXCHANGES.c.settled_at, EXCHANGES.c.exchange_id).limit(limit)
    return [Settled(exchanges.utc(one[0]), exchanges.of_row(one[1:])) for one in connection.execute(query)]


def usage(
    connection: Connection, after: Usage | None, since: datetime | None, until: datetime, limit: int
) -> list[Usage]:
    """Hourly usage in the order of its key, behind `after`: hours from `since` until before `until`."""
    key = [USAGE.c[name] for name in _USAGE_KEY]
    where: list[Any] = [USAGE.c.hour < until]
    if since is not None:
        where.append(USAGE.c.hour >= since)
    if after is not None:
        where += [USAGE.c.hour >= after.hour, sa.tuple_(*key) > sa.tuple_(after.hour, *after.group)]
    query = sa.select(*key, *(USAGE.c[name] for name in BOOKED)).where(*where).order_by(*key).limit(limit)
    size = len(_USAGE_KEY)
    return [
        Usage(exchanges.utc(one[0]), tuple(one[1:size]), dict(zip(BOOKED, map(int, one[size:]), strict=True)))
        for one in connection.execute(query)
    ]


def charges(connection: Connection, since: datetime, until: datetime) -> list[Charge]:
    """What exchanges that were opened in this time have cost, by who caused it and what it was."""
    group = [EXCHANGES.c[name] for name in _CHARGED]
    priced = EXCHANGES.c.cost_nanousd.is_not(None)
    sums = [sa.func.coalesce(sa.func.sum(EXCHANGES.c[name]), 0) for name in PRICED]
    query = (
        sa.select(*group, priced, sa.func.count(), *sums)
        .where(EXCHANGES.c.opened_at >= since, EXCHANGES.c.opened_at < until)
        .group_by(*group, priced)
        .order_by(*group, priced)
    )
    size = len(_CHARGED)
    found = connection.execute(query)
    return [Charge._make((since, *one[:size], bool(one[size]), *map(int, one[size + 1 :]))) for one in found]


def first_opened(connection: Connection) -> datetime | None:
    """When the oldest exchange that has a row was opened."""
    found = connection.scalar(sa.select(sa.func.min(EXCHANGES.c.opened_at)))
    return None if found is None else exchanges.utc(found)
