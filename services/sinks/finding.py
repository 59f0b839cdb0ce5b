"""Finding exchanges in the database: pages from the newest back, each of which looks through a bounded number of rows.

A filter that has an index narrows what is looked through; of the rest (`_LOOK` rows), those that fit are returned, and
the page says where the next one begins.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.sinks.rows import stored
from services.sinks.tables import EXCHANGES, KEPT
from shared.books import exchanges
from shared.books.exchanges import FIELDS, Page, Place, Wanted

LOOK = 20_000
# What has an index. Some hold only rows that say something, which the condition has to repeat for the planner.
_INDEXED: dict[str, sa.ColumnElement[bool] | None] = {
    "exchange_id": None,
    "key": None,
    "user": EXCHANGES.c.user != "",
    "cause": EXCHANGES.c.cause != "",
    "request_id": EXCHANGES.c.request_id != "",
    "response_id": EXCHANGES.c.response_id != "",
}
_WELL = ("", "whole")  # exchanges that ended well: most of them, so that these have no index


def find(connection: Connection, wanted: Wanted, after: Place | None, limit: int, look: int = LOOK) -> Page:
    """One page. `look`: rows that it looks through at the most."""
    newest = EXCHANGES.c.opened_at.desc(), EXCHANGES.c.exchange_id.desc()
    columns = [EXCHANGES.c[name] for name in FIELDS]
    looked = sa.select(*columns).where(*_narrowed(wanted, after)).order_by(*newest).limit(look).subquery()
    rest = [
        looked.c[name] == stored(name, value) for name, value in wanted.texts.items() if not _is_indexed(name, value)
    ]
    query = sa.select(looked).where(*rest).order_by(looked.c.opened_at.desc(), looked.c.exchange_id.desc())
    found = [exchanges.of_row(one) for one in connection.execute(query.limit(limit))]
    since = connection.scalar(sa.select(KEPT.c.since).where(KEPT.c.what == "exchanges"))
    known_since = since if since is None else exchanges.utc(since)
    if len(found) == limit:
        return Page(found, found[-1].place, known_since)
    end = sa.select(EXCHANGES.c.opened_at, EXCHANGES.c.exchange_id).where(*_narrowed(wanted, after)).order_by(*newest)
    last = connection.execute(end.offset(look - 1).limit(1)).one_or_none() if rest else None
    return Page(found, None if last is None else Place(exchanges.utc(last[0]), last[1]), known_since)


def _narrowed(wanted: Wanted, after: Place | None) -> list[sa.ColumnElement[bool]]:
    """What indexes take."""
    found: list[sa.ColumnElement[bool]] = []
    for name, value in wanted.texts.items():
        if _is_indexed(name, value):
            said = _INDEXED.get(name)
            found += [EXCHANGES.c[name] == stored(name, value), *([said] if said is not None else [])]
            if name == "ended":
                found.append(EXCHANGES.c.ended != "whole")
    if wanted.since is not None:
        found.append(EXCHANGES.c.opened_at >= wanted.since)
    if wanted.until is not None:
        found.append(EXCHANGES.c.opened_at < wanted.until)
    if after is not None:
        place: Any = sa.tuple_(EXCHANGES.c.opened_at, EXCHANGES.c.exchange_id)
        found += [place < sa.tuple_(*after), EXCHANGES.c.opened_at <= after.opened_at]
    return found


def _is_indexed(name: str, value: str) -> bool:
    return name in _INDEXED or (name == "ended" and value not in _WELL)
