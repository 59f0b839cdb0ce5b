"""Scopes of limits against a real Valkey, driven by Hypothesis, with a model in plain Python.

A key, its team and everything; requests of two keys; limits that are raised, lowered and change their period; days that
go by; exchanges that are settled at once, in two steps, or never; a follower that crashes, reads again, and finds
another server; gateways that die. Rates are by Redis's own clock, and have a table of their own (`test_limits.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from services.meter.limits import NAME, LimitSink
from shared.books import boots, followers, ledger, limit_audit, limit_changes, limit_scopes, limit_upkeep
from shared.books.books import Books
from shared.books.boots import BootState
from shared.books.follow import Follower
from shared.contract import limits, names
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.limits import ModelLimits, Reset
from shared.runtime import store
from shared.runtime.store import Store
from tests.support.limit_model import Line, ScopeModel
from tests.support.limits import admit, book, fields
from tests.support.tails import OPENED_MS

T = TypeVar("T")
PICK = st.integers(0, 1_000)
AMOUNT = st.one_of(st.none(), st.integers(0, 300))
KEYS = ("a" * 64, "b" * 64)
TEAM = "research"
SCOPES = (*map(limits.key_scope, KEYS), limits.team_scope(TEAM), limits.EVERYTHING)
GROUP = limit_changes.learned_by("openai", "gpt-4o")


class Machine(RuleBasedStateMachine):
    """`model` has a scope each; `asked` every permit that was admitted and not undone, with its key and time."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis: Store = store.connect(self.url)
        self.run(self.redis.flushall())
        self.run(self.redis.zadd(names.KEYS, dict.fromkeys(KEYS, 1.0)))
        self.model = {scope: ScopeModel() for scope in SCOPES}
        self.limits = {scope: ModelLimits() for scope in SCOPES}
        self.at_ms = OPENED_MS
        self.boot = new_boot()
        self.asked: dict[str, tuple[str, int]] = {}
        self.settled: dict[str, ExchangeId] = {}
        self.provisional: dict[str, tuple[ExchangeId, int, int]] = {}
        self.permits = 0
        self.read_until = 0
        for scope in SCOPES:
            self.run(limit_scopes.start(self.books, scope, [""], self.at_ms))
        self.follower = self._follower()
        self.run(self.follower.round([0]))

    @property
    def books(self) -> Books:
        return Books(self.redis, 1)

    @property
    def open(self) -> list[str]:
        """Permits that are not settled."""
        return [permit for permit in self.asked if permit not in self.settled]

    def _count(self, boot: str) -> int:
        """How many exchanges of a boot are settled."""
        return sum(id.boot == boot for id in self.settled.values())

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    async def _now_ms(self, _: Store) -> int:
        return self.at_ms

    def _follower(self) -> Follower:
        return Follower(
            self.redis, LimitSink(self.redis, 1, self._now_ms), back_ms=10**13, count=3, monotonic=lambda: 0.0
        )

    def _scopes(self, key: str) -> tuple[str, ...]:
        """The first key alone is in the team."""
        own = limits.key_scope(key)
        return (own, limits.team_scope(TEAM), limits.EVERYTHING) if key == KEYS[0] else (own, limits.EVERYTHING)

    @rule(
        scope=st.sampled_from(SCOPES),
        usd=AMOUNT,
        tokens=AMOUNT,
        most=st.one_of(st.none(), st.integers(1, 3)),
        reset=st.sampled_from(list(Reset)),
        soft=st.booleans(),
    )
    def limits_change(
        self, scope: str, usd: int | None, tokens: int | None, most: int | None, reset: Reset, soft: bool
    ) -> None:
        self.limits[scope] = ModelLimits(usd, tokens, None, None, None, most, limit_reset=reset, soft=soft)

    @rule(key=st.sampled_from(KEYS), usd=st.integers(0, 99), tokens=st.integers(1, 99), most=AMOUNT)
    def a_request_asks(self, key: str, usd: int, tokens: int, most: int | None) -> None:
        self.permits += 1
        permit = f"{self.boot}.{self.permits}"
        taken, refused = [], False
        for scope in self._scopes(key):
            given = self.limits[scope]
            said = self.model[scope].admit(permit, given, (usd, tokens), most, self.at_ms)
            asked = admit(
                self.redis, permit, given, scope=scope, reserve=(usd, tokens), most=most, at_ms=self.at_ms, group=GROUP
            )
            found = self.run(asked)
            assert (found.verdict, found.why) == (said.verdict, said.why)
            assert (found.reserve_nanousd, found.reserve_tokens) == said.reserve
            taken += [scope] if said.verdict else []
            refused |= not said.verdict
        if refused:
            for scope in taken:
                self.model[scope].undo(permit)
            self.run(limit_scopes.release(self.redis, "undo", {scope: [permit] for scope in taken}))
        else:
            self.asked[permit] = (key, self.at_ms)

    @rule(key=st.sampled_from(KEYS), usd=st.integers(1, 99), tokens=st.integers(1, 99), final=st.booleans())
    def a_request_is_served_and_counted(self, key: str, usd: int, tokens: int, final: bool) -> None:
        before = len(self.open)
        self.a_request_asks(key, usd, tokens, None)
        if len(self.open) > before:
            self.an_exchange_is_settled(before, usd, tokens, final)
        self.the_follower_reads()

    @precondition(lambda self: self.asked)
    @rule(which=PICK)
    def a_request_ends(self, which: int) -> None:
        permit = list(self.asked)[which % len(self.asked)]
        scopes = self._scopes(self.asked[permit][0])
        for scope in scopes:
            self.model[scope].ended(permit)
        self.run(limit_scopes.release(self.redis, "ended", {scope: [permit] for scope in scopes}))

    @precondition(lambda self: self.open)
    @rule(which=PICK, usd=st.integers(0, 200), tokens=st.integers(0, 200), final=st.booleans())
    def an_exchange_is_settled(self, which: int, usd: int, tokens: int, final: bool) -> None:
        permit = self.open[which % len(self.open)]
        boot = permit.partition(".")[0]
        self.settled[permit] = ExchangeId(boot, 0, self._count(boot))
        self._settle(permit, self.settled[permit], usd, tokens, final=final)

    @precondition(lambda self: self.provisional)
    @rule(which=PICK, usd=st.integers(0, 200), tokens=st.integers(0, 200), final=st.booleans())
    def an_exchange_is_amended(self, which: int, usd: int, tokens: int, final: bool) -> None:
        permit = list(self.provisional)[which % len(self.provisional)]
        id, was_usd, was_tokens = self.provisional.pop(permit)
        self._settle(permit, id, usd, tokens, final=final, before=(was_usd, was_tokens))

    def _settle(
        self, permit: str, id: ExchangeId, usd: int, tokens: int, *, final: bool, before: tuple[int, int] | None = None
    ) -> None:
        key, at_ms = self.asked[permit]
        so_far: bytes | None = self.run(self.redis.hget(names.provisional(0), str(id)))  # type: ignore[arg-type,assignment]
        self.run(
            book(
                self.redis,
                id,
                final=final,
                so_far=(so_far or b"").decode(),
                key=key,
                team=TEAM if key == KEYS[0] else "",
                permit=permit,
                opened_ms=at_ms,
                total_tokens=tokens,
                cost_nanousd=usd,
                cost_microusd=0,
            )
        )
        if not final:
            self.provisional[permit] = (id, usd, tokens)
        more = (usd, tokens) if before is None else (usd - before[0], tokens - before[1])
        for scope, model in self.model.items():
            mine = scope in self._scopes(key)
            line = Line(permit, at_ms, *more, before is None and tokens > 0)
            model.ledger.append(line if mine else Line("", at_ms, 0, 0, False))

    @rule()
    def the_follower_reads(self) -> None:
        count = self.run(self.follower.round([0]))
        for model in self.model.values():
            model.read(self.read_until, self.read_until + count)
        self.read_until += count

    @rule()
    def the_follower_dies_before_its_cursor_moves(self) -> None:
        [cursor] = self.run(followers.cursors(self.redis, NAME, [0])).values()
        page = self.run(ledger.pages(self.redis, {0: cursor.position}, 3))[0]
        self.run(limit_scopes.apply(self.redis, 0, page.entries))
        for model in self.model.values():
            model.read(self.read_until, self.read_until + len(page.entries))
        self.follower = self._follower()

    @rule()
    def the_follower_reads_all_of_it_again(self) -> None:
        self.run(followers.forget(self.redis, NAME, 1))
        self.follower = self._follower()
        self.read_until = 0

    @rule()
    def another_server_takes_over(self) -> None:
        """The follower begins from the totals, and reads again what it has read."""
        if not self.run(self.redis.hget(names.follow(0, NAME), "position")):  # type: ignore[arg-type]
            return
        self.run(self.redis.hset(names.follow(0, NAME), "server", "the one before"))  # type: ignore[arg-type]
        self.follower = self._follower()
        for model in self.model.values():
            model.start()
        self.read_until = 0
        self.the_follower_reads()

    @rule(days=st.integers(1, 20))
    def days_go_by(self, days: int) -> None:
        self.at_ms += days * limits.DAY_MS

    @rule()
    def a_gateway_dies(self) -> None:
        self.run(boots.heartbeat(self.redis, {self.boot: {}}, BootState.ADOPTED))
        self.boot = new_boot()

    @rule()
    def redis_forgets_its_scripts(self) -> None:
        self.run(self.redis.script_flush())

    @invariant()
    def scopes_are_as_the_model_has_them(self) -> None:
        at = limits.period(self.at_ms)
        for scope, model in self.model.items():
            found = self.run(fields(self.redis, scope))
            for reset in Reset:
                field = at.field(reset)
                used = [int(found.get(f"{kind}:{field}", 0)) for kind in ("usd", "tok")]
                assert used == model.used[field], (scope, field)
            assert {name[2:] for name in found if name.startswith("p:")} == model.reserved.keys()
            sums = [sum(one[place] for one in model.reserved.values()) for place in range(3)]
            assert [int(found.get(name, 0)) for name in ("r:usd", "r:tok", "slots")] == sums

    @rule()
    def the_books_agree(self) -> None:
        assert self.run(limit_audit.audit(self.books, self.at_ms)).differences == []

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.run(self.redis.aclose())
            self.loop.close()

    def _finish(self) -> None:
        """Gateways are accounted for, and the follower reads the rest: nothing stays reserved."""
        for boot in {permit.partition(".")[0] for permit in self.asked}:
            opened = {0: self._count(boot)}
            self.run(boots.heartbeat(self.redis, {boot: opened}, BootState.ADOPTED))
        while self.run(self.follower.round([0])):
            pass
        self.run(limit_upkeep.release_dead(self.books, NAME, OPENED_MS))
        self.the_books_agree()
        for scope, model in self.model.items():
            model.start()
            found = self.run(fields(self.redis, scope))
            assert [name for name in found if name.startswith("p:")] == []
            assert {int(found.get(name, 0)) for name in ("r:usd", "r:tok", "slots")} == {0}
            assert [int(found.get("usd:e", 0)), int(found.get("tok:e", 0))] == model.used["e"]


def test_limits_agree_with_the_model_whatever_happens(redis_url: str) -> None:
    class Here(Machine):
        url = redis_url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
