"""Finding exchanges: the database and the ledger answer the same questions in the same way, page by page."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.meter.settle import Ledger, Settlement
from services.sinks import finding
from services.sinks.database import Database
from shared.books import finding as in_ledger
from shared.books.archive import Archive
from shared.books.books import Books
from shared.books.exchanges import TEXTS, BadToken, Exchange, Page, Place, Wanted
from shared.books.periods import HOUR, Range
from shared.books.summing import Group, Question
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.errors import SinkUnavailable
from shared.runtime.store import Store
from tests.support.booked import NOW, SHARDS, VALUES, followed, settled
from tests.support.entries import entry


async def pages(ask: Any, wanted: Wanted, limit: int) -> list[Exchange]:
    """All pages of an answer."""
    found: list[Exchange] = []
    after: Place | None = None
    while True:
        page: Page = await ask(wanted, after=after, limit=limit)
        assert len(page.exchanges) <= limit
        found += page.exchanges
        if page.next is None:
            return found
        after = Place.parse(page.next.token)
        assert after == page.next


def asking(name: str, value: str) -> Wanted:
    said: dict[str, Any] = {name: value}
    return Wanted(**said)


async def test_database_and_ledger_find_the_same(redis: Store, database: Database, archive: Archive) -> None:
    rng = random.Random(1)
    everything = await settled(redis, rng, 100)
    assert not await archive.ready()
    await followed(redis, database)
    assert await archive.ready()
    books = Books(redis, SHARDS)
    questions = [asking(name, rng.choice(VALUES[name])) for name in TEXTS if name in VALUES]
    for _ in range(12):
        names = rng.sample(sorted(VALUES.keys() & set(TEXTS)), 2)
        since = NOW - timedelta(hours=rng.randint(0, 240))
        said: dict[str, Any] = {name: rng.choice(VALUES[name]) for name in names}
        questions.append(Wanted(since=since, until=since + timedelta(hours=rng.randint(0, 100)), **said))
    questions += [Wanted(exchange_id=everything[7].exchange_id), Wanted(exchange_id="none")]
    for wanted in questions:
        expected = [one for one in everything if wanted.fits(one)]
        limit = rng.choice([11, 40, 1000])
        assert await pages(archive.find, wanted, limit) == expected, wanted
        assert await pages(lambda w, **k: in_ledger.find(books, w, **k), wanted, limit) == expected, wanted


async def test_what_a_row_holds_otherwise_is_found_as_it_was_sent(
    redis: Store, database: Database, archive: Archive
) -> None:
    """PostgreSQL has no NUL, and an index no text of any length."""
    id, odd = ExchangeId(new_boot(), 0, 0), {"user": "a\0b", "model": "é" * 256}
    one = entry(id, opened_ms=int(NOW.timestamp() * 1000), request_id="r\0", **odd)
    await Ledger(redis).settle([Settlement(id, one, [])])
    await followed(redis, database)
    for name, value in {**odd, "request_id": "r\0"}.items():
        assert [one.exchange_id for one in await pages(archive.find, asking(name, value), 5)] == [str(id)], name
    only = {Group.USER: odd["user"], Group.MODEL: odd["model"]}
    [found] = await archive.sums(Question(Range(NOW, NOW + HOUR, daily=False), only=only))
    assert found.counters["requests"] == 1
    assert await archive.sums(Question(Range(NOW, NOW + HOUR, daily=False), only={Group.USER: "\0"})) == []


@pytest.mark.parametrize("id", ["", "x", "\0", "01K00000000000000000000000.3.12\n"])
def test_a_page_begins_behind_an_exchange(id: str) -> None:
    with pytest.raises(BadToken):
        Place.parse(Place(NOW, id).token)


async def test_pages_hold_while_new_exchanges_arrive(redis: Store, database: Database, archive: Archive) -> None:
    everything = await settled(redis, random.Random(3), 30)
    await followed(redis, database)
    first = await archive.find(Wanted(), after=None, limit=10)
    id = ExchangeId(new_boot(), 0, 0)
    await Ledger(redis).settle([Settlement(id, entry(id, opened_ms=int(NOW.timestamp() * 1000) + 1), [])])
    await followed(redis, database)
    second = await archive.find(Wanted(), after=first.next, limit=10)
    assert [*first.exchanges, *second.exchanges] == everything[:20]


async def test_a_page_looks_through_a_bounded_number_and_goes_on_behind_it(redis: Store, database: Database) -> None:
    everything = await settled(redis, random.Random(4), 60)
    await followed(redis, database)
    wanted, after, looks, found = Wanted(model="o3", provider="openai"), None, 0, []
    while looks == 0 or after is not None:
        with database.ask() as connection:
            page = finding.find(connection, wanted, after, 50, look=10)
        after, looks = page.next, looks + 1
        found += page.exchanges
    assert found == [one for one in everything if wanted.fits(one)]
    assert looks == 7


async def test_what_the_ledger_no_longer_has_is_said(redis: Store) -> None:
    everything = await settled(redis, random.Random(5), 30)
    books = Books(redis, SHARDS)
    assert (await in_ledger.find(books, Wanted(), after=None, limit=100)).since is None
    bounded = await in_ledger.find(books, Wanted(), after=None, limit=100, most=9)
    assert len(bounded.exchanges) <= 9
    assert bounded.since is not None
    for shard in range(SHARDS):
        await redis.xtrim(f"ar:{{{shard}}}:ledger", maxlen=4, approximate=False)
    trimmed = await in_ledger.find(books, Wanted(), after=None, limit=100)
    assert len(trimmed.exchanges) < len(everything)
    assert trimmed.since is not None


async def test_a_question_that_takes_too_long_is_given_up(database: Database, url: str) -> None:
    database.migrate()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    short = Database(url, statement_seconds=0.2)
    with pytest.raises(SinkUnavailable):
        with short.ask() as connection:
            connection.execute(sa.text(endless))
    with short.ask() as connection:  # and the connection is good for another
        assert connection.scalar(sa.text("SELECT 1")) == 1
    short.close()


_MANY = """
    INSERT INTO exchanges (opened_at, exchange_id, settled_at, shard, epoch, revision, final, key, team, "user",
        provider, model, outcome, source, ended, cause, streamed, complete, drift, request_id, response_id)
    SELECT at, 'x.0.' || n, at, 0, 1, 1, true, md5((n % 500)::text),
        CASE WHEN n % 10 = 0 THEN 't' || n % 70 ELSE '' END, CASE WHEN n % 4 = 0 THEN 'u' || n % 9000 ELSE '' END,
        'p' || n % 3, 'm' || n % 20, 'completed', 'reported', CASE WHEN n % 100 = 0 THEN 'cut' ELSE 'whole' END,
        CASE WHEN n % 100 = 0 THEN 'client_gone' ELSE '' END, true, true, false, 'req-' || n, 'resp-' || n
    FROM (SELECT n, timestamptz '2026-11-30' - n * interval '150 days' / {rows} AS at
        FROM generate_series(1, {rows}) n) numbers
