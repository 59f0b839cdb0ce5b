"""Settle script and reader of tails against a real Valkey, driven by Hypothesis, with a dictionary as the model.

Two consumers of one shard, neither of which knows of the other; records come twice, late and in any order; consumers
crash; gateways die and turn up again. Whatever happens, every exchange is booked once, and the books agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from services.meter.consumer import ShardConsumer, Timing
from services.meter.metrics import MeterMetrics
from services.meter.settle import Ledger
from shared.books import audit, boots, ledger, streams
from shared.books.books import Books
from shared.books.boots import BootState
from shared.contract import names
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Fields
from shared.runtime import store
from shared.runtime.store import Store
from tests.support.estimator import WordEstimator
from tests.support.tails import records, send

T = TypeVar("T")
TEAM = st.sampled_from(["", "red", "blue"])
PICK = st.integers(0, 1_000)
AT_ONCE = Timing(tidy=-1.0)  # every exchange counts as left


class Machine(RuleBasedStateMachine):
    """`exchanges` and `tokens` are the model: all that was ever opened, and what each reports."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis: Store = store.connect(self.url)
        self.run(self.redis.flushall())
        self.run(streams.create_group(self.redis, 0))
        self.workers = [self._worker(), self._worker()]
        self.boot = new_boot()
        self.exchanges: list[tuple[ExchangeId, list[Fields]]] = []
        self.tokens: dict[ExchangeId, int] = {}

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def _worker(self) -> ShardConsumer:
        return ShardConsumer(self.redis, Ledger(self.redis), 0, 50, WordEstimator(), MeterMetrics(), AT_ONCE)

    @rule(prompt=st.integers(1, 50), answer=st.integers(1, 50), segments=st.integers(0, 3), team=TEAM)
    def open(self, prompt: int, answer: int, segments: int, team: str) -> None:
        id = ExchangeId(self.boot, 0, len([one for one, _ in self.exchanges if one.boot == self.boot]))
        self.exchanges.append((id, records(id, prompt=prompt, answer=answer, segments=segments, team=team)))
        self.tokens[id] = prompt + answer
        self._send(id, 0)

    @precondition(lambda self: self.exchanges)
    @rule(which=PICK, record=PICK)
    def a_record_comes(self, which: int, record: int) -> None:
        id, all_of_it = self.exchanges[which % len(self.exchanges)]
        self._send(id, record % len(all_of_it))

    @precondition(lambda self: self.exchanges)
    @rule(which=PICK)
    def the_rest_comes(self, which: int) -> None:
        id, all_of_it = self.exchanges[which % len(self.exchanges)]
        for number in range(len(all_of_it)):
            self._send(id, number)

    @rule(worker=st.integers(0, 1))
    def a_worker_reads(self, worker: int) -> None:
        entries = self.run(streams.read(self.redis, 0, count=50, block_ms=1))
        self.run(self.workers[worker].take(entries))

    @rule(worker=st.integers(0, 1))
    def a_worker_crashes(self, worker: int) -> None:
        self.workers[worker] = self._worker()
        self.run(self.workers[worker].recover())

    @rule(worker=st.integers(0, 1))
    def a_worker_sweeps(self, worker: int) -> None:
        self.a_worker_reads(worker)
        self.run(self.workers[worker].sweep())

    @precondition(lambda self: self.exchanges)
    @rule()
    def the_gateway_is_adopted(self) -> None:
        self.run(boots.heartbeat(self.redis, {self.boot: {}}, BootState.ADOPTED))
        self.boot = new_boot()  # what is opened from now on is another's

    @rule()
    def redis_forgets_its_scripts(self) -> None:
        self.run(self.redis.script_flush())

    @invariant()
    def the_books_agree(self) -> None:
        found = self.run(audit.audit(Books(self.redis, 1)))
        wrong = [line for line in found.differences if not line.startswith("conservation")]
        assert wrong == []
        assert found.exchanges <= len(self.exchanges)

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.run(self.redis.aclose())
            self.loop.close()

    def _finish(self) -> None:
        """All records arrive, and one meter reads them."""
        for id, all_of_it in self.exchanges:
            for number in range(len(all_of_it)):
                self._send(id, number)
        worker = self._worker()
        self.run(worker.recover())
        while entries := self.run(streams.read(self.redis, 0, count=50, block_ms=1)):
            self.run(worker.take(entries))
        self.run(worker.sweep())
        self.the_books_agree()
        latest = {entry.exchange_id: entry for entry in self.run(self._ledger())}
        assert latest.keys() == {str(id) for id, _ in self.exchanges}
        assert all(entry.final for entry in latest.values())
        assert self.run(self.redis.xlen(names.tail(0))) == 0
        for id, _ in self.exchanges:
            entry = latest[str(id)].entry
            if entry.outcome == "completed":
                assert entry.total_tokens == self.tokens[id]
            else:  # given up before the rest came
                assert (entry.outcome, entry.source) == ("gateway_lost", "partial")

    async def _ledger(self) -> list[ledger.LedgerEntry]:
        return [entry async for entry in ledger.read(self.redis, 0)]

    def _send(self, id: ExchangeId, number: int) -> None:
        all_of_it = next(fields for one, fields in self.exchanges if one == id)
        self.run(send(self.redis, id, [all_of_it[number]]))


def test_every_exchange_is_booked_once(redis_url: str) -> None:
    class Here(Machine):
        url = redis_url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
