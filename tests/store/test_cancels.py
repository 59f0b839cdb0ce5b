"""What runs, and cancels, between whoever asks and gateways, in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.gateway.ending import Answering
from services.gateway.running import Running
from services.meter.settle import Ledger, Settlement
from shared.books import boots, lookup, running
from shared.books.boots import BootState
from shared.books.lookup import Cancel, NoSuchExchange, State
from shared.contract import names
from shared.contract.ids import ExchangeId
from shared.contract.running import Cancelled, GatewayState, encode
from shared.runtime.store import Store
from tests.contract.samples import OPEN
from tests.support.entries import entry
from tests.support.tails import KEY, records, send

BOOT, OTHER, EARLIER = "A" * 26, "B" * 26, "0" * 26
NOW = 0.0  # seconds of patience: whoever has not answered does not


class Exchange:
    """One that runs until it is cancelled."""

    def __init__(self, id: ExchangeId) -> None:
        self.id = id
        self.answering = Answering("", "", "", "")
        self.relayed = 7
        self.first_byte_ms = None
        self.client_left = False
        self.cancels = 0

    def cancel(self) -> bool:
        self.cancels += 1
        return self.cancels == 1


class Gateway:
    """The heartbeats of a gateway, one at a time."""

    def __init__(self, store: Store, boot: str = BOOT, *ids: ExchangeId) -> None:
        self.boot = boot
        self.minted = {EARLIER: {0: 9}, boot: {0: 10}}  # a boot of this process whose ids are used up, and that of now
        self.open: dict[Any, Any] = {Exchange(id): OPEN for id in ids or [ExchangeId(boot, 0, 3)]}
        self._store = store
        self._running = Running(store, self.open, lambda: self.minted)

    async def beat(self, state: BootState = BootState.LIVE) -> None:
        said = {self.boot: encode(GatewayState(f"host of {self.boot[0]}", 1, "digest"))}
        await self._running.heard(await boots.heartbeat(self._store, self.minted, state, said))

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """It sends heartbeats all the time."""

        over = False

        async def again() -> None:
            while not over:
                await self.beat()
                await asyncio.sleep(0.01)

        task = asyncio.get_running_loop().create_task(again())
        try:
            yield
        finally:
            over = True  # redis-py may swallow a cancel
            await task


async def test_every_living_gateway_answers_what_it_runs(redis: Store) -> None:
    one, other = Gateway(redis), Gateway(redis, OTHER)
    await one.beat()
    await other.beat()
    async with one.beating(), other.beating():
        answers = await running.exchanges(redis, 60)
    assert [(boot, running.id) for boot, running in answers.oldest_first()] == [
        (BOOT, f"{BOOT}.0.3"),
        (OTHER, f"{OTHER}.0.3"),
    ]
    assert answers.silent == {}
    assert answers.gateways[OTHER].exchanges[0].bytes == 7


async def test_nothing_is_said_where_nobody_asks_and_a_question_is_answered_once(redis: Store) -> None:
    gateway = Gateway(redis)
    await gateway.beat()
    await gateway.beat()
    assert not await redis.exists(names.running(BOOT))
    assert (await running.exchanges(redis, NOW)).silent == {BOOT: "host of A"}
    await gateway.beat()
    assert 0 < await redis.pttl(names.running(BOOT)) <= names.RUNNING_TTL_MS
    await redis.delete(names.running(BOOT))
    await gateway.beat()
    assert not await redis.exists(names.running(BOOT))
    assert 0 < await redis.pttl(names.ASKED) <= names.RUNNING_TTL_MS


async def test_what_a_gateway_answered_before_is_no_answer_to_a_later_question(redis: Store) -> None:
    gateway = Gateway(redis)
    await gateway.beat()
    async with gateway.beating():
        assert len((await running.exchanges(redis, 60)).gateways) == 1
    before = await redis.get(names.ASKED)
    answers = await running.exchanges(redis, NOW)
    while await redis.get(names.ASKED) == before:  # within the same millisecond it is the same question
        answers = await running.exchanges(redis, NOW)
    assert (answers.gateways, list(answers.silent)) == ({}, [BOOT])


async def test_what_a_gateway_ran_goes_with_its_boot(redis: Store) -> None:
    gateway = Gateway(redis)
    await gateway.beat()
    async with gateway.beating():
        await running.exchanges(redis, 60)
    await gateway.beat(BootState.LEFT)
    assert not await redis.exists(names.running(BOOT))
    assert await running.exchanges(redis, 60) == ({}, {}), "nobody is waited for"
    await gateway.beat()
    await redis.zadd(names.BOOTS, {BOOT: 1})  # its last heartbeat was long ago
    assert await running.exchanges(redis, 60) == ({}, {})


async def test_a_gateway_cancels_what_it_runs_and_says_what_it_does_not(redis: Store) -> None:
    gateway = Gateway(redis)
    [exchange] = gateway.open
    expected = {
        ExchangeId(BOOT, 0, 3): Cancelled.CANCELLED,
        ExchangeId(BOOT, 0, 9): Cancelled.ENDED,
        ExchangeId(BOOT, 0, 10): Cancelled.UNKNOWN,
        ExchangeId(BOOT, 7, 0): Cancelled.UNKNOWN,
        ExchangeId(EARLIER, 0, 8): Cancelled.ENDED,
    }
    await gateway.beat()
    async with gateway.beating():
        answers = await asyncio.gather(*(running.cancel(redis, id, 60) for id in expected))
    assert dict(zip(expected, answers, strict=True)) == expected
    assert exchange.cancels == 1
    assert not await redis.exists(names.cancel(BOOT), names.cancel(EARLIER))
    assert 0 < await redis.ttl(names.cancelled(BOOT)) <= names.CANCEL_TTL_S
    async with gateway.beating():
        assert await running.cancel(redis, exchange.id, 60) is Cancelled.ENDED, "it is asked again, and ends already"


async def test_a_cancel_waits_for_a_gateway_that_is_silent(redis: Store) -> None:
    gateway = Gateway(redis)
    [exchange] = gateway.open
    await gateway.beat()
    assert await running.cancel(redis, exchange.id, NOW) is None
    assert 0 < await redis.ttl(names.cancel(BOOT)) <= names.CANCEL_TTL_S
    assert exchange.cancels == 0
    await gateway.beat()
    assert exchange.cancels == 1
    await gateway.beat()
    assert exchange.cancels == 1, "a cancel is done once"


async def test_a_hundred_cancels_at_once_leave_the_others_for_the_next_heartbeat(redis: Store) -> None:
    ids = [ExchangeId(BOOT, 0, n) for n in range(150)]
    gateway = Gateway(redis, BOOT, *ids)
    for id in ids:
        await running.cancel(redis, id, NOW)
    done = []
    for _ in range(3):
        await gateway.beat()
        done.append(sum(exchange.cancels for exchange in gateway.open))
    assert done == [100, 150, 150]


async def booked(redis: Store, id: ExchangeId, *, final: bool) -> None:
    await Ledger(redis).settle([Settlement(id, entry(id, key=KEY, outcome="completed"), [], final=final)])


@pytest.mark.parametrize("owner", [None, KEY])
@pytest.mark.parametrize(
    ("there", "state", "expected"),
    [
        ("open", BootState.LIVE, Cancel(State.CANCELLED)),
        ("open", BootState.LEFT, Cancel(State.ENDED, "gateway_lost")),
        ("booked", BootState.LIVE, Cancel(State.ENDED, "completed")),
        ("booked", BootState.LEFT, Cancel(State.ENDED, "completed")),
        ("provisional", BootState.LIVE, Cancel(State.CANCELLED)),  # its gateway was silent for a while
        ("provisional", BootState.LEFT, Cancel(State.ENDED, "completed")),
    ],
)
async def test_what_becomes_of_a_cancel(
    redis: Store, there: str, state: BootState, expected: Cancel, owner: str | None
) -> None:
    gateway = Gateway(redis)
    id = ExchangeId(BOOT, 0, 3)
    if there == "open":
        await send(redis, id, records(id)[:1])
        await redis.hset(names.opened(0), BOOT, "10")  # type: ignore[misc]
    else:
        await booked(redis, id, final=there == "booked")
    await gateway.beat(state)
    if state is BootState.LIVE:
        async with gateway.beating():
            assert await lookup.cancel(redis, str(id), owner, 60) == expected
            with pytest.raises(NoSuchExchange):
                await lookup.cancel(redis, str(id), "f" * 64, 60)
    else:
        assert await lookup.cancel(redis, str(id), owner) == expected


async def test_an_id_that_nobody_has_minted_is_said_to_be_none(redis: Store) -> None:
    gateway = Gateway(redis)
    await gateway.beat()
    async with gateway.beating():
        for id in (f"{BOOT}.0.10", f"{OTHER}.0.0", f"{BOOT}.0.99999999", "nonsense"):
            with pytest.raises(NoSuchExchange):
                await lookup.cancel(redis, id, None, 60)
        # It has run, and is not in Redis yet: its gateway knows.
        assert await lookup.cancel(redis, f"{BOOT}.0.9", None, 60) == Cancel(State.ENDED)
        with pytest.raises(NoSuchExchange):
            await lookup.cancel(redis, f"{BOOT}.0.9", KEY, 60)


async def test_a_gateway_that_does_not_answer_is_said_to_be_asked(redis: Store) -> None:
    gateway = Gateway(redis)
    await gateway.beat()
    assert await lookup.cancel(redis, f"{BOOT}.0.3", None, NOW) == Cancel(State.ASKED)
    await gateway.beat()
    assert [exchange.cancels for exchange in gateway.open] == [1]
