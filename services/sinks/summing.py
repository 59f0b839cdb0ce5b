"""Usage added up in the database: by hour from the rollups, by tag and credential from the rows."""

# ruff: noqa: S608  # every name in these statements is a column of ours

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.sinks.merge import AMOUNTS
from services.sinks.rows import stored
from services.sinks.tables import KEPT
from shared.books import exchanges
from shared.books.summing import MOST_SUMS, TIMES, Group, Kept, Question, Sum, TooMuch, stamp
from shared.contract.booked import BOOKED

_LENGTHS = {Group.HOUR: "hour", Group.DAY: "day", Group.MONTH: "month"}
_SQLITE_FORMS = {Group.HOUR: "%Y-%m-%dT%H:00:00Z", Group.DAY: "%Y-%m-%dT00:00:00Z", Group.MONTH: "%Y-%m-01T00:00:00Z"}
_TAG = {
    "postgresql": "LEFT JOIN LATERAL jsonb_array_elements_text(o.tags) AS tag(value) ON true",
    # An array of nothing has no line of its own: a left join would need a condition that SQLite does not push down.
    "sqlite": "LEFT JOIN json_each(o.tags) AS tag ON true",
}


def sums(connection: Connection, question: Question) -> list[Sum]:
    """The sums of a question. TooMuch for more than are given."""
    statement, values = _statement(question, connection.dialect.name)
    query = sa.text(statement).bindparams(
        *(sa.bindparam(name, type_=sa.DateTime(timezone=True)) for name in ("start", "end"))
    )
    found = []
    for one in connection.execute(query, values):
        group = [_text(value) for value in one[: len(question.by)]]
        found.append(Sum(tuple(group), dict(zip(BOOKED, map(int, one[len(question.by) :]), strict=True))))
    if len(found) > MOST_SUMS:
        raise TooMuch(f"more than {MOST_SUMS} groups; ask for a shorter range, or for fewer")
    return sorted(one for one in found if any(one.counters.values()))


def kept(connection: Connection) -> Kept:
    """Since when there are rows and usage, where older ones were taken away."""
    since = {one.what: exchanges.utc(one.since) for one in connection.execute(sa.select(KEPT))}
    return Kept(since.get("exchanges"), since.get("usage_hourly"))


def _statement(question: Question, dialect: str) -> tuple[str, dict[str, Any]]:
    at = 'o."opened_at"' if question.of_rows else 'o."hour"'
    by = [_expression(group, at, dialect) for group in question.by]
    amounts = AMOUNTS if question.of_rows else {name: f'{{0}}."{name}"' for name in BOOKED}
    added = ", ".join(f"coalesce(sum({amounts[name].format('o')}), 0)" for name in BOOKED)
    join = _TAG[dialect] if Group.TAG in question.groups else ""
    values: dict[str, Any] = {"start": question.range.start, "end": question.range.end}
    filters = [f"{at} >= :start", f"{at} < :end"]
    for group, value in question.only.items():
        filters.append(f"{_expression(group, at, dialect)} = :only_{group}")
        values[f"only_{group}"] = stored(group, value)
    table = "exchanges" if question.of_rows else "usage_hourly"
    groups = f"GROUP BY {', '.join(map(str, range(1, len(by) + 1)))} HAVING count(*) > 0" if by else ""
    chosen = ", ".join([*by, added])
    where = " AND ".join(filters)
    return f"SELECT {chosen} FROM {table} o {join} WHERE {where} {groups} LIMIT {MOST_SUMS + 1}", values


def _expression(group: Group, at: str, dialect: str) -> str:
    if group in TIMES:
        return (
            f"date_trunc('{_LENGTHS[group]}', {at})"
            if dialect == "postgresql"
            else f"strftime('{_SQLITE_FORMS[group]}', {at})"
        )
    return "coalesce(tag.value, '')" if group is Group.TAG else f'o."{group}"'


def _text(value: object) -> str:
    return stamp(value) if isinstance(value, datetime) else str(value)
