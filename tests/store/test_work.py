"""Work that ends elsewhere on a real Redis: booked once, on the key that began it, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from services.meter.books_monitor import BooksMonitor
from services.meter.claims import Claims
from services.meter.consumer import ShardConsumer, Timing
from services.meter.measure import Measured, measure
from services.meter.metrics import MeterMetrics
from services.meter.settle import Ledger, Settlement, Verdict
from shared.books import audit, ledger, quarantine, streams, work
from shared.books.books import Books
from shared.books.work import OpenWork
from shared.contract import names, tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Entry, Mark
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Head, Segment
from shared.contract.work import Noted, WorkKind
from shared.runtime.store import Store
from tests.support.estimator import WordEstimator
from tests.support.tails import send
from tests.support.work import LINES, USAGE, Told, batch, begun, chat_line, document, events, fetched, lines, response

BOOT = new_boot()
SHARDS = 2
FIRST, SECOND = "a" * 64, "b" * 64
# The start in one shard, the fetches in the other.
START, FETCH, AGAIN = ExchangeId(BOOT, 0, 0), ExchangeId(BOOT, 1, 0), ExchangeId(BOOT, 1, 1)
AT_ONCE = Timing(block_ms=10, tidy=0.05, reclaim_idle_ms=0)
NEVER = Timing(block_ms=10, tidy=3600)


@asynccontextmanager
async def metering(
    redis: Store, shards: Sequence[int] = range(SHARDS), timing: Timing = AT_ONCE
) -> AsyncIterator[None]:
    consumers = [
        ShardConsumer(redis, Ledger(redis), shard, 50, WordEstimator(), MeterMetrics(), timing) for shard in shards
    ]
    tasks = [asyncio.get_running_loop().create_task(consumer.run()) for consumer in consumers]
    try:
        yield
    finally:
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*tasks)


async def entries(redis: Store) -> dict[str, Entry]:
    found = []
    for shard in range(SHARDS):
        found += [one async for one in ledger.read(redis, shard)]
    assert len({one.exchange_id for one in found}) == len(found), "settled twice"
    return {one.exchange_id: one.entry for one in found}


async def settled(redis: Store, *ids: ExchangeId) -> list[Entry]:
    """Wait until these are settled, and nothing else waits."""
    async with asyncio.timeout(20):
        while not (book := await entries(redis)).keys() >= set(map(str, ids)):
            await asyncio.sleep(0.02)
    return [book[str(id)] for id in ids]


async def tell(redis: Store, id: ExchangeId, told: Told) -> None:
    await send(redis, id, told.fields(id))


async def open_ids(redis: Store) -> list[str]:
    return [one.id async for one in work.open_work(redis)]


def tokens(booked: Entry) -> tuple[str, int | None, int | None]:
    return booked.key, booked.input_tokens, booked.output_tokens


async def test_a_result_is_booked_once_on_the_key_that_began_it(redis: Store) -> None:
    async with metering(redis):
        await tell(redis, START, begun(FIRST))
        [start] = await settled(redis, START)
        assert (start.marks, start.work_id, start.input_tokens) == ((Mark.OPEN_WORK, Mark.UNPRICED), "resp_1", None)
        [open_] = [one async for one in work.open_work(redis)]
        assert (open_.provider, open_.id) == ("openai", "resp_1")
        assert open_.start is not None
        assert (open_.start.key, open_.start.exchange_id) == (FIRST, str(START))
        await tell(redis, FETCH, fetched(key=SECOND))
        [result] = await settled(redis, FETCH)
        await tell(redis, AGAIN, fetched(key=SECOND))
        [again] = await settled(redis, AGAIN)
    assert tokens(result) == (FIRST, 70, 25)
    assert (result.model, result.service_tier, result.fetched_by) == ("o4-mini", "flex", SECOND)
    assert (result.work_id, result.work_begun_by, result.work_booked_by) == ("resp_1", str(START), "")
    assert tokens(again) == (SECOND, 0, 0)
    assert (again.marks, again.work_booked_by) == ((Mark.WORK_BOOKED,), str(FETCH))
    assert await open_ids(redis) == []
    differences = (await audit.audit(Books(redis, SHARDS))).differences
    assert [line for line in differences if not line.startswith("conservation")] == []


async def test_a_result_waits_for_its_start(redis: Store) -> None:
    """The shard of the start is read later than that of the fetch."""
    await streams.create_group(redis, 1)
    await tell(redis, FETCH, fetched(key=SECOND))
    async with metering(redis, [1], Timing(block_ms=10, tidy=0.05, reclaim_idle_ms=1500)):
        async with asyncio.timeout(20):
            while not (await redis.xpending(names.tail(1), names.GROUP))["pending"]:
                await asyncio.sleep(0.01)
        await tell(redis, START, begun(FIRST))
        async with metering(redis, [0]):
            start, result = await settled(redis, START, FETCH)
    assert tokens(result) == (FIRST, 70, 25)
    assert Mark.OPEN_WORK in start.marks
    assert await open_ids(redis) == []


async def test_a_start_that_comes_too_late_is_booked_elsewhere(redis: Store) -> None:
    async with metering(redis):
        await tell(redis, FETCH, fetched(key=SECOND))
        [result] = await settled(redis, FETCH)
        assert tokens(result) == (SECOND, 70, 25)
        await tell(redis, START, begun(FIRST))
        [start] = await settled(redis, START)
    assert (tokens(start), start.marks) == ((FIRST, 0, 0), (Mark.WORK_BOOKED,))
    assert start.work_booked_by == str(FETCH)
    assert await open_ids(redis) == []


async def test_what_may_be_an_ordinary_answer_is_booked_only_where_somebody_began_it(redis: Store) -> None:
    silent = fetched(key=SECOND, background=None)
    async with metering(redis):
        await tell(redis, FETCH, silent)
        [result] = await settled(redis, FETCH)
        assert (tokens(result), result.marks) == ((SECOND, 0, 0), ())
        await tell(redis, START, begun(FIRST))
        await settled(redis, START)
        await tell(redis, AGAIN, silent)
        [again] = await settled(redis, AGAIN)
    assert tokens(again) == (FIRST, 70, 25)


class Killed(Exception):
    """The meter has died here."""


class DyingLedger(Ledger):
    """A ledger whose meter dies when it settles this exchange: before it, or before it hears of it."""

    def __init__(self, store: Store, victim: ExchangeId, *, before: bool) -> None:
        super().__init__(store)
        self._victim = victim
        self._before = before

    async def settle(self, batch: Sequence[Settlement]) -> list[Verdict]:  # type: ignore[override]
        dies = any(settlement.id == self._victim for settlement in batch)
        if not dies or not self._before:
            await super().settle(batch)
        if dies:
            raise Killed
        return [Verdict.SETTLED for _ in batch]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("rival_first", [True, False])
async def test_a_meter_that_dies_between_claim_and_settling(redis: Store, before: bool, rival_first: bool) -> None:
    """Whoever reads its records again finds the exchange's own claim; a rival that comes in between finds it, too."""
    async with metering(redis):
        await tell(redis, START, begun(FIRST))
        await settled(redis, START)
    await tell(redis, FETCH, fetched(key=SECOND))
    dying = ShardConsumer(
        redis, DyingLedger(redis, FETCH, before=before), 1, 50, WordEstimator(), MeterMetrics(), NEVER
    )
    with pytest.raises(Killed):
        await dying.run()
    assert await open_ids(redis) == []
    if rival_first:  # in another shard, before the records of the first are read again
        rival = ExchangeId(BOOT, 0, 5)
        await tell(redis, rival, fetched(key=SECOND))
        async with metering(redis, [0]):
            [lost] = await settled(redis, rival)
        assert (tokens(lost), lost.work_booked_by) == ((SECOND, 0, 0), str(FETCH))
    async with metering(redis, [1]):
        [result] = await settled(redis, FETCH)
        async with asyncio.timeout(20):
            while await redis.xlen(names.tail(1)):
                await asyncio.sleep(0.02)
    assert tokens(result) == (FIRST, 70, 25)
    assert sum(one.input_tokens or 0 for one in (await entries(redis)).values()) == 70


