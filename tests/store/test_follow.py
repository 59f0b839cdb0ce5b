"""Followers of the ledger on a real Redis: nothing is left out, and what is missing is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from services.meter.settings import MeterSettings
from services.meter.settle import Ledger, Settlement
from services.meter.upkeep import trim_ledger
from shared.books import followers, ledger, streams
from shared.books.books import Books
from shared.books.follow import Batch, Follower, InRedis
from shared.books.followers import Cursor, State, bound
from shared.books.following import Following, Timing
from shared.contract import names
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.errors import Overtaken, SinkUnavailable
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.sinks import MemorySink

BOOT = new_boot()
HOUR_MS = 3_600_000
AT_ONCE = Timing(leases=0, idle=0.01, again=0.01, most=0.02)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def follower(redis: Store, sink: MemorySink, *, count: int = 200, clock: Callable[[], float] = lambda: 0.0) -> Follower:
    return Follower(redis, sink, back_ms=60_000, count=count, monotonic=clock)


async def book(redis: Store, n: int, tokens: int = 10, *, shard: int = 0, final: bool = True, so_far: str = "") -> str:
    id = ExchangeId(BOOT, shard, n)
    await Ledger(redis).settle([Settlement(id, entry(id, input_tokens=tokens), [], final=final, so_far=so_far)])
    return str(id)


async def so_far(redis: Store, n: int) -> str:
    [value] = await Ledger(redis).provisional(0, [ExchangeId(BOOT, 0, n)])
    return value


async def state(redis: Store, shards: int = 1) -> State:
    [found] = await followers.states(Books(redis, shards), await streams.now_ms(redis))
    return found


async def test_every_entry_of_every_shard_arrives_once_and_in_order(redis: Store) -> None:
    wanted = [await book(redis, n, shard=n % 3) for n in range(30)]
    sink = MemorySink()
    following = follower(redis, sink, count=4)
    rounds = [await following.round([0, 1, 2]) for _ in range(4)]
    assert rounds == [12, 12, 6, 0]
    assert sorted(sink.delivered) == sorted((id, 1) for id in wanted)
    for shard in range(3):
        mine = [id for id, _ in sink.delivered if f".{shard}." in id]
        assert mine == wanted[shard::3]


async def test_amendments_arrive_behind_what_they_amend(redis: Store) -> None:
    id = await book(redis, 0, 10, final=False)
    sink = MemorySink()
    following = follower(redis, sink)
    await following.round([0])
    assert sink.amounts() == {id: 10}
    await book(redis, 0, 25, so_far=await so_far(redis, 0))
    await following.round([0])
    assert sink.delivered == [(id, 1), (id, 2)]
    assert sink.amounts() == {id: 25}


async def test_a_follower_goes_on_where_its_sink_is(redis: Store) -> None:
    first = await book(redis, 0)
    sink = MemorySink()
    await follower(redis, sink).round([0])
    second = await book(redis, 1)
    await follower(redis, sink).round([0])
    assert sink.delivered == [(first, 1), (second, 1)]


async def test_a_lost_cursor_means_to_read_all_of_it_again(redis: Store) -> None:
    id = await book(redis, 0, 10, final=False)
    await book(redis, 0, 25, so_far=await so_far(redis, 0))
    sink = MemorySink()
    await follower(redis, sink).round([0])
    sink.at.clear()
    await follower(redis, sink).round([0])
    assert sink.delivered == 2 * [(id, 1), (id, 2)]
    assert sink.amounts() == {id: 25}


async def test_what_a_sink_does_not_take_is_read_again(redis: Store) -> None:
    id = await book(redis, 0)
    sink = MemorySink()
    following = follower(redis, sink)
    await following.round([0])
    await book(redis, 1)
    sink.away = True
    with pytest.raises(SinkUnavailable):
        await following.round([0])
    sink.away = False
    following.forget()
    await following.round([0])
    assert len(sink.rows) == 2
    assert sink.delivered[0] == (id, 1)


async def test_who_was_overtaken_writes_nothing(redis: Store) -> None:
    await book(redis, 0)
    sink = MemorySink()
    zombie, other = follower(redis, sink), follower(redis, sink)
    await zombie.round([0])
    await book(redis, 1)
    await other.round([0])
    await book(redis, 2)
    with pytest.raises(Overtaken):
        await zombie.round([0])
    assert len(sink.delivered) == 2
    zombie.forget()
    await zombie.round([0])
    assert len(sink.delivered) == len(sink.rows) == 3


async def test_another_server_is_read_again_and_wins(redis: Store) -> None:
    """The server from before had amended the exchange; this one has lost that, and has settled it anew."""
    id = await book(redis, 0, 10, final=False)
    await book(redis, 0, 99, final=False, so_far=await so_far(redis, 0))
    sink = MemorySink()
    clock = Clock()
    await follower(redis, sink, clock=clock).round([0])
    assert sink.amounts() == {id: 99}
    await redis.flushall()
    await book(redis, 0, 25)
    [at] = sink.at.values()
    sink.at[0] = at._replace(server="the one before")
    await follower(redis, sink, clock=clock).round([0])
    assert sink.amounts() == {id: 25}
    assert sink.at[0].epoch > at.epoch


async def test_it_goes_back_by_what_journals_keep(redis: Store) -> None:
    ids = []
    for n, seconds in enumerate((1_000, 1_030, 1_100)):
        id = ExchangeId(BOOT, 0, n)
        ids.append(str(id))
        await Ledger(redis).settle([Settlement(id, entry(id), [])])
        [(_, fields)] = await redis.xrange(names.ledger(0), count=1)
        await redis.delete(names.ledger(0))
        await redis.xadd("kept", fields, id=f"{seconds}000-0")
    await redis.rename("kept", names.ledger(0))
    sink = MemorySink()
    await follower(redis, sink).round([0])
    sink.at[0] = sink.at[0]._replace(server="the one before")
    following = follower(redis, sink)  # back by 60 s, from 1100 s
    await following.round([0])
    await following.round([0])
    assert sink.delivered == [(ids[0], 1), (ids[1], 1), (ids[2], 1), (ids[2], 1)]
    sink.at[0] = sink.at[0]._replace(server="the one before")
    following = Follower(redis, sink, back_ms=70_000)
    await following.round([0])
    assert sink.delivered[4:] == [(ids[1], 1), (ids[2], 1)]


async def test_a_redis_that_was_emptied_is_noticed_without_another_server(redis: Store) -> None:
    await book(redis, 0)
    sink = MemorySink()
    following = follower(redis, sink)
    await following.round([0])
    before = sink.at[0]
    await redis.delete(names.ledger(0))
    await following.round([0])
    assert sink.at[0].epoch > before.epoch
    await book(redis, 1)
    await following.round([0])
    assert len(sink.rows) == 2


async def test_what_was_trimmed_unread_is_a_gap(redis: Store) -> None:
    await followers.register(redis, "memory")
    await book(redis, 0)
    sink = MemorySink()
    following = follower(redis, sink)
    await following.round([0])
    for n in range(1, 4):
        await book(redis, n)
    entries = await redis.xrange(names.ledger(0))
    await redis.xtrim(names.ledger(0), minid=entries[2][0], approximate=False)
    await following.round([0])
    assert (await state(redis)).gaps == {0: tuple(ledger.order(entries[at][0].decode())[0] for at in (0, 2))}
    assert len(sink.rows) == 3  # the rest arrives


async def test_what_was_read_before_it_was_trimmed_is_no_gap(redis: Store) -> None:
    await followers.register(redis, "memory")
    sink = MemorySink()
    following = follower(redis, sink)
    for n in range(4):
        await book(redis, n)
    await following.round([0])
    await redis.xtrim(names.ledger(0), minid=sink.at[0].position, approximate=False)
    await book(redis, 4)
    await following.round([0])
    assert (await state(redis)).gaps == {}
    assert len(sink.rows) == 5


async def test_an_entry_that_nobody_can_read_is_passed_over_and_said(redis: Store) -> None:
    await followers.register(redis, "memory")
    await redis.xadd(names.ledger(0), {"entry": "nonsense"})
    id = await book(redis, 1)
    sink = MemorySink()
    await follower(redis, sink).round([0])
    assert list(sink.rows) == [id]
    assert (await state(redis)).skipped == 1


async def test_a_cursor_in_redis_moves_behind_the_work(redis: Store) -> None:
    id = await book(redis, 0)
    seen: list[str] = []
    broken = True

    async def handle(batch: Batch) -> None:
        seen.extend(one.exchange_id for one in batch.entries)
        if broken and batch.entries:
            raise SinkUnavailable("a crash")

    following = Follower(redis, InRedis(redis, "limits", handle), back_ms=60_000)
    with pytest.raises(SinkUnavailable):
        await following.round([0])
    broken = False
    following.forget()
    await following.round([0])
    await following.round([0])
    assert seen == [id, id]
    assert (await followers.cursors(redis, "limits", [0]))[0].position


async def test_a_cursor_in_redis_is_moved_by_one_only(redis: Store) -> None:
    async def handle(_: Batch) -> None:
        return

    sink = InRedis(redis, "limits", handle)
    first = Batch(0, Cursor(), Cursor("5-0", 1, "here"), [])
    await sink.write([first])
    with pytest.raises(Overtaken):
        await sink.write([first])
    assert await sink.cursors([0]) == {0: first.after}


async def test_status_says_how_far_it_lags_and_why(redis: Store) -> None:
    await followers.register(redis, "memory")
    await book(redis, 0)
    found = await state(redis)
    assert (found.behind, found.noted_ms, found.failing) == (1, None, False)
    await followers.failed(redis, "memory", [0], "the database is away", await streams.now_ms(redis))
    found = await state(redis)
    assert (found.failing, found.error) == (True, "the database is away")
    await follower(redis, MemorySink()).round([0])
    found = await state(redis)
    assert (found.behind, found.lag_ms, found.failing) == (0, 0, False)
    assert found.error == "the database is away"  # it stays, with its time


async def test_a_follower_that_is_forgotten_holds_nothing(redis: Store) -> None:
    await followers.register(redis, "memory")
    assert await followers.forget(redis, "memory", 1)
    assert not await followers.forget(redis, "memory", 1)
    assert await followers.known(redis) == []


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([], "900-0"),  # nobody follows
        (["950-3"], "900-0"),  # nobody lags
        (["800-3"], "800-3"),  # the entry that was read last stays
        (["800-3", "700-1"], "700-1"),  # the slowest one counts
        (["600-3"], "650-0"),  # held for a while only
        ([""], "650-0"),  # one that has read nothing yet
        (["800"], "800-0"),  # one that has gone back
        (["600-9"], "600-9"),  # it has read the newest entry there is, of a quiet shard
        (["600-9", "600-3"], "600-9"),
    ],
)
def test_the_slowest_follower_bounds_the_trim(positions: list[str], expected: str) -> None:
    assert bound(900, 650, positions, "600-9") == expected


async def test_a_quiet_shard_has_no_gap_however_long_it_was_quiet(redis: Store) -> None:
    now_ms = await streams.now_ms(redis)
    newest = (await redis.xadd(names.ledger(0), {"n": 1}, id=f"{now_ms - 30 * HOUR_MS}-0")).decode()
    await followers.register(redis, "memory")
    await followers.note(redis, "memory", {0: Cursor(newest, 0, "")}, now_ms, move=True)
    settings = MeterSettings(shards=1, ledger_keep=3600, ledger_hold=7200)
    await trim_ledger({"ledger": Ledger(redis), "settings": settings, "store": redis})
    assert [id.decode() for id, _ in await redis.xrange(names.ledger(0))] == [newest]


@pytest.mark.parametrize(("hold_hours", "maxmemory", "left"), [(2, 0, 1000), (1, 0, 500), (2, 1024 * 1024, 0)])
async def test_a_dead_follower_never_fills_redis(redis: Store, hold_hours: int, maxmemory: int, left: int) -> None:
    """Entries are two hours old, or one and a half; they are kept for one. A full Redis holds nothing back."""
    now_ms = await streams.now_ms(redis)
    for n in range(1000):
        age_ms = int(HOUR_MS * (2.9 if n < 500 else 1.9))
        await redis.xadd(names.ledger(0), {"n": n}, id=f"{now_ms - age_ms + n}-0")
    await followers.register(redis, "dead")
    settings = MeterSettings(shards=1, ledger_keep=3600, ledger_hold=hold_hours * 3600)
    await redis.config_set("maxmemory", maxmemory)
    try:
        await trim_ledger({"ledger": Ledger(redis), "settings": settings, "store": redis})
    finally:
        await redis.config_set("maxmemory", 0)
    assert left <= await redis.xlen(names.ledger(0)) <= left + 100  # Redis trims whole nodes


async def test_it_runs_under_leases_waits_for_its_sink_and_leaves(redis: Store) -> None:
    sink = MemorySink()
    sink.away = True
    for n in range(4):
        await book(redis, n, shard=n % 2)
    following = Following(redis, sink, shards=2, journal_keep=60, timing=AT_ONCE)
    stopping = asyncio.Event()
    running = asyncio.get_running_loop().create_task(following.run(stopping))
    async with asyncio.timeout(30):
        while not (await followers.known(redis) and (await state(redis, 2)).failing):
            await asyncio.sleep(0.01)
        sink.away = False
        while len(sink.rows) < 4:
            await asyncio.sleep(0.01)
        while (await state(redis, 2)).failing:
            await asyncio.sleep(0.01)
    stopping.set()
    await running
    assert len(sink.tended) == 1
    assert sink.closed
    assert await redis.exists(names.follow_lease(0, "memory"), names.following("memory")) == 0


async def test_a_bug_in_a_sink_stops_nobody(redis: Store, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemorySink):
        async def write(self, batches: Sequence[Batch]) -> None:
            if not self.delivered and any(batch.entries for batch in batches):
                self.delivered.append(("broken", 0))
                raise ZeroDivisionError("a bug")
            await super().write(batches)

        async def tend(self, now_ms: int) -> None:
            raise SinkUnavailable("it may not do this")

    await book(redis, 0)
    sink = Broken()
    stopping = asyncio.Event()
    following = Following(redis, sink, shards=1, journal_keep=60, timing=AT_ONCE)
    running = asyncio.get_running_loop().create_task(following.run(stopping))
    async with asyncio.timeout(30):
        while not sink.rows:
            await asyncio.sleep(0.01)
    stopping.set()
    await running
    assert "a bug" in caplog.text


async def test_two_processes_share_the_shards(redis: Store) -> None:
    sink = MemorySink()
    first, second = (Following(redis, sink, shards=4, journal_keep=60, timing=AT_ONCE) for _ in range(2))
    stopping = asyncio.Event()
    running = [asyncio.get_running_loop().create_task(one.run(stopping)) for one in (first, second)]
    async with asyncio.timeout(30):
        holders: set[bytes] = set()
        while len(holders) != 2:
            values = [await redis.get(names.follow_lease(shard, "memory")) for shard in range(4)]
            holders = {value for value in values if value}
            await asyncio.sleep(0.01)
        for n in range(40):
            await book(redis, n, shard=n % 4)
        while len(sink.rows) < 40:
            await asyncio.sleep(0.01)
    stopping.set()
    await asyncio.gather(*running)
    assert len(sink.rows) == 40
