"""Another price for what is booked: new revisions, totals that follow, and how far back it goes."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from services.meter import applying
from services.meter.applying import BeyondLedger, Change
from services.meter.prices import parse
from services.meter.pricing.book import PriceBook
from services.meter.pricing.costs import with_cost
from services.meter.settle import Ledger, Settlement, Verdict
from shared.books import audit, ledger, streams, totals
from shared.books.books import Books
from shared.contract import names
from shared.contract.booked import BOOKED, booked
from shared.contract.ids import ExchangeId, new_boot
from shared.runtime.store import Store
from tests.support.entries import entry
from tests.support.tails import KEY, OPENED_MS

KEEP = 7 * 86_400
BOOT = new_boot()


def book(amount: str, version: str = "1") -> PriceBook:
    price = {"provider": "openai", "model": "gpt-4o*", "input": Decimal(amount), "output": Decimal(amount)}
    return parse({"format": 2, "version": version, "prices": [price]})


OLD, NEW = book("0.0037"), book("1000000", "2")


async def settle(redis: Store, n: int, prices: PriceBook, *, final: bool = True, **changes: Any) -> ExchangeId:
    id = ExchangeId(BOOT, 0, n)
    one = with_cost(entry(id, **changes), prices)
    assert await Ledger(redis).settle([Settlement(id, one, [], final=final)]) == [Verdict.SETTLED]
    return id


async def apply(redis: Store, prices: PriceBook, since_ms: int = 0) -> tuple[list[Change], Counter[str]]:
    """Book every change; what changed, and what was seen."""
    seen: Counter[str] = Counter()
    found: list[Change] = []
    now_ms = await streams.now_ms(redis) + 1
    async for batch in applying.changes(redis, 0, prices, since_ms, now_ms, seen):
        assert await applying.book_changes(redis, batch, KEEP) == len(batch)
        found += batch
    return found, seen


async def sums(redis: Store) -> dict[str, int]:
    rows = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    return {name: sum(int(row[name]) for row in rows) for name in BOOKED}


async def latest(redis: Store) -> dict[str, int]:
    """What the last revision of every exchange adds up to."""
    last = {one.exchange_id: booked(one.entry) async for one in ledger.read(redis, 0)}
    return {name: sum(values[place] for values in last.values()) for place, name in enumerate(BOOKED)}


async def wrong(redis: Store) -> list[str]:
    found = await audit.audit(Books(redis, 1))
    return [line for line in found.differences if not line.startswith("conservation")]


async def test_totals_follow_and_a_second_time_changes_nothing(redis: Store) -> None:
    for n in range(5):
        await settle(redis, n, OLD, input_tokens=10**6 + n, output_tokens=7, total_tokens=10**6 + n + 7)
    await settle(redis, 5, PriceBook())  # unpriced
    await settle(redis, 6, OLD, model="o3")  # unpriced by both
    found, seen = await apply(redis, NEW)
    assert (len(found), seen) == (6, Counter(looked=7))
    assert await sums(redis) == await latest(redis)
    nano = sum((10**6 + n + 7) * 10**9 for n in range(5)) + 30 * 10**9
    assert nano > 10**14  # which `..` would have written as 1e+14
    now = await sums(redis)
    assert (now["cost_nanousd"], now["cost_microusd"], now["unpriced_requests"]) == (nano, nano // 1000, 1)
    assert await wrong(redis) == []
    assert (await apply(redis, NEW))[0] == []
    back, _ = await apply(redis, OLD)
    assert len(back) == 6
    assert await sums(redis) == await latest(redis)
    assert await wrong(redis) == []


async def test_the_new_revision_is_final_and_says_what_it_is(redis: Store) -> None:
    id = await settle(redis, 0, OLD)
    await apply(redis, NEW)
    first, second = [one async for one in ledger.read(redis, 0)]
    assert (first.revision, first.repriced, second.revision, second.final, second.repriced) == (1, False, 2, True, True)
    assert second.delta is not None
    changed = {name: value for name, value in second.delta.items() if value}
    assert changed == {"cost_nanousd": 30 * 10**9 - 111, "cost_microusd": 30 * 10**6}
    assert second.entry.price_version == "2"
    assert await ledger.find(redis, id) == second
    assert await redis.ttl(names.entries(0, BOOT, 0)) > KEEP


async def test_a_provisional_exchange_is_left_to_its_meter(redis: Store) -> None:
    await settle(redis, 0, OLD, final=False)
    found, seen = await apply(redis, NEW)
    assert (found, seen) == ([], Counter(left=1))


async def test_only_what_was_opened_since_then(redis: Store) -> None:
    await settle(redis, 0, OLD, opened_ms=OPENED_MS - 1)
    await settle(redis, 1, OLD)
    found, seen = await apply(redis, NEW, OPENED_MS)
    assert ([change.entry.exchange_id for change in found], seen) == ([f"{BOOT}.0.1"], Counter(looked=1))


async def test_hours_and_days_that_have_expired_stay_so(redis: Store) -> None:
    await settle(redis, 0, OLD)
    hour, day = names.hour(0, KEY, "2023111422"), names.day(0, KEY, "20231114")
    assert await redis.delete(hour) == 1
    before = await redis.hgetall(day)  # type: ignore[misc]
    await apply(redis, NEW)
    assert await redis.exists(hour) == 0
    after = await redis.hgetall(day)  # type: ignore[misc]
    assert {name for name in after if after[name] != before.get(name)} == {
        b"openai\x1fgpt-4o\x1fcost_nanousd",
        b"openai\x1fgpt-4o\x1fcost_microusd",
    }


async def test_the_totals_of_a_team_follow(redis: Store) -> None:
    await settle(redis, 0, OLD, team="red")
    await settle(redis, 1, OLD)
    await settle(redis, 2, OLD, team="blue")
    assert await redis.delete(names.team_day(0, "blue", "20231114")) == 1
    found, _ = await apply(redis, NEW)
    assert len(found) == 3
    field = b"openai\x1fgpt-4o\x1fcost_nanousd"
    for place in (names.team_totals(0, "red"), names.team_day(0, "red", "20231114"), names.team_totals(0, "blue")):
        assert int((await redis.hgetall(place))[field]) == 30 * 10**9  # type: ignore[misc]
    assert await redis.exists(names.team_day(0, "blue", "20231114")) == 0
    assert [line for line in await wrong(redis) if ":team:blue:20231114" not in line] == []


async def test_another_revision_meanwhile_is_not_overwritten(redis: Store) -> None:
    await settle(redis, 0, OLD)
    batches = [batch async for batch in applying.changes(redis, 0, NEW, 0, await streams.now_ms(redis) + 1, Counter())]
    changes = list(itertools.chain(*batches))
    assert await applying.book_changes(redis, changes, KEEP) == 1
    assert await applying.book_changes(redis, changes, KEEP) == 0
    assert await sums(redis) == await latest(redis)
    assert len([one async for one in ledger.read(redis, 0)]) == 2


async def test_it_refuses_what_is_beyond_the_ledger_with_its_date(redis: Store) -> None:
    await settle(redis, 0, OLD)
    books = Books(redis, 1)
    await applying.check_reach(books, 0)
    await redis.xadd(names.ledger(0), {"x": "y"})
    await redis.xtrim(names.ledger(0), maxlen=1, approximate=False)
    reached = await ledger.trimmed_until(redis, 0)
    assert reached is not None
    reached += 60_000  # a gateway's clock may be ahead of Redis's
    with pytest.raises(BeyondLedger, match=r"the ledger goes back to 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"):
        await applying.check_reach(books, reached)
    await applying.check_reach(books, reached + 1)


async def test_another_version_of_a_book_alone_is_not_booked(redis: Store) -> None:
    await settle(redis, 0, OLD)
    assert (await apply(redis, book("0.0037", "1.1")))[0] == []
