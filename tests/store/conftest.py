"""Databases of the store tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.sinks.database import Database
from services.sinks.reading import SqlArchive
from shared.books.archive import Archive
from tests.support import postgres
from tests.support.postgres import NoPostgres, Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL of this session alone."""
    try:
        with postgres.running() as server:
            yield server
    except NoPostgres as exc:
        pytest.skip(str(exc))


@pytest.fixture
def postgres_database(postgres_server: Postgres) -> Iterator[Database]:
    """A database of PostgreSQL without tables."""
    found = Database(postgres_server.url)
    with found.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    yield found
    found.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """A database in a file that does not exist yet."""
    found = Database(f"sqlite:///{tmp_path}/books.sqlite")
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """A database without tables, of each kind."""
    found: Database = request.getfixturevalue(f"{request.param}_database")
    return found


@pytest.fixture
def url(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> str:
    """Where the same database is found, for another connection."""
    if not database.postgres:
        return f"sqlite:///{tmp_path}/books.sqlite"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.url


@pytest.fixture
async def archive(database: Database, url: str) -> AsyncIterator[Archive]:
    found = SqlArchive(url)
    yield found
    await found.close()