async def test_a_meter_that_dies_before_the_start_is_settled(redis: Store) -> None:
    await tell(redis, START, begun(FIRST))
    dying = ShardConsumer(redis, DyingLedger(redis, START, before=True), 0, 50, WordEstimator(), MeterMetrics(), NEVER)
    with pytest.raises(Killed):
        await dying.run()
    assert await open_ids(redis) == ["resp_1"]
    async with metering(redis):
        await tell(redis, FETCH, fetched(key=SECOND))
        start, result = await settled(redis, START, FETCH)
    assert (tokens(result), start.output_tokens or 0) == ((FIRST, 70, 25), 0)
    assert await open_ids(redis) == []


def found(told: Told, id: ExchangeId) -> Measured:
    return measure(told.tail(id), WordEstimator())


async def test_what_was_settled_before_claims_nothing(redis: Store) -> None:
    """Meters of before have settled it as nothing; its replay must not hold what the next fetch would book."""
    await redis.setbit(names.final(FETCH.shard, FETCH.boot), FETCH.n, 1)
    claims = Claims(redis, Ledger(redis), WordEstimator())
    await claims.entry(START, found(begun(FIRST), START))
    await claims.entry(FETCH, found(fetched(key=SECOND), FETCH))
    assert await open_ids(redis) == ["resp_1"]
    booked = await claims.entry(AGAIN, found(fetched(key=SECOND), AGAIN))
    assert booked is not None
    assert tokens(booked) == (FIRST, 70, 25)


