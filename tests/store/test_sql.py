"""The SQL sink on real databases: rows, usage and cursors agree, whatever comes twice, late or after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.sinks import postgres, sqlite
from services.sinks.database import Database
from services.sinks.merge import names, summed
from services.sinks.rows import COLUMNS, row
from services.sinks.settings import SinkSettings
from services.sinks.sql import SqlSink
from services.sinks.tables import EXCHANGES, METADATA, USAGE
from shared.books.follow import Batch
from shared.books.followers import Cursor
from shared.books.ledger import LedgerEntry
from shared.contract import entry as entries
from shared.contract.booked import BOOKED, booked
from shared.contract.entry import Entry
from shared.contract.tail import Attempt
from shared.runtime.errors import Overtaken, SettingsError, SinkError, SinkRefused, SinkUnavailable
from tests.support.entries import entry
from tests.support.postgres import Postgres
from tests.support.tails import OPENED_MS

GOLDEN = Path(__file__).parents[1] / "contract/golden"
DAY_MS = 86_400_000
SETTINGS = SinkSettings(database_keep_days=0)


def settled(id: str, revision: int = 1, *, at_ms: int = OPENED_MS, shard: int = 0, **changes: Any) -> LedgerEntry:
    return LedgerEntry(shard, f"{at_ms + revision}-0", id, revision, True, entry(id, **changes), None)


def batch(*given: LedgerEntry, before: Cursor = Cursor(), epoch: int = 1, shard: int = 0) -> Batch:  # noqa: B008
    after = Cursor(given[-1].id if given else before.position, epoch, "server")
    return Batch(shard, before, after, given)


async def written(database: Database, *given: LedgerEntry, **cursor: Any) -> SqlSink:
    sink = SqlSink(database, SETTINGS)
    await sink.cursors([0])
    await sink.write([batch(*given, **cursor)])
    return sink


def rows(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    wanted = [EXCHANGES.c[name] for name in columns or COLUMNS]
    with database.read() as connection:
        return [tuple(one) for one in connection.execute(sa.select(*wanted).order_by(EXCHANGES.c.exchange_id))]


def usage(database: Database) -> dict[tuple[str, ...], dict[str, int]]:
    """Usage by hour and group, without what is 0 in every respect."""
    with database.read() as connection:
        found = connection.execute(sa.select(USAGE)).mappings().all()
    return {
        tuple(str(one[name])[:19] for name in ("hour", "key", "team", "user", "provider", "model")): counts
        for one in found
        if any((counts := {name: int(one[name]) for name in BOOKED}).values())
    }


def sums(database: Database) -> dict[tuple[str, ...], dict[str, int]]:
    """The same, added up from the rows."""
    hour = (postgres if database.postgres else sqlite).HOUR
    with database.read() as connection:
        found = connection.exec_driver_sql(summed(hour)).mappings().all()
    return {
        tuple(str(one[name])[:19] for name in ("hour", "key", "team", "user", "provider", "model")): {
            name: int(one[name]) for name in BOOKED
        }
        for one in found
    }


async def test_an_exchange_is_a_typed_row(database: Database) -> None:
    attempt = Attempt("openai", "gpt-4o", "first", 200, "", 12)
    raw_usage = {"x": 1, "é": None}
    changes: dict[str, Any] = {"tags": ("a", "b"), "attempts": (attempt,), "raw_usage": raw_usage, "ratio": 1.5}
    await written(database, settled("x.0.1", cost_microusd=7, cost_nanousd=7000, user="u", **changes))
    with database.read() as connection:
        [found] = connection.execute(sa.select(EXCHANGES)).mappings().all()
    assert found["opened_at"].replace(tzinfo=UTC) == datetime.fromtimestamp(OPENED_MS / 1000, UTC)
    assert (found["input_tokens"], found["cache_read_tokens"], found["cost_nanousd"]) == (10, None, 7000)
    assert (found["final"], found["streamed"], found["drift"]) == (True, True, False)
    assert (found["user"], found["team"], found["ratio"]) == ("u", "", 1.5)
    assert (found["tags"], found["raw_usage"]) == (["a", "b"], raw_usage)
    assert found["attempts"] == [msgspec.structs.asdict(attempt)]
    assert found["units"] is None
    assert usage(database) == sums(database) != {}


async def test_revisions_replace_each_other_and_usage_follows(database: Database) -> None:
    first = settled("x.0.1", 1, provider="openai", model="gpt-4o", source="partial", price_version="v")
    second = settled("x.0.1", 2, provider="anthropic", model="claude", input_tokens=99, cost_microusd=5)
    sink = await written(database, first)
    assert [group[-2:] for group in usage(database)] == [("openai", "gpt-4o")]
    [counts] = usage(database).values()
    assert (counts["partial_requests"], counts["unpriced_requests"]) == (1, 1)
    await sink.write([batch(second, before=Cursor(first.id, 1, "server"))])
    [(group, counts)] = usage(database).items()
    assert group[-2:] == ("anthropic", "claude")
    assert (counts["requests"], counts["input_tokens"], counts["cost_microusd"]) == (1, 99, 5)
    assert (counts["cost_nanousd"], counts["partial_requests"], counts["unpriced_requests"]) == (5000, 0, 0)
    assert usage(database) == sums(database)


@pytest.mark.parametrize(("epoch", "expected"), [(1, 20), (2, 10)])
async def test_an_older_revision_counts_in_a_later_epoch_only(database: Database, epoch: int, expected: int) -> None:
    new = settled("x.0.1", 2, input_tokens=20)
    sink = await written(database, new)
    await sink.write([batch(settled("x.0.1", 1), before=Cursor(new.id, 1, "server"), epoch=epoch)])
    assert rows(database, "input_tokens") == [(expected,)]
    assert usage(database) == sums(database)


async def test_the_later_of_equal_revisions_stands(database: Database) -> None:
    first = settled("x.0.1")
    sink = await written(database, first, settled("x.0.2"))
    await sink.write([batch(settled("x.0.1", input_tokens=11), first, before=Cursor("1700000000001-0", 1, "server"))])
    assert rows(database, "exchange_id", "input_tokens") == [("x.0.1", 10), ("x.0.2", 10)]
    assert usage(database) == sums(database)


async def test_nothing_is_written_where_one_cursor_has_moved(database: Database) -> None:
    sink = await written(database, settled("x.0.1"))
    good = batch(settled("x.1.1", shard=1), shard=1)
    with pytest.raises(Overtaken):
        await sink.write([good, batch(settled("x.0.2"), before=Cursor("elsewhere", 1, "server"))])
    with pytest.raises(Overtaken):
        await sink.write([good, batch(settled("x.0.2"))])
    assert len(rows(database, "exchange_id")) == 1
    assert (await sink.cursors([0, 1]))[1] == Cursor()


async def test_two_that_begin_at_once_do_not_both_write(database: Database) -> None:
    first, second = SqlSink(database, SETTINGS), SqlSink(database, SETTINGS)
    await asyncio.gather(first.cursors([0]), second.cursors([0]))
    results = await asyncio.gather(
        *(sink.write([batch(settled("x.0.1"))]) for sink in (first, second)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "Overtaken"]


def golden() -> dict[str, bytes]:
    """Entries as every version has stored them."""
    found = {str(path.relative_to(GOLDEN)): path.read_bytes() for path in GOLDEN.glob("1.1/entry*.json")}
    for path in GOLDEN.glob("1.0/ledger_*.json"):
        found[str(path.relative_to(GOLDEN))] = json.loads(path.read_text())["entry"].encode()
    return found


@pytest.mark.parametrize("name", sorted(golden()))
async def test_entries_of_every_version_make_a_row(database: Database, name: str) -> None:
    found = entries.decode(golden()[name])
    await written(database, LedgerEntry(0, "1700000000000-1", found.exchange_id, 1, True, found, None))
    [(id, cost)] = rows(database, "exchange_id", "cost_nanousd")
    assert id == found.exchange_id
    assert cost == (found.cost_nanousd if found.cost_nanousd is not None else (found.cost_microusd or 0) * 1000 or None)
    assert usage(database) == sums(database)


ODD: list[dict[str, Any]] = [
    {"model": "nul\0model", "raw_usage": {"a\0": ["b\0", 1]}, "user_agent": "\0"},
    {"model": "m" * 5000, "user": "ü" * 5000, "team": "t" * 5000},
    {"response_bytes": 2**70, "duration_ms": -1, "status": 999_999},
    {"opened_ms": 10**18},
    {"opened_ms": -5},
    {"cause": "'; DROP TABLE exchanges; --", "finish": ["\\N", "\t\n\r\\"], "request_id": "\\N\t\\."},
    {"response_model": "\U0001f600 \u202e", "session": "\\"},
]


@pytest.mark.parametrize("changes", ODD, ids="-".join)
async def test_no_value_breaks_a_row(database: Database, changes: dict[str, Any]) -> None:
    await written(database, settled("x.0.1", **changes))
    assert len(rows(database)) == 1
    if "request_id" in changes:
        assert rows(database, *changes) == [tuple(changes.values())]
    assert usage(database) == sums(database)


def test_what_a_row_counts_is_what_is_booked() -> None:
    """By SQLite's own words, for what the sums of a database rest on."""
    found: dict[str, Any] = {"source": "estimated", "price_version": "v", "cost_microusd": None, "reasoning_tokens": 3}
    one = entry("x.0.1", **found)
    values = row(LedgerEntry(0, "5-0", "x.0.1", 1, True, one, None), 1)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE exchanges ({names(COLUMNS)})")
        connection.execute(f"INSERT INTO exchanges VALUES ({', '.join('?' * len(COLUMNS))})", values)
        [counted] = connection.execute(summed(sqlite.HOUR)).fetchall()
    assert counted[-len(BOOKED) :] == booked(one)


