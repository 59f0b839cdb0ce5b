"""What doctor finds in a database: SQLite's file and a real PostgreSQL, at every stage of their tables."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from services.sinks.database import Database
from services.sinks.look import Tables, look


def at_every_stage(database: Database) -> None:
    assert (look(database).tables, look(database).creates, look(database).fit) == (Tables.MISSING, True, True)
    database.migrate()
    assert look(database).tables is Tables.SAME
    for revision, expected in (("9999", Tables.LATER), ("0001", Tables.EARLIER), ("0003", Tables.SAME)):
        with database.begin() as connection:
            connection.execute(sa.text("UPDATE arouter_migrations SET version_num = :revision"), {"revision": revision})
        assert look(database).tables is expected
    database.migrate("base")
    assert look(database).tables is Tables.MISSING
    database.close()


def test_sqlite(sqlite_database: Database, tmp_path: Path) -> None:
    assert look(sqlite_database).server.startswith("SQLite 3")
    assert list(tmp_path.iterdir()) == [], "looking at it does not make it"
    at_every_stage(sqlite_database)
    (tmp_path / "file").touch()
    assert not look(Database(f"sqlite:///{tmp_path}/file/books.sqlite")).creates


def test_postgres(postgres_database: Database) -> None:
    assert look(postgres_database).server.startswith("PostgreSQL ")
    at_every_stage(postgres_database)


def test_a_user_who_may_not_make_tables(postgres_database: Database) -> None:
    with postgres_database.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS reader")
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
        url = connection.engine.url.set(username="reader").render_as_string(hide_password=False)
    reader = Database(url.replace("+psycopg", ""))
    found = look(reader)
    reader.close()
    assert (found.creates, found.tables) == (False, Tables.MISSING)
