"""Checks the books against each other: conservation of exchanges, and totals against the ledger.

Each side of conservation is counted on its own: opened by the heartbeats of gateways, settled by the bitmaps, in flight
by the streams, quarantined by the quarantine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.books import boots, ledger, quarantine, streams
from shared.books.books import Books
from shared.books.ledger import LedgerEntry
from shared.contract import booked, names
from shared.contract.entry import Entry
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.runtime.store import Store, translated

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(slots=True)
class Conservation:
    """Counts of exchanges, over all boots and shards. `gap` is 0 but for exchanges on their way to Redis."""

    opened: int = 0
    settled: int = 0
    in_flight: int = 0
    quarantined: int = 0

    @property
    def gap(self) -> int:
        """Exchanges that were opened and are nowhere else: they wait in a gateway, or are lost."""
        return self.opened - self.settled - self.in_flight - self.quarantined


@dataclass(slots=True)
class Audit:
    """The result of an audit. `differences` is empty where the books agree."""

    conservation: Conservation
    exchanges: int = 0  # in the ledger
    revisions: int = 0
    differences: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["conservation"]["gap"] = self.conservation.gap
        return found


async def conservation(books: Books) -> Conservation:
    """Count every side now. Sides are read one after the other, so running traffic moves them a little."""
    found, store = Conservation(), books.store
    known = await boots.known(store)
    waiting: set[ExchangeId] = set()
    for shard in range(books.shards):
        waiting |= await _unsettled(store, await streams.exchanges(store, shard), known)
    held = await _unsettled(store, {case.id for case in await quarantine.cases(books)}, known)
    found.in_flight, found.quarantined = len(waiting), len(held - waiting)
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard in range(books.shards):
            pipeline.hgetall(names.opened(shard))
            for boot in known:
                pipeline.bitcount(names.final(shard, boot))
        replies = iter(await pipeline.execute())
    for shard in range(books.shards):
        shipped = {boot.decode(): int(count) for boot, count in next(replies).items()}
        for boot, state in known.items():
            # The gateway's last heartbeat, or the records that it has shipped since.
            found.opened += max(state.opened.get(shard, 0), shipped.get(boot, 0))
            found.settled += next(replies)
    return found


async def audit(books: Books) -> Audit:
    """Check conservation, and compare totals with the ledger as far back as that goes."""
    found = Audit(await conservation(books))
    if found.conservation.gap:
        found.differences.append(f"conservation: {found.conservation.gap} exchanges are nowhere to be found")
    for shard in range(books.shards):
        await _audit_shard(books.store, shard, found)
    return found


class _Shard:
    """The sums of one shard's ledger."""

    def __init__(self, shard: int, trimmed_until: int | None) -> None:
        self._shard = shard
        self._trimmed = trimmed_until
        self.latest: dict[str, LedgerEntry] = {}
        self._counted: dict[str, dict[str, int]] = {}
        self.revisions = 0
        self.differences: list[str] = []

    def take(self, entry: LedgerEntry) -> None:
        """Add the next entry, in the order of settling."""
        self.revisions += 1
        before = self.latest.get(entry.exchange_id)
        if before is not None and entry.revision != before.revision + 1:
            self.differences.append(f"{entry.exchange_id}: revision {entry.revision} follows {before.revision}")
        if before is not None and before.final and not entry.repriced:
            self.differences.append(f"{entry.exchange_id}: settled again after it was final")
        self._check_delta(entry)
        self.latest[entry.exchange_id] = entry
        # Amounts that its meter did not know stay as they were.
        self._counted[entry.exchange_id] = self._counted.get(entry.exchange_id, {}) | entry.counted

    def _check_delta(self, entry: LedgerEntry) -> None:
        before = self._counted.get(entry.exchange_id, {} if entry.revision == 1 else None)
        if before is None or entry.delta is None:  # the revision before is trimmed, or the meter wrote no delta
            return
        wanted = {name: value - before.get(name, 0) for name, value in entry.counted.items()}
        if wanted != entry.delta:
            self.differences.append(f"{entry.exchange_id}: revision {entry.revision} does not add what it says")

    def totals(self) -> dict[str, dict[str, int]]:
        """By key in Redis, the fields that must be there. Hours and days that were trimmed in part are left out."""
        wanted: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for entry in self.latest.values():
            group = booked.group(entry.entry.provider, entry.entry.model)
            for place in self._places(entry.entry, entry.entry.key, entry.entry.team):
                for name, value in self._counted[entry.exchange_id].items():
                    wanted[place][group + name] += value
            for place in self._places(entry.entry, entry.moved.key, entry.moved.team) if entry.moved else ():
                wanted.setdefault(place, defaultdict(int))  # nothing of it may be left there
        return wanted

    def _places(self, entry: Entry, key: str, team: str) -> Iterator[str]:
        """The totals to which an entry is added, on one key and, unless that is "", one team."""
        hour = datetime.fromtimestamp(entry.opened_ms / 1000, UTC).strftime("%Y%m%d%H")
        if self._trimmed is None:
            yield names.totals(self._shard, key)
            if team:
                yield names.team_totals(self._shard, team)
        if self._whole(entry.opened_ms, _HOUR_MS):
            yield names.hour(self._shard, key, hour)
        # Entries from before there were prices have no days either.
        if self._whole(entry.opened_ms, _DAY_MS) and entry.price_version is not None:
            yield names.day(self._shard, key, hour[:8])
            if team:
                yield names.team_day(self._shard, team, hour[:8])

    def _whole(self, at_ms: int, length_ms: int) -> bool:
        return self._trimmed is None or at_ms // length_ms * length_ms > self._trimmed


