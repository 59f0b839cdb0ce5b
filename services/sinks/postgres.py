"""What PostgreSQL does in its own way: COPY, and a partition for each month."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from services.sinks import merge
from services.sinks.rows import COLUMNS

HOUR = "date_trunc('hour', {0})"
_USAGE, _ROWS = merge.usage(HOUR), merge.rows()
_COPY = f"COPY incoming ({merge.names(COLUMNS)}) FROM STDIN"
_FIRST_MONTH, _LAST_MONTH = "2020-01", "2099-12"  # rows outside are in the default partition: their clock was wrong
_MONTHS = """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'exchanges'::regclass
"""


class Postgres:
    """Merges batches, and makes and drops months."""

    def merge(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write these rows, and what they change in usage."""
        for month in sorted({one[0][:7] for one in rows}):
            self._make(connection, month)
        # With defaults: a later version may have added columns.
        connection.exec_driver_sql("CREATE TEMP TABLE incoming (LIKE exchanges INCLUDING DEFAULTS) ON COMMIT DROP")
        _copy(connection, rows)
        # By index, row for row: nothing is known of a table that was just made, and a scan of all months is the dearest
        # mistake a planner could make.
        connection.exec_driver_sql("SET LOCAL enable_hashjoin = off")
        connection.exec_driver_sql("SET LOCAL enable_mergejoin = off")
        connection.exec_driver_sql(_USAGE.format(**merge.span(rows)))
        connection.exec_driver_sql(_ROWS)
        connection.exec_driver_sql("DROP TABLE incoming")

    def prepare(self, connection: Connection, now: datetime) -> None:
        """Make the partition of the next month, while nobody waits for it."""
        self._make(connection, _next(f"{now:%Y-%m}"))

    def _make(self, connection: Connection, month: str) -> None:
        if not _FIRST_MONTH <= month <= _LAST_MONTH:
            return
        bounds = f"FROM ('{month}-01 00:00:00+00') TO ('{_next(month)}-01 00:00:00+00')"
        table = f"exchanges_{month.replace('-', '')}"
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {table} PARTITION OF exchanges FOR VALUES {bounds}")

    def horizon(self, at: datetime) -> datetime:
        """Whole months go: the beginning of the month of this time."""
        return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def forget(self, connection: Connection, until: datetime) -> bool:
        """Drop the months before this one. Returns whether there may be more."""
        for (table,) in connection.exec_driver_sql(_MONTHS).all():
            month = re.fullmatch(r"exchanges_(\d{6})", table)
            if month and month[1] < f"{until:%Y%m}":
                connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("DELETE FROM exchanges_other WHERE opened_at < %s", (until,))
        return False

    def text(self, at: datetime | None) -> str:
        """A time as rows have it; "" for none, which is before every other."""
        return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _copy(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY is the driver's alone; its errors leave it as SQLAlchemy's."""
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            for one in rows:
                copy.write_row(one)
    except errors.Error as exc:
        raise DBAPIError.instance(_COPY, None, exc, errors.Error, dialect=connection.dialect) from None


def _next(month: str) -> str:
    year, number = map(int, month.split("-"))
    return f"{year + number // 12}-{number % 12 + 1:02}"