async def test_usage_is_kept_by_the_hour_in_utc(database: Database) -> None:
    hour = 3_600_000
    first = OPENED_MS // hour * hour
    await written(
        database,
        *(settled(f"x.0.{n}", opened_ms=at) for n, at in enumerate((first - 1, first, first + hour - 1, first + hour))),
    )
    counts = {group[0]: counts["requests"] for group, counts in usage(database).items()}
    assert counts == {"2023-11-14 21:00:00": 1, "2023-11-14 22:00:00": 2, "2023-11-14 23:00:00": 1}


def test_migrations_lead_up_and_down_and_make_the_tables(database: Database) -> None:
    database.migrate()
    database.migrate()  # nothing is left to do
    with database.begin() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": lambda name, kind, _: kind != "table" or name in METADATA.tables,
                "compare_type": True,
            },
        )
        assert compare_metadata(context, METADATA) == []
    database.migrate("base")
    with database.begin() as connection:
        assert set(sa.inspect(connection).get_table_names()) <= {"arouter_migrations"}
    database.migrate()


async def test_a_database_of_a_later_version_is_left_alone(database: Database) -> None:
    database.migrate()
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE arouter_migrations SET version_num = '9999'")
    with pytest.raises(SinkRefused, match="another version"):
        await SqlSink(database, SETTINGS).cursors([0])


