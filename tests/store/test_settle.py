"""The settle script on a real Redis: exactly once, in one step, whatever comes twice."""

from __future__ import annotations

import json

import pytest

from services.meter.assembly import Assembler
from services.meter.measure import measure
from services.meter.settle import Ledger, Settlement, Verdict
from shared.books import streams, totals
from shared.books.books import Books
from shared.contract import names
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.errors import StoreRefused, StoreUnavailable
from shared.runtime.store import Store
from tests.support.estimator import WordEstimator
from tests.support.tails import KEY, records, send

BOOT = new_boot()


async def assembled(redis: Store, id: ExchangeId, *, prompt: int = 10, answer: int = 20) -> Settlement:
    """Write an exchange's records, read them as a meter does, and measure it."""
    await streams.create_group(redis, id.shard)
    await send(redis, id, records(id, prompt=prompt, answer=answer))
    assembler = Assembler(id.shard)
    for entry in await streams.read(redis, id.shard, count=100, block_ms=1000):
        whole = assembler.add(entry, 0.0)
        if whole is not None and whole.tail.id == id:
            return Settlement(id, measure(whole.tail, WordEstimator()).entry, whole.stream_ids)
    raise AssertionError("the exchange is not whole")


async def row(redis: Store) -> dict[str, int | str]:
    return (await totals.read(Books(redis, 2), [KEY]))[KEY][0]


async def test_an_exchange_is_settled_once_and_leaves_nothing_behind(redis: Store) -> None:
    ledger, id = Ledger(redis), ExchangeId(BOOT, 0, 5)
    settlement = await assembled(redis, id)
    assert await ledger.settle([settlement]) == [Verdict.SETTLED]
    assert await ledger.settle([settlement, settlement]) == [Verdict.DUPLICATE, Verdict.DUPLICATE]
    booked = await row(redis)
    assert (booked["requests"], booked["input_tokens"], booked["output_tokens"], booked["total_tokens"]) == (
        1,
        10,
        20,
        30,
    )
    assert await redis.xlen(names.tail(0)) == 0
    assert (await redis.xpending(names.tail(0), names.GROUP))["pending"] == 0
    [(_, fields)] = await redis.xrange(names.ledger(0))
    assert (fields[b"x"].decode(), fields[b"revision"]) == (str(id), b"1")
    assert json.loads(fields[b"entry"])["total_tokens"] == 30
    assert await ledger.final([id, ExchangeId(BOOT, 0, 6)]) == [True, False]


async def test_a_replay_after_settling_is_dropped(redis: Store) -> None:
    ledger, id = Ledger(redis), ExchangeId(BOOT, 1, 0)
    await ledger.settle([await assembled(redis, id)])
    assert await ledger.settle([await assembled(redis, id)]) == [Verdict.DUPLICATE]
    assert (await row(redis))["requests"] == 1
    assert await redis.xlen(names.tail(1)) == 0
    assert await redis.hget(names.stats(1), "duplicates") == b"1"  # type: ignore[misc]


async def test_hours_and_all_time_agree(redis: Store) -> None:
    ledger = Ledger(redis)
    for n in range(3):
        await ledger.settle([await assembled(redis, ExchangeId(BOOT, 0, n), prompt=n, answer=1)])
    hour = await redis.hgetall(names.hour(0, KEY, "2023111422"))  # type: ignore[misc]
    assert hour == await redis.hgetall(names.totals(0, KEY))  # type: ignore[misc]
    assert 0 < await redis.ttl(names.hour(0, KEY, "2023111422")) <= names.HOUR_TTL_S
    assert hour == await redis.hgetall(names.day(0, KEY, "20231114"))  # type: ignore[misc]
    assert names.HOUR_TTL_S < await redis.ttl(names.day(0, KEY, "20231114")) <= names.DAY_TTL_S
    assert await redis.ttl(names.totals(0, KEY)) == -1


async def test_a_provisional_value_that_changed_meanwhile_is_a_conflict(redis: Store) -> None:
    ledger, id = Ledger(redis), ExchangeId(BOOT, 0, 1)
    settlement = await assembled(redis, id)
    await redis.hset(names.provisional(0), str(id), "1 1 10 5 0 0 0 15 0 1")  # type: ignore[misc]
    assert await ledger.settle([settlement]) == [Verdict.CONFLICT]
    assert await redis.xlen(names.ledger(0)) == 0
    assert await redis.xlen(names.tail(0)) == 3


async def test_a_script_flush_is_survived(redis: Store) -> None:
    ledger = Ledger(redis)
    first, second = [await assembled(redis, ExchangeId(BOOT, 0, n)) for n in (0, 1)]
    await ledger.settle([first])
    await redis.script_flush()
    assert await ledger.settle([second]) == [Verdict.SETTLED]


async def test_a_full_redis_still_drains(redis: Store) -> None:
    ledger, id = Ledger(redis), ExchangeId(BOOT, 0, 0)
    settlement = await assembled(redis, id)
    await ledger.settle([])  # loads the script, which a full Redis refuses
    await redis.config_set("maxmemory", "1kb")
    try:
        [error] = await streams.append(redis, [(0, records(id)[0])])
        assert isinstance(error, StoreUnavailable)
        assert await ledger.settle([settlement]) == [Verdict.SETTLED]
    finally:
        await redis.config_set("maxmemory", "0")
    assert await redis.xlen(names.tail(0)) == 0


async def test_an_n_out_of_range_writes_nothing(redis: Store) -> None:
    settlement = await assembled(redis, ExchangeId(BOOT, 0, 0))
    settlement.id = ExchangeId(BOOT, 0, 1 << 24)
    [error] = await Ledger(redis).settle([settlement])
    assert isinstance(error, StoreRefused)
    assert (await totals.read(Books(redis, 1), [KEY]))[KEY] == []


async def test_a_counter_no_sum_can_hold_writes_nothing(redis: Store) -> None:
    settlement = await assembled(redis, ExchangeId(BOOT, 0, 0))
    settlement.values = settlement.values.rpartition(" ")[0] + f" {10**20}"
    [error] = await Ledger(redis).settle([settlement])
    assert isinstance(error, StoreRefused)
    assert (await totals.read(Books(redis, 1), [KEY]))[KEY] == []
    assert await redis.xlen(names.ledger(0)) == 0


@pytest.mark.parametrize("keep", [0, 500])
async def test_the_ledger_is_trimmed_by_age_alone(redis: Store, keep: int) -> None:
    for n in range(1000):
        await redis.xadd(names.ledger(0), {"n": n}, id=f"{1000 + n}-0")
    await Ledger(redis).trim({0: f"{1000 + 1000 - keep}-0"})
    assert keep <= await redis.xlen(names.ledger(0)) <= keep + 100  # Redis trims whole nodes
