"""The statements that write a batch: the difference to usage, then the rows. Pure; PostgreSQL and SQLite take the same.

A batch lies in the temporary table `incoming`, one row per exchange. A row replaces the one that is there where its
(epoch, revision) is not lower. Usage changes by what the new row counts minus what the old one did, each under its own
key, team, user, provider and model: so that it is the sum of the rows, whatever comes twice or late.
"""

# ruff: noqa: S608  # every name in these statements is a column of ours

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.sinks.rows import COLUMNS
from services.sinks.tables import GROUP
from shared.contract.booked import BOOKED
from shared.contract.usage import COUNTERS, Source

# What a row counts, by the names of `BOOKED`; `shared.contract.booked.booked` says the same of an entry.
AMOUNTS: dict[str, str] = {
    "requests": "1",
    **{name: f'coalesce({{0}}."{name}", 0)' for name in COUNTERS},
    "estimated_requests": f"CASE WHEN {{0}}.\"source\" = '{Source.ESTIMATED}' THEN 1 ELSE 0 END",
    "partial_requests": f"CASE WHEN {{0}}.\"source\" = '{Source.PARTIAL}' THEN 1 ELSE 0 END",
    "unpriced_requests": 'CASE WHEN {0}."price_version" IS NOT NULL AND {0}."cost_microusd" IS NULL THEN 1 ELSE 0 END',
    "cost_microusd": 'coalesce({0}."cost_microusd", 0)',
    "cost_nanousd": 'coalesce({0}."cost_nanousd", 0)',
}

# With the span of the batch, so that the planner sees at once which months it is about.
_SAME = """
    o."opened_at" = n."opened_at" AND o."exchange_id" = n."exchange_id"
    AND o."opened_at" BETWEEN '{first}' AND '{last}'
"""
_NOT_LOWER = '(o."epoch", o."revision") <= (n."epoch", n."revision")'


def names(columns: tuple[str, ...]) -> str:
    """Columns as SQL spells them; `user` is a word of SQL's own."""
    return ", ".join(f'"{name}"' for name in columns)


def _counted(row: str, hour: str, sign: str) -> str:
    group = ", ".join(f'{row}."{name}"' for name in GROUP)
    amounts = ", ".join(f'{sign}({amount.format(row)}) AS "{name}"' for name, amount in AMOUNTS.items())
    return f'SELECT {hour.format(f"{row}.opened_at")} AS "hour", {group}, {amounts}'


def usage(hour: str) -> str:
    """Add the difference that `incoming` makes, to be formatted with the `first` and `last` time in it.

    `hour`: the expression that cuts a time `{0}` to its hour.
    """
    key = names(("hour", *GROUP))
    sums = ", ".join(f'sum(d."{name}")' for name in BOOKED)
    changes = " OR ".join(f'sum(d."{name}") <> 0' for name in BOOKED)
    added = ", ".join(f'"{name}" = usage_hourly."{name}" + excluded."{name}"' for name in BOOKED)
    return f"""
        INSERT INTO usage_hourly ({key}, {names(BOOKED)})
        SELECT {", ".join(f'd."{name}"' for name in ("hour", *GROUP))}, {sums} FROM (
            {_counted("n", hour, "")} FROM incoming n LEFT JOIN exchanges o ON {_SAME}
            WHERE o."exchange_id" IS NULL OR {_NOT_LOWER}
            UNION ALL
            {_counted("o", hour, "-")} FROM incoming n JOIN exchanges o ON {_SAME} WHERE {_NOT_LOWER}
        ) d GROUP BY {", ".join(f'd."{name}"' for name in ("hour", *GROUP))} HAVING {changes}
        ON CONFLICT ({key}) DO UPDATE SET {added}
    """


def span(rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """When the first and the last of these rows were opened."""
    times = [str(row[0]) for row in rows]
    return {"first": min(times), "last": max(times)}


def rows() -> str:
    """Put the rows of `incoming` in their places."""
    replaced = ", ".join(
        f'"{name}" = excluded."{name}"' for name in COLUMNS if name not in ("opened_at", "exchange_id")
    )
    return f"""
        INSERT INTO exchanges ({names(COLUMNS)}) SELECT {names(COLUMNS)} FROM incoming WHERE true
        ON CONFLICT ("opened_at", "exchange_id") DO UPDATE SET {replaced}
        WHERE (exchanges."epoch", exchanges."revision") <= (excluded."epoch", excluded."revision")
    """


def summed(hour: str) -> str:
    """What usage must be: the sum of all rows, by hour and group."""
    group = ", ".join(f'c."{name}"' for name in ("hour", *GROUP))
    sums = ", ".join(f'sum(c."{name}") AS "{name}"' for name in BOOKED)
    return f"SELECT {group}, {sums} FROM ({_counted('o', hour, '')} FROM exchanges o) c GROUP BY {group}"