"""


_ROWS, _LOOK = 30_000, 1000


async def test_each_question_uses_an_index_or_looks_through_a_bounded_number(postgres_database: Database) -> None:
    """By what PostgreSQL says that it has done, over six months with many rows."""
    postgres_database.migrate()
    with postgres_database.begin() as connection:
        for month in range(7, 13):
            after = "2027-01" if month == 12 else f"2026-{month + 1:02}"
            bounds = f"FROM ('2026-{month:02}-01 00:00:00+00') TO ('{after}-01 00:00:00+00')"
            connection.exec_driver_sql(f"CREATE TABLE months_{month} PARTITION OF exchanges FOR VALUES {bounds}")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(_MANY.format(rows=_ROWS).replace("%", "%%"))
        connection.exec_driver_sql("ANALYZE exchanges")
    values = {"exchange_id": "x.0.77", "key": "b" * 32, "team": "t10", "user": "u8", "provider": "p1", "model": "m1"}
    values |= {"ended": "cut", "cause": "client_gone", "request_id": "req-5", "response_id": "resp-5"}
    assert values.keys() == set(TEXTS)
    for name, value in (*values.items(), ("model", "never"), ("ended", "whole"), ("cause", "never")):
        with postgres_database.ask() as connection:
            looked = rows_read(connection, asking(name, value))
        assert looked <= _LOOK + 10, (name, value)  # a row more of each month


def rows_read(connection: sa.Connection, wanted: Wanted) -> int:
    """The most rows that a statement of a page has read from tables, those that did not fit included."""
    read = []
    statements: list[tuple[str, Any]] = []
    engine = connection.engine
    listen = lambda c, cursor, statement, parameters, *_: statements.append((statement, parameters))  # noqa: E731
    sa.event.listen(engine, "before_cursor_execute", listen)
    finding.find(connection, wanted, None, 100, _LOOK)
    sa.event.remove(engine, "before_cursor_execute", listen)
    for statement, parameters in statements:
        [(plan,)] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).all()
        read.append(sum(scanned(node) for node in nodes(plan[0]["Plan"]) if "Plans" not in node))
    return max(read)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", []) for node in nodes(part))]


def scanned(node: dict[str, Any]) -> int:
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