async def test_a_result_is_taken_at_the_second_sight(redis: Store) -> None:
    claims = Claims(redis, Ledger(redis), WordEstimator())
    result = found(fetched(key=SECOND), FETCH)
    assert await claims.entry(FETCH, result) is None
    await claims.entry(START, found(begun(FIRST), START))
    booked = await claims.entry(FETCH, result)
    assert booked is not None
    assert tokens(booked) == (FIRST, 70, 25)
    unbegun, id = found(fetched(key=SECOND, id="resp_2"), AGAIN), AGAIN
    assert await claims.entry(id, unbegun) is None
    booked = await claims.entry(id, unbegun)
    assert booked is not None
    assert tokens(booked) == (SECOND, 70, 25)


async def test_an_ordinary_exchange_makes_no_call(redis: Store) -> None:
    class Deaf:
        """A store that nobody may ask."""

    ordinary = Told(Dialect.OPENAI_RESPONSES, "v1/responses", document(**response("completed", background=False)))
    claims = Claims(Deaf(), Deaf(), WordEstimator())  # type: ignore[arg-type]
    measured = found(ordinary, START)
    assert await claims.entry(START, measured) is measured.entry


FILE = Told(Dialect.METADATA, "v1/files/file-1/content", lines(chat_line(0), chat_line(1)), LINES, key=SECOND)
CREATED = Told(Dialect.PASSTHROUGH, "v1/batches", document(**batch("validating")), key=FIRST)


def looked_at(**more: object) -> Told:
    body = document(**batch("completed", output_file_id="file-1", **more))
    return Told(Dialect.METADATA, "v1/batches/batch_1", body, key=SECOND)


STATED = looked_at(usage={"input_tokens": 20, "output_tokens": 10, "total_tokens": 30}, model="gpt-4o")


@pytest.mark.parametrize(
    ("first", "second"),
    [(STATED, FILE), (FILE, STATED)],
    ids=["the batch states its usage", "the file comes first"],
)
async def test_a_batch_and_its_file_are_one_claim(redis: Store, first: Told, second: Told) -> None:
    async with metering(redis):
        await tell(redis, START, CREATED)
        await settled(redis, START)
        seen = ExchangeId(BOOT, 0, 9)
        await tell(redis, seen, looked_at())
        await settled(redis, seen)
        await tell(redis, FETCH, first)
        [result] = await settled(redis, FETCH)
        assert await open_ids(redis) == []
        await tell(redis, AGAIN, second)
        [again] = await settled(redis, AGAIN)
    assert tokens(result) == (FIRST, 20, 10)
    assert (tokens(again), again.work_booked_by) == ((SECOND, 0, 0), str(FETCH))
    assert await open_ids(redis) == []


async def test_a_batch_may_be_looked_at_before_its_start_is_metered(redis: Store) -> None:
    async with metering(redis):
        seen = ExchangeId(BOOT, 1, 9)
        await tell(redis, seen, looked_at())
        await settled(redis, seen)
        await tell(redis, START, CREATED)
        await settled(redis, START)
        assert await open_ids(redis) == ["batch_1"]
        await tell(redis, FETCH, FILE)
        [result] = await settled(redis, FETCH)
    assert tokens(result) == (FIRST, 20, 10)
    assert await open_ids(redis) == []


async def test_a_file_that_is_fetched_before_its_batch_is_known_still_closes_it(redis: Store) -> None:
    async with metering(redis):
        await tell(redis, START, CREATED)
        await settled(redis, START)
        await tell(redis, FETCH, FILE)
        [result] = await settled(redis, FETCH)
        assert tokens(result) == (SECOND, 20, 10)  # nobody has said whose file it is
        assert await open_ids(redis) == ["batch_1"]
        await tell(redis, AGAIN, STATED)
        [again] = await settled(redis, AGAIN)
    assert (tokens(again), again.work_booked_by) == ((SECOND, 0, 0), str(FETCH))
    assert await open_ids(redis) == []