async def test_whatever_comes_first_makes_the_tables(database: Database) -> None:
    await SqlSink(database, SinkSettings()).tend(OPENED_MS)
    assert rows(database) == []


async def test_old_rows_go_and_what_they_counted_stays(database: Database) -> None:
    now = datetime.fromtimestamp(OPENED_MS / 1000, UTC) + timedelta(days=100)
    now_ms = int(now.timestamp() * 1000)
    old, new = settled("x.0.1"), settled("x.0.2", at_ms=now_ms, opened_ms=now_ms)
    await written(database, old, new)
    sink = SqlSink(database, SinkSettings(database_keep_days=50))
    before = usage(database)
    await sink.tend(now_ms)
    await sink.tend(now_ms)
    assert rows(database, "exchange_id") == [("x.0.2",)]
    assert usage(database) == before
    # A late revision of what is gone cannot be told from a first one: it is not written.
    await sink.write([batch(settled("x.0.1", 2, input_tokens=500), before=Cursor(new.id, 1, "server"))])
    assert usage(database) == before
    sink = SqlSink(database, SinkSettings(database_keep_days=50, database_keep_usage_days=50))
    await sink.tend(now_ms)
    assert len(usage(database)) == 1


async def test_postgres_has_a_partition_for_each_month(postgres_database: Database) -> None:
    database = postgres_database
    months = [0, 31 * DAY_MS, 400 * DAY_MS]
    sink = await written(database, *(settled(f"x.0.{n}", opened_ms=OPENED_MS + at) for n, at in enumerate(months)))
    await sink.tend(OPENED_MS)
    with database.read() as connection:
        tables = {name for name in sa.inspect(connection).get_table_names() if name.startswith("exchanges_")}
    assert tables == {"exchanges_202311", "exchanges_202312", "exchanges_202412", "exchanges_other"}
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM exchanges_202312").scalar() == 1


