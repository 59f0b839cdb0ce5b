"""What SQLite does in its own way: times are text, and rows are deleted in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from services.sinks import merge
from services.sinks.rows import COLUMNS

HOUR = "strftime('%Y-%m-%d %H:00:00.000000', {0})"
_USAGE, _ROWS = merge.usage(HOUR), merge.rows()
_INSERT = f"INSERT INTO incoming ({merge.names(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
_PIECE = 10_000
_FORGET = f"""
    DELETE FROM exchanges WHERE rowid IN (SELECT rowid FROM exchanges WHERE opened_at < ? LIMIT {_PIECE})
"""  # noqa: S608


class Sqlite:
    """Merges batches, and deletes old rows."""

    def merge(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write these rows, and what they change in usage."""
        connection.exec_driver_sql("CREATE TEMP TABLE IF NOT EXISTS incoming AS SELECT * FROM exchanges WHERE false")
        connection.exec_driver_sql("DELETE FROM incoming")
        connection.exec_driver_sql(_INSERT, list(rows))
        connection.exec_driver_sql(_USAGE.format(**merge.span(rows)))
        connection.exec_driver_sql(_ROWS)

    def prepare(self, connection: Connection, now: datetime) -> None:
        """Nothing is to be prepared."""

    def horizon(self, at: datetime) -> datetime:
        """Rows go one by one."""
        return at

    def forget(self, connection: Connection, until: datetime) -> bool:
        """Delete some rows from before. Returns whether there may be more."""
        return connection.exec_driver_sql(_FORGET, (self.text(until),)).rowcount == _PIECE

    def text(self, at: datetime | None) -> str:
        """A time as rows have it; "" for none, which is before every other."""
        return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S.%f")
