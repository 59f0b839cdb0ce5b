"""Checks the books against each other: conservation of exchanges, and totals against the ledger.

Each side of conservation is counted on its own: gateways say how many exchanges they opened, bitmaps tell which are
settled, the streams which are in flight, the quarantine which are held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.books import boots, ledger, quarantine, streams, totals
from shared.contract import names
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.usage import COUNTERS, Source
from shared.runtime.store import Store, translated

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(slots=True)
class Conservation:
    """Exchanges, all boots and shards together. `gap` is 0 but for what is on its way from a gateway to Redis."""

    opened: int = 0
    settled: int = 0
    in_flight: int = 0
    quarantined: int = 0

    @property
    def gap(self) -> int:
        """Opened, and nowhere to be found: waiting in a gateway, or lost."""
        return self.opened - self.settled - self.in_flight - self.quarantined


@dataclass(slots=True)
class Audit:
    """What was found. `differences` is empty where the books agree."""

    conservation: Conservation
    exchanges: int = 0  # in the ledger
    revisions: int = 0
    differences: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["conservation"]["gap"] = self.conservation.gap
        return found


async def conservation(store: Store, shards: int) -> Conservation:
    """Count every side, now. Sides are read one after the other, so that running traffic moves them a little."""
    found = Conservation()
    known = await boots.known(store)
    waiting: set[ExchangeId] = set()
    for shard in range(shards):
        waiting |= await _unsettled(store, await streams.exchanges(store, shard), known)
    held = await _unsettled(store, {case.id for case in await quarantine.cases(store, shards)}, known)
    found.in_flight, found.quarantined = len(waiting), len(held - waiting)
    with translated():
        pipeline = store.pipeline(transaction=False)
        for shard in range(shards):
            pipeline.hgetall(names.opened(shard))
            for boot in known:
                pipeline.bitcount(names.final(shard, boot))
        replies = iter(await pipeline.execute())
    for shard in range(shards):
        shipped = {boot.decode(): int(count) for boot, count in next(replies).items()}
        for boot, state in known.items():
            # What the gateway says, or what it has shipped since.
            found.opened += max(state.opened.get(shard, 0), shipped.get(boot, 0))
            found.settled += next(replies)
    return found


async def audit(store: Store, shards: int) -> Audit:
    """Conservation, and the totals recomputed from the ledger as far back as that goes."""
    found = Audit(await conservation(store, shards))
    if found.conservation.gap:
        found.differences.append(f"conservation: {found.conservation.gap} exchanges are nowhere to be found")
    for shard in range(shards):
        await _audit_shard(store, shard, found)
    return found


async def _audit_shard(store: Store, shard: int, found: Audit) -> None:
    latest: dict[str, ledger.LedgerEntry] = {}
    finals: set[str] = set()
    async for entry in ledger.read(store, shard):
        found.revisions += 1
        before = latest.get(entry.exchange_id)
        if before is not None and entry.revision != before.revision + 1:
            found.differences.append(f"{entry.exchange_id}: revision {entry.revision} follows {before.revision}")
        if entry.exchange_id in finals:
            found.differences.append(f"{entry.exchange_id}: settled again after it was final")
        if entry.final:
            finals.add(entry.exchange_id)
        latest[entry.exchange_id] = entry
    found.exchanges += len(latest)
    trimmed = await ledger.trimmed_until(store, shard)
    periods: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    ever: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in latest.values():
        booked = entry.entry
        hour = datetime.fromtimestamp(booked["opened_ms"] / 1000, UTC).strftime("%Y%m%d%H")
        # Of what was trimmed in part, nothing can be said.
        whole_hour = trimmed is None or booked["opened_ms"] // _HOUR_MS * _HOUR_MS > trimmed
        whole_day = trimmed is None or booked["opened_ms"] // _DAY_MS * _DAY_MS > trimmed
        for name, value in _counters(booked).items():
            field_name = totals.group(booked["provider"], booked["model"]) + name
            ever[names.totals(shard, booked["key"])][field_name] += value
            if whole_hour:
                periods[names.hour(shard, booked["key"], hour)][field_name] += value
            if whole_day and "cost_microusd" in booked:  # before there were prices, there were no days either
                periods[names.day(shard, booked["key"], hour[:8])][field_name] += value
    wanted = periods if trimmed is not None else periods | ever
    await _compare(store, wanted, found.differences)


async def _compare(store: Store, wanted: dict[str, dict[str, int]], differences: list[str]) -> None:
    with translated():
        pipeline = store.pipeline(transaction=False)
        for key in wanted:
            pipeline.hgetall(key)
        replies = await pipeline.execute()
    for (key, fields), reply in zip(wanted.items(), replies, strict=True):
        stored = {name.decode(): int(value) for name, value in reply.items()}
        for name in sorted(fields.keys() | stored.keys()):
            there, here = stored.get(name, 0), fields.get(name, 0)
            if there != here:
                shown = name.replace(names.FIELD_SEPARATOR, " ")
                differences.append(f"{key} {shown}: {there} is stored, the ledger adds up to {here}")


def compare_with_oracle(entries: Iterable[ledger.LedgerEntry], emitted: Iterable[dict[str, Any]]) -> list[str]:
    """Differences between the ledger and a demo provider's emit log, exchange by exchange."""
    book = {entry.exchange_id: entry for entry in entries}
    differences: list[str] = []
    for line in emitted:
        id = line["exchange_id"]
        if not id:
            continue
        entry = book.get(id)
        if entry is None:
            differences.append(f"{id}: the provider answered it, and it is not booked")
        elif not entry.final:
            differences.append(f"{id}: is booked provisionally only")
        else:
            differences += [f"{id}: {text}" for text in _against(entry.entry, line)]
    return differences


def _against(entry: dict[str, Any], line: dict[str, Any]) -> list[str]:
    found = []
    if entry["response_bytes"] > line["bytes"]:
        found.append(f"{entry['response_bytes']} bytes are booked, {line['bytes']} were sent")
    if line["usage"] and entry["outcome"] == "completed" and line["ended"] == "completed":
        wrong = {name: entry[name] for name, value in line["usage"].items() if entry[name] != value}
        found += [f"{name} is {value}, not {line['usage'][name]}" for name, value in wrong.items()]
    if entry["outcome"] != "completed" and entry["source"] == Source.REPORTED:
        found.append(f"its outcome is {entry['outcome']}, and it is booked as reported")
    return found


def _counters(entry: dict[str, Any]) -> dict[str, int]:
    """What the settle script adds up of an entry."""
    flags = {
        "requests": 1,
        "estimated_requests": int(entry["source"] == Source.ESTIMATED),
        "partial_requests": int(entry["source"] == Source.PARTIAL),
        # An entry from before there were prices has booked neither.
        "unpriced_requests": int("cost_microusd" in entry and entry["cost_microusd"] is None),
        "cost_microusd": entry.get("cost_microusd") or 0,
    }
    return flags | {name: entry[name] or 0 for name in COUNTERS}


async def unsettled(store: Store, ids: Iterable[str]) -> set[ExchangeId]:
    """Which of these exchanges nothing is booked of: what is final waits to be dropped as a replay."""
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
    """Which of these are exchanges of a known boot and not final: what is, waits to be dropped as a replay."""
    return {id for id in await _open(store, ids) if id.boot in known}


async def _open(store: Store, ids: Iterable[str]) -> list[ExchangeId]:
    """Which of these are exchanges that are not final."""
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
