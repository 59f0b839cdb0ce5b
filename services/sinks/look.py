"""What `arouter doctor` wants to know of the database: its version, its tables, and whether they can be made."""

from __future__ import annotations

import os
import sqlite3
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection

from services.sinks.database import MIGRATIONS, MIGRATIONS_TABLE, Database

_OLDEST = 140_000  # of PostgreSQL, as it says it
_CREATES = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AND NOT pg_is_in_recovery()"


class Tables(StrEnum):
    """The tables of a database, compared with those of this version."""

    MISSING = "missing"
    EARLIER = "earlier"
    SAME = "same"
    LATER = "later"


class State(NamedTuple):
    """What a database is."""

    server: str  # its name and version
    fit: bool  # whether that version will do
    tables: Tables
    creates: bool  # whether its user may make tables


def look(database: Database) -> State:
    """Look at a database, and change nothing. SinkError where it is away."""
    if not database.exists:  # SQLite would make the file
        return State(_sqlite(), True, Tables.MISSING, _writable(database.file))
    with database.read() as connection:
        tables = _tables(connection)
        if not database.postgres:
            return State(_sqlite(), True, tables, _writable(database.file))
        fit = int(str(connection.scalar(sa.text("SHOW server_version_num")))) >= _OLDEST
        version = connection.scalar(sa.text("SHOW server_version"))
        return State(f"PostgreSQL {version}", fit, tables, bool(connection.scalar(sa.text(_CREATES))))


def _tables(connection: Connection) -> Tables:
    context = MigrationContext.configure(connection, opts={"version_table": MIGRATIONS_TABLE})
    revision = context.get_current_revision()
    if revision is None:
        return Tables.MISSING
    scripts = ScriptDirectory(str(MIGRATIONS))
    if revision == scripts.get_current_head():
        return Tables.SAME
    try:
        scripts.get_revision(revision)
    except CommandError:  # nobody here knows it
        return Tables.LATER
    return Tables.EARLIER


def _sqlite() -> str:
    return f"SQLite {sqlite3.sqlite_version}"


def _writable(file: Path | None) -> bool:
    """Whether a file can be written, or made."""
    if file is None:
        return True
    at = file
    while not at.exists():
        at = at.parent
    return os.access(at, os.W_OK) and (at == file or at.is_dir())
