"""Quarantine: records that a meter could not read, with the reason, until an operator retries or drops them.

Each shard has a hash of stream entry id to record. The records of one exchange are shown and handled as one case.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from shared.books import streams
from shared.books.books import Books
from shared.contract import names, scripts
from shared.contract.errors import ARouterError, BadRecord
from shared.contract.events import EventType
from shared.contract.ids import ExchangeId
from shared.contract.tail import Fields, StreamEntry
from shared.runtime import events
from shared.runtime.store import Store, translated

_MOST_SHOWN = 200  # characters


class NotQuarantined(ARouterError):
    """Nothing is held under this id."""


class _Held(msgspec.Struct, frozen=True):
    reason: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Case:
    """All records held of one exchange. `id`: the exchange's, or `shard:entry` where the record has none."""

    id: str
    shard: int
    reason: str
    entries: tuple[StreamEntry, ...]

    @property
    def since_ms(self) -> int:
        """When the first record was written, UTC milliseconds."""
        return int(self.entries[0].id.partition(b"-")[0])

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(len(value) for entry in self.entries for value in entry.fields.values())


async def hold(store: Store, shard: int, entries: Sequence[StreamEntry], reason: str) -> None:
    """Move records from the shard's tail stream to quarantine, in one step. Moving them again changes nothing."""
    if not entries:
        return
    held = [part for entry in entries for part in (entry.id, msgspec.msgpack.encode(_Held(reason, entry.fields)))]
    with translated():
        await store.eval(scripts.HOLD, 2, names.quarantine(shard), names.tail(shard), names.GROUP, *held)  # type: ignore[misc,arg-type]
    first = entries[0]
    exchange_id = first.fields.get(b"x", b"").decode("ascii", "replace")[:_MOST_SHOWN]
    # Behind a colon there may be words of the answer.
    said = {"exchange_id": exchange_id, "shard": shard, "reason": reason.partition(":")[0][:_MOST_SHOWN]}
    about = f"{shard} {first.id.decode()} {exchange_id}"
    await events.tell(store, EventType.EXCHANGE_QUARANTINED, about, {**said, "records": len(entries)})


async def cases(books: Books) -> list[Case]:
    """All cases, the oldest first."""
    with translated():
        pipeline = books.store.pipeline(transaction=False)
        for shard in range(books.shards):
            pipeline.hgetall(names.quarantine(shard))
        replies = await pipeline.execute()
    found = [case for shard, held in enumerate(replies) for case in _cases(shard, held)]
    return sorted(found, key=lambda case: case.since_ms)


async def find(books: Books, case_id: str) -> Case:
    """One case. NotQuarantined where no case has this id."""
    found = next((case for case in await cases(books) if case.id == case_id), None)
    if found is None:
        raise NotQuarantined(f"nothing is held under {case_id!r}")
    return found


async def open_record(store: Store, id: ExchangeId) -> bytes | None:
    """The open record of an exchange that is held, packed."""
    with translated():
        held = await store.hgetall(names.quarantine(id.shard))  # type: ignore[misc]
    for case in _cases(id.shard, held):
        for entry in case.entries if case.id == str(id) else ():
            if entry.fields.get(b"s") == b"0":
                return entry.fields.get(b"r")
    return None


async def retry(store: Store, case: Case) -> None:
    """Give the records back to the meters, each in one step."""
    with translated():
        for entry in case.entries:
            flat = [part for field in entry.fields.items() for part in field]
            await store.eval(scripts.RETRY, 2, names.quarantine(case.shard), names.tail(case.shard), entry.id, *flat)  # type: ignore[misc,arg-type]


async def drop(store: Store, case: Case) -> None:
    """Delete the records for good. An exchange without other records counts as settled; what is booked of it stands,
    which is nothing in most cases."""
    with suppress(BadRecord):  # a record without an exchange id
        id = ExchangeId.parse(case.id)
        if id.shard == case.shard and str(id) not in await streams.exchanges(store, case.shard):
            with translated():
                await store.setbit(names.final(id.shard, id.boot), id.n, 1)
                await store.expire(names.final(id.shard, id.boot), names.FINAL_TTL_S)
                await store.hdel(names.provisional(id.shard), str(id))  # type: ignore[misc]
    with translated():
        await store.hdel(names.quarantine(case.shard), *(entry.id for entry in case.entries))  # type: ignore[misc,arg-type]


def _cases(shard: int, held: dict[bytes, bytes]) -> list[Case]:
    grouped: dict[str, list[tuple[StreamEntry, str]]] = {}
    for entry_id in sorted(held, key=_order):
        record = msgspec.msgpack.decode(held[entry_id], type=_Held)
        exchange_id = record.fields.get(b"x", b"").decode("ascii", "replace")
        case_id = exchange_id or f"{shard}:{entry_id.decode()}"
        grouped.setdefault(case_id, []).append((StreamEntry(entry_id, record.fields), record.reason))
    return [Case(case_id, shard, parts[0][1], tuple(entry for entry, _ in parts)) for case_id, parts in grouped.items()]


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)
