"""Reports on a real Redis: sums and series always equal the added ledger."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.meter.assembly import Assembler
from services.meter.measure import measure
from services.meter.settle import Ledger, Settlement
from shared.books import ledger, periods, reports, streams
from shared.books.books import Books
from shared.books.periods import Granularity
from shared.contract import names, tail
from shared.contract.entry import Entry
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Open, StreamEntry
from shared.runtime.store import Store
from tests.support.estimator import WordEstimator
from tests.support.tails import records

SHARDS = 3
KEYS = ["a" * 64, "b" * 64]
NOW = datetime(2028, 3, 1, 10, 20, tzinfo=UTC)


async def book(redis: Store, rng: random.Random, count: int) -> None:
    """Settle so many exchanges, opened at any time of the last 60 days."""
    boot, books = new_boot(), Ledger(redis)
    for number in range(count):
        id = ExchangeId(boot, number % SHARDS, number // SHARDS)
        fields = records(id, prompt=rng.randint(0, 50), answer=rng.randint(0, 50), key=rng.choice(KEYS))
        opened = tail.decode_open(fields[0][b"r"])
        at = NOW - timedelta(seconds=rng.randint(0, 60 * 86_400))
        model = rng.choice(["gpt-4o", "o3"])
        opened = msgspec.structs.replace(opened, opened_ms=int(at.timestamp() * 1000), model=model)
        fields[0] = tail.encode(id, 0, opened)
        assembler = Assembler(id.shard)
        whole = [assembler.add(StreamEntry(b"%d-0" % seq, one), 0.0) for seq, one in enumerate(fields)][-1]
        assert whole is not None
        measured = measure(whole.tail, WordEstimator())
        await books.settle([Settlement(id, measured.entry, [])])


@pytest.mark.parametrize("seed", range(4))
async def test_summary_series_and_ledger_agree(redis: Store, seed: int) -> None:
    rng = random.Random(seed)
    await book(redis, rng, 120)
    entries = [entry.entry for shard in range(SHARDS) async for entry in ledger.read(redis, shard)]
    assert len(entries) == 120
    for granularity in (None, *Granularity):
        oldest = 34 if granularity is Granularity.HOURLY else 59
        start = NOW - timedelta(hours=rng.randint(1, oldest * 24), minutes=rng.randint(0, 59))
        end = start + timedelta(minutes=rng.randint(1, 60 * 24 * 40))
        range_ = periods.asked(start, end, granularity, NOW)
        found = [line async for line in reports.lines(Books(redis, SHARDS), KEYS, range_.buckets(granularity))]
        wanted = [e for e in entries if range_.start <= datetime.fromtimestamp(e.opened_ms / 1000, UTC) < range_.end]
        assert sum(line.counters["requests"] for line in found) == len(wanted)
        by = Counter[tuple[str, str]]()
        for line in found:
            by[line.key, line.model] += line.counters.get("total_tokens", 0)
        assert by == Counter({(k, m): n for (k, m), n in added(wanted).items()})
        if granularity is not None:
            points = Counter[datetime]()
            for line in found:
                points[periods.data_point(line.bucket.start, granularity)] += line.counters["requests"]
            assert points == Counter(periods.data_point(hour_of(e), granularity) for e in wanted)


def hour_of(entry: Entry) -> datetime:
    return datetime.fromtimestamp(entry.opened_ms / 1000, UTC).replace(minute=0, second=0, microsecond=0)


def added(entries: list[Entry]) -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        sums[entry.key, entry.model] += entry.total_tokens or 0
    return sums


async def test_days_weeks_and_months_of_a_key(redis: Store) -> None:
    await book(redis, random.Random(9), 90)
    entries = [entry.entry for shard in range(SHARDS) async for entry in ledger.read(redis, shard)]
    found = await reports.key_usage(Books(redis, SHARDS), KEYS, NOW)
    # 1 March 2028 is a Wednesday: the week has begun in February, the month today.
    for key in KEYS:
        for begins, value in (("2028-03-01", "daily"), ("2028-02-28", "weekly"), ("2028-03-01", "monthly")):
            since = datetime.fromisoformat(begins).replace(tzinfo=UTC).timestamp() * 1000
            mine = [e.total_tokens or 0 for e in entries if e.key == key and e.opened_ms >= since]
            assert getattr(found[key], value) == sum(mine), (key[0], value)
        assert found[key].ever == sum(e.total_tokens or 0 for e in entries if e.key == key)


async def test_an_entry_is_found_by_its_exchange(redis: Store) -> None:
    await book(redis, random.Random(1), 30)
    for shard in range(SHARDS):
        async for entry in ledger.read(redis, shard):
            assert await ledger.find(redis, ExchangeId.parse(entry.exchange_id)) == entry
    assert await ledger.find(redis, ExchangeId(new_boot(), 0, 0)) is None
    id = ExchangeId.parse(entry.exchange_id)
    assert 7 * 86_400 < await redis.ttl(names.entries(id.shard, id.boot, id.n)) <= 8 * 86_400


async def test_what_is_open_is_found_by_key_and_id(redis: Store) -> None:
    ids = [ExchangeId(new_boot(), 0, n) for n in range(3)]
    for id, key in zip(ids, [*KEYS, KEYS[0]], strict=True):
        for one in records(id, key=key)[:2]:
            await redis.xadd(names.tail(0), one)  # type: ignore[arg-type]
    assert await streams.exchanges(redis, 0) == {str(id) for id in ids}
    assert await streams.exchanges(redis, 0, KEYS[0]) == {str(ids[0]), str(ids[2])}
    packed = await streams.open_record(redis, ids[1])
    assert packed is not None
    assert tail.decode_open(packed).key == KEYS[1]
    assert await streams.open_record(redis, ExchangeId(new_boot(), 0, 9)) is None
    assert isinstance(tail.decode_open(packed), Open)