async def _audit_shard(store: Store, shard: int, found: Audit) -> None:
    ledger_of = _Shard(shard, await ledger.trimmed_until(store, shard))
    async for entry in ledger.read(store, shard):
        ledger_of.take(entry)
    found.exchanges += len(ledger_of.latest)
    found.revisions += ledger_of.revisions
    found.differences += ledger_of.differences
    await _compare(store, ledger_of.totals(), found.differences)


async def _compare(store: Store, wanted: dict[str, dict[str, int]], differences: list[str]) -> None:
    with translated():
        pipeline = store.pipeline(transaction=False)
        for key in wanted:
            pipeline.hgetall(key)
        replies = await pipeline.execute()
    for (key, fields), reply in zip(wanted.items(), replies, strict=True):
        stored = {name.decode(): int(value) for name, value in reply.items()}
        known = {name for name in stored if name.rpartition(names.FIELD_SEPARATOR)[2] in booked.BOOKED}
        for name in sorted(fields.keys() | known):
            there, here = stored.get(name, 0), fields.get(name, 0)
            if there != here:
                shown = name.replace(names.FIELD_SEPARATOR, " ")
                differences.append(f"{key} {shown}: {there} is stored, the ledger adds up to {here}")


async def unsettled(store: Store, ids: Iterable[str]) -> set[ExchangeId]:
    """Those of these exchanges of which nothing is booked. Final ones wait to be dropped as replays."""
    parsed = await _open(store, ids)
    if not parsed:
        return set()
    with translated():
        pipeline = store.pipeline(transaction=False)
        for id in parsed:
            pipeline.hexists(names.provisional(id.shard), str(id))
        booked = await pipeline.execute()
    return {id for id, provisional in zip(parsed, booked, strict=True) if not provisional}


async def _unsettled(store: Store, ids: Iterable[str], known: Container[str]) -> set[ExchangeId]:
    """Those of these exchanges that belong to a known boot and are not final."""
    return {id for id in await _open(store, ids) if id.boot in known}


async def _open(store: Store, ids: Iterable[str]) -> list[ExchangeId]:
    """Those of these ids that are exchange ids, of exchanges that are not final."""
    parsed = []
    for text in ids:
        with suppress(BadRecord):
            parsed.append(ExchangeId.parse(text))
    if not parsed:
        return []
    with translated():
        pipeline = store.pipeline(transaction=False)
        for id in parsed:
            pipeline.getbit(names.final(id.shard, id.boot), id.n)
        bits = await pipeline.execute()
    return [id for id, final in zip(parsed, bits, strict=True) if not final]