@pytest.fixture
def frozen(postgres_server: Postgres) -> Iterator[SqlSink]:
    """A sink whose server stops answering amid a transaction."""
    found = Database(postgres_server.url)
    yield SqlSink(found, SETTINGS, patience=0.5)
    found.close()


async def test_a_server_that_does_not_answer_is_given_up(frozen: SqlSink, postgres_server: Postgres) -> None:
    await frozen.cursors([0])
    pids = postgres_server.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(SinkUnavailable):
            await frozen.cursors([0])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert 0 in await frozen.cursors([0])


async def test_what_a_database_refuses_is_said_without_its_values(postgres_database: Database) -> None:
    sink = await written(postgres_database, settled("x.0.1"))
    with postgres_database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE exchanges ADD COLUMN fresh text NOT NULL DEFAULT ''")
    second = batch(settled("x.0.2"), before=Cursor("1700000000001-0", 1, "server"))
    await sink.write([second])  # a later version has added a column
    with postgres_database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE exchanges ALTER COLUMN fresh DROP DEFAULT")
    with pytest.raises(SinkRefused, match="fresh") as caught:
        await sink.write([batch(settled("x.0.3", user="somebody"), before=second.after)])
    assert "somebody" not in str(caught.value)
    assert len(rows(postgres_database)) == 2


def test_a_server_that_is_gone_amid_a_copy_is_waited_for(postgres_database: Database) -> None:
    postgres_database.migrate()
    copied = []

    class Row(tuple[Any, ...]):
        """The connection is gone when the driver reads this."""

        __slots__ = ()

        def __iter__(self) -> Iterator[Any]:
            copied.append(1)
            postgres_database.abort()
            return super().__iter__()

    given = [row(settled(f"x.0.{n}"), 1) for n in range(2000)]
    with pytest.raises(SinkUnavailable), postgres_database.begin() as connection:
        postgres.Postgres().merge(connection, [*given, Row(given[0]), *given])
    assert copied
    assert rows(postgres_database) == []


async def test_what_the_database_says_names_no_value() -> None:
    database = Database("postgresql://somebody:hidden-word@127.0.0.1:9/books")
    with pytest.raises(SinkUnavailable) as caught:
        await SqlSink(database, SETTINGS).cursors([0])
    assert "hidden-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "mysql://a/b", "sqlite://", "nonsense", "postgresql+asyncpg-is-not://x", "postgresql://u:p4ss@Secret@h/x"],
)
def test_other_urls_are_refused_in_one_line(url: str) -> None:
    with pytest.raises(SettingsError, match="AROUTER_DATABASE_URL") as caught:
        Database(url)
    assert "Secret" not in str(caught.value)


async def test_a_file_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "books.sqlite").write_text("this is no database, and it never will be one " * 50)
    with closing(Database(f"sqlite:///{tmp_path}/books.sqlite")) as database, pytest.raises(SinkError):
        await SqlSink(database, SETTINGS).cursors([0])


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/data/books.sqlite")) as database:
        await SqlSink(database, SETTINGS).cursors([0])
    assert (tmp_path / "data/books.sqlite").stat().st_mode & 0o077 == 0


def test_every_field_of_an_entry_is_a_column() -> None:
    assert set(Entry.__struct_fields__) - {"opened_ms", "error"} == set(COLUMNS) & set(Entry.__struct_fields__)
