"""The SQL sink on real databases, driven by Hypothesis: deliveries that come twice, late, after a crash, from another
server. Rows are compared with a model, and usage with the sum of the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, ClassVar, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from services.sinks import merge, postgres, sqlite
from services.sinks.database import Database
from services.sinks.settings import SinkSettings
from services.sinks.sql import SqlSink
from services.sinks.tables import CURSORS, EXCHANGES, GROUP, USAGE
from shared.books.follow import Batch
from shared.books.followers import Cursor
from shared.books.ledger import LedgerEntry
from shared.contract.booked import BOOKED, booked
from shared.contract.entry import Entry
from shared.runtime.errors import Overtaken
from tests.support.entries import entry
from tests.support.tails import OPENED_MS

T = TypeVar("T")
HOUR_MS = 3_600_000
SETTINGS = SinkSettings(database_keep_days=0)
CHANGES = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["a" * 64, "b" * 64]),
        "team": st.sampled_from(["", "red"]),
        "user": st.sampled_from(["", "u"]),
        "provider": st.sampled_from(["openai", "anthropic"]),
        "model": st.sampled_from(["m", "n"]),
        "source": st.sampled_from(["reported", "estimated", "partial"]),
        "input_tokens": st.none() | st.integers(0, 2**53 - 1),
        "cost_nanousd": st.none() | st.integers(0, 2**53 - 1),
        "price_version": st.sampled_from([None, "", "v"]),
    }
)


class Machine(RuleBasedStateMachine):
    """`ledger` is what was settled, in order; `model` what the last delivery of each exchange said that counted."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.database.migrate()
        with self.database.begin() as connection:
            for table in (EXCHANGES, USAGE, CURSORS):
                connection.execute(table.delete())
        self.sink = self._new_sink()
        self.ledger: list[LedgerEntry] = []
        self.model: dict[str, tuple[tuple[int, int], Entry]] = {}
        self.cursor = Cursor()
        self.epoch = 1

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def _new_sink(self) -> SqlSink:
        sink = SqlSink(self.database, SETTINGS)
        self.run(sink.cursors([0]))
        return sink

    @rule(n=st.integers(0, 1), changes=CHANGES)
    def settle(self, n: int, changes: dict[str, Any]) -> None:
        """An exchange is settled, or amended: its hour stays, all else may change. There are two of them, so that many
        revisions meet."""
        revision = 1 + sum(one.exchange_id == f"x.0.{n}" for one in self.ledger)
        what = entry(f"x.0.{n}", opened_ms=OPENED_MS + n * HOUR_MS, **changes)
        id = f"{OPENED_MS + len(self.ledger)}-0"
        self.ledger.append(LedgerEntry(0, id, what.exchange_id, revision, False, what, None))

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Any piece of the ledger, from before the cursor or behind it: at least once, and in order."""
        if not self.ledger:
            return
        first = data.draw(st.integers(0, len(self.ledger) - 1))
        last = data.draw(st.integers(first, len(self.ledger) - 1))
        self._write(self.ledger[first : last + 1])

    @rule(data=st.data())
    def deliver_out_of_order(self, data: st.DataObject) -> None:
        """One by one, in any order."""
        for one in data.draw(st.permutations(self.ledger[-4:])):
            self._write([one])

    def _write(self, entries: list[LedgerEntry]) -> None:
        after = Cursor(entries[-1].id, self.epoch, "server")
        self.run(self.sink.write([Batch(0, self.cursor, after, entries)]))
        self.cursor = after
        for one in entries:
            rank = (self.epoch, one.revision)
            if one.exchange_id not in self.model or self.model[one.exchange_id][0] <= rank:
                self.model[one.exchange_id] = rank, one.entry

    @rule()
    def zombie(self) -> None:
        """A process that has slept writes with a cursor of before."""
        if self.cursor == Cursor() or not self.ledger:
            return
        old = Batch(0, self.cursor._replace(position="slept"), self.cursor, self.ledger)
        with pytest.raises(Overtaken):
            self.run(self.sink.write([old]))

    @rule()
    def crash(self) -> None:
        """The process is gone amid a transaction; another one begins at the cursor."""
        with self.database.begin() as connection:
            connection.execute(USAGE.update().values(requests=USAGE.c.requests + 1))
            connection.rollback()
        self.sink = self._new_sink()
        assert self.run(self.sink.cursors([0]))[0] == self.cursor

    @rule()
    def lose_the_cursor(self) -> None:
        """Somebody deletes it: the epoch is higher than any before, and all is read again."""
        with self.database.begin() as connection:
            connection.execute(CURSORS.delete())
        self.cursor, self.epoch = Cursor(), self.epoch + 1

    @rule(data=st.data())
    def change_the_server(self, data: st.DataObject) -> None:
        """The server has lost the end of the ledger, and may settle something else in its place."""
        if self.ledger:
            del self.ledger[data.draw(st.integers(0, len(self.ledger) - 1)) :]
        self.epoch += 1

    @invariant()
    def rows_are_the_model(self) -> None:
        with self.database.read() as connection:
            query = sa.select(EXCHANGES.c.exchange_id, *(EXCHANGES.c[name] for name in GROUP))
            rows = {id: tuple(group) for id, *group in connection.execute(query)}
        assert rows == {id: tuple(getattr(one, name) for name in GROUP) for id, (_, one) in self.model.items()}

    @invariant()
    def usage_is_the_sum_of_the_rows_and_of_the_model(self) -> None:
        module: Any = postgres if self.database.postgres else sqlite
        with self.database.read() as connection:
            sums = connection.exec_driver_sql(merge.summed(module.HOUR)).mappings().all()
            usage = connection.execute(sa.select(USAGE)).mappings().all()
        wanted: dict[tuple[str, ...], list[int]] = {}
        for _, one in self.model.values():
            group = (str(one.opened_ms // HOUR_MS), *(getattr(one, name) for name in GROUP))
            before = wanted.get(group, [0] * len(BOOKED))
            wanted[group] = [a + b for a, b in zip(before, booked(one), strict=True)]
        everything = sorted(wanted.values())
        assert sorted([int(one[name]) for name in BOOKED] for one in sums) == everything
        assert sorted(v for one in usage if any(v := [int(one[name]) for name in BOOKED])) == everything

    def teardown(self) -> None:
        self.run(self.sink.close())
        self.loop.close()


def test_whatever_comes_the_books_are_right(database: Database) -> None:
    Machine.database = database
    run_state_machine_as_test(
        Machine,
        settings=settings(stateful_step_count=15, suppress_health_check=list(HealthCheck)),
    )
