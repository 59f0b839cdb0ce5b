"""Putting the records of an exchange together again. Pure: what is held here is also pending in Redis."""

from __future__ import annotations

from typing import NamedTuple

from services.meter.measure import Tail
from shared import tail
from shared.errors import BadRecord
from shared.ids import ExchangeId
from shared.tail import End, Open, Record, Segment, StreamEntry


class Assembled(NamedTuple):
    """A whole exchange, and the stream entries it came in, duplicates included."""

    tail: Tail
    stream_ids: list[bytes]


class _Parts:
    __slots__ = ("changed", "end", "records", "stream_ids")

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.stream_ids: list[bytes] = []
        self.end: int | None = None  # seq of the end record
        self.changed = 0.0


class Assembler:
    """The exchanges of one shard that are not whole yet."""

    def __init__(self) -> None:
        self._open: dict[ExchangeId, _Parts] = {}
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._open)

    def knows(self, stream_id: bytes) -> bool:
        return stream_id in self._known

    def add(self, entry: StreamEntry, now: float) -> Assembled | None:
        """Take a record; the whole exchange if it was the last one missing. BadRecord where it cannot be read.

        Records may come twice and in any order. `now` is any clock that only `idle` compares with.
        """
        if entry.id in self._known:
            return None
        id, seq, record = tail.decode(entry.fields)
        parts = self._open.get(id) or self._open.setdefault(id, _Parts())
        self._known.add(entry.id)
        parts.stream_ids.append(entry.id)
        parts.records.setdefault(seq, record)
        parts.changed = now
        if isinstance(record, End):
            parts.end = seq
        if parts.end is None or len(parts.records) <= parts.end:
            return None
        return Assembled(_whole(id, parts, parts.end), self.forget(id))

    def forget(self, id: ExchangeId) -> list[bytes]:
        """Stop holding an exchange; the ids of its stream entries."""
        parts = self._open.pop(id)
        self._known.difference_update(parts.stream_ids)
        return parts.stream_ids

    def idle(self, before: float) -> list[ExchangeId]:
        """Exchanges that are not whole and have had no record since `before`."""
        return [id for id, parts in self._open.items() if parts.changed < before]


def _whole(id: ExchangeId, parts: _Parts, end: int) -> Tail:
    first, last = parts.records[0], parts.records[end]
    assert isinstance(first, Open) and isinstance(last, End)  # decode lets nothing else have these places
    between = [parts.records.get(seq) for seq in range(1, end)]
    segments = [record for record in between if isinstance(record, Segment)]
    if len(segments) != end - 1:
        raise BadRecord(f"exchange {id} has records that contradict each other")
    return Tail(id=id, open=first, segments=segments, end=last)