async def test_cancelled_work_is_closed_and_unknown(redis: Store) -> None:
    async with metering(redis):
        await tell(redis, START, begun(FIRST))
        await settled(redis, START)
        await tell(redis, FETCH, fetched("cancelled", usage=None, key=SECOND))
        [result] = await settled(redis, FETCH)
    assert (tokens(result), result.cost_microusd) == ((FIRST, None, None), None)
    assert Mark.UNPRICED in result.marks
    assert await open_ids(redis) == []


async def test_work_that_nobody_fetches_expires_and_is_counted(redis: Store) -> None:
    async with metering(redis):
        await tell(redis, START, begun(FIRST))
        await settled(redis, START)
        before = await work.summary(redis)
        assert (before.open, before.expired) == (1, 0)
        assert before.oldest_ms is not None
        assert await work.expire(redis) == []
        assert await work.expire(redis, age_ms=-1000) == ["openai:resp_1"]
        assert await work.summary(redis) == (0, None, 1)
        await tell(redis, FETCH, fetched(key=SECOND))  # late, and still booked where it belongs
        [result] = await settled(redis, FETCH)
    assert tokens(result) == (FIRST, 70, 25)


async def test_records_live_as_long_as_they_must(redis: Store) -> None:
    for kind, ttl in ((WorkKind.RESPONSE, names.WORK_TTL_S), (WorkKind.BATCH, names.BATCH_TTL_S)):
        await work.note(redis, Noted(str(FETCH), "openai", [kind], kind, books=True, unbegun=True))
        assert ttl - 60 < await redis.ttl(names.work("openai", kind)) <= ttl
    assert names.WORK_TTL_S >= names.FINAL_TTL_S


async def test_many_pieces_of_open_work_are_listed_in_pages(redis: Store) -> None:
    await redis.zadd(names.OPEN_WORK, {f"openai:resp:{number}": number for number in range(1203)})
    listed = [one async for one in work.open_work(redis)]
    assert listed[:2] == [OpenWork("openai", "resp:0", 0, None), OpenWork("openai", "resp:1", 1, None)]
    assert len(listed) == 1203


async def test_a_record_of_another_kind_costs_one_exchange(redis: Store) -> None:
    await redis.set(names.work("openai", "resp_1"), "not a hash")
    async with metering(redis, [1]):
        await tell(redis, FETCH, fetched())
        other = fetched(id="resp_2")
        await tell(redis, AGAIN, other)
        [booked] = await settled(redis, AGAIN)
    assert booked.input_tokens == USAGE["input_tokens"]
    [case] = await quarantine.cases(Books(redis, SHARDS))
    assert case.id == str(FETCH)


async def test_the_monitor_shows_open_work_and_takes_off_what_has_expired(redis: Store) -> None:
    metrics, stopping = MeterMetrics(), asyncio.Event()
    pieces = {"openai:old": 1, "openai:new": await streams.now_ms(redis)}
    await redis.zadd(names.OPEN_WORK, pieces)
    monitoring = asyncio.get_running_loop().create_task(BooksMonitor(redis, metrics.books, {0}, 1).run(stopping))
    async with asyncio.timeout(20):
        while metrics.registry.get_sample_value("arouter_work", {"state": "open"}) is None:
            await asyncio.sleep(0.02)
    stopping.set()
    await monitoring
    assert metrics.registry.get_sample_value("arouter_work", {"state": "open"}) == 1
    assert metrics.registry.get_sample_value("arouter_work", {"state": "expired"}) == 1
    assert (metrics.registry.get_sample_value("arouter_oldest_open_work_seconds") or 0) < 3600
    assert await open_ids(redis) == ["new"]


async def test_a_start_whose_gateway_is_lost_is_known(redis: Store) -> None:
    """The stream of a background response breaks off with its gateway; its work goes on."""
    created = events({"type": "response.created", "response": response("queued")})
    streamed = Told(Dialect.OPENAI_RESPONSES, "v1/responses", created + created, "text/event-stream", key=FIRST)
    opened, end = streamed.records()
    head = Head(200, "text/event-stream", "")
    await send(redis, START, [tail.encode(START, 0, opened), tail.encode(START, 1, Segment(end.body, head))])
    async with metering(redis):
        async with asyncio.timeout(20):
            while await open_ids(redis) != ["resp_1"]:
                await asyncio.sleep(0.02)
        await tell(redis, FETCH, fetched(key=SECOND))
        [result] = await settled(redis, FETCH)
    assert (tokens(result), result.work_begun_by) == ((FIRST, 70, 25), str(START))
