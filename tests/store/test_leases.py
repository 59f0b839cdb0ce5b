"""Leases on a real Redis: fair shares, takeovers, and no shard read by two for longer than a renewal."""

from __future__ import annotations

from shared.books.leases import Leases
from shared.contract import names
from shared.runtime.store import Store

SHARDS = 8


async def settle(*workers: Leases, rounds: int = 4) -> None:
    for _ in range(rounds):
        for worker in workers:
            await worker.renew()
            share = await worker.share()
            for shard in sorted(worker.held)[share:]:
                await worker.release(shard)
            await worker.take(share)


async def test_one_worker_holds_everything_until_others_come(redis: Store) -> None:
    first, second, third = (Leases(redis, name, SHARDS) for name in "abc")
    await settle(first)
    assert first.held == set(range(SHARDS))
    await settle(first, second)
    assert (len(first.held), len(second.held)) == (4, 4)
    await settle(first, second, third)
    assert sorted(len(worker.held) for worker in (first, second, third)) == [2, 3, 3]
    assert first.held | second.held | third.held == set(range(SHARDS))
    assert not first.held & second.held


async def test_who_leaves_is_replaced_at_once(redis: Store) -> None:
    first, second = Leases(redis, "a", SHARDS), Leases(redis, "b", SHARDS)
    await settle(first, second)
    await first.leave()
    await settle(second, rounds=1)
    assert second.held == set(range(SHARDS))
    assert first.held == set()


async def test_a_lease_that_ended_is_somebody_elses(redis: Store) -> None:
    paused, other = Leases(redis, "a", 1), Leases(redis, "b", 1)
    await settle(paused)
    await redis.delete(names.lease(0))  # it has expired while the worker was paused
    await other.take(1)
    assert other.held == {0}
    assert await paused.renew() == {0}
    await paused.release(0)
    assert await redis.get(names.lease(0)) == b"b"
