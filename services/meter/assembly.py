"""Assembles the records of an exchange. Pure: all records held here are also pending in Redis."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from services.meter.measure import Tail
from shared.contract import tail
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Head, Open, Outcome, Packed, Record, Segment, StreamEntry

_MOST_BAD = 10_000


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


class BadExchange(BadRecord):
    """Records that can be read, and contradict each other. `stream_ids`: all there are of the exchange."""

    def __init__(self, reason: str, stream_ids: list[bytes]) -> None:
        super().__init__(reason)
        self.stream_ids = stream_ids


class Assembler:
    """The exchanges of one shard that are not whole yet."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._open: dict[ExchangeId, _Parts] = {}
        self._known: set[bytes] = set()
        self._bad: set[ExchangeId] = set()  # their records may still be coming

    def __len__(self) -> int:
        return len(self._open)

    def knows(self, stream_id: bytes) -> bool:
        return stream_id in self._known

    def add(self, entry: StreamEntry, now: float) -> Assembled | None:
        """Take a record; the whole exchange if it was the last one missing.

        Records may come twice and in any order. BadRecord where one cannot be read, BadExchange where several
        contradict each other. `now` is any clock that only `idle` compares with.
        """
        if entry.id in self._known:
            return None
        id, seq, record = tail.decode(entry.fields)
        if id.shard != self._shard:
            raise BadRecord(f"a record of shard {id.shard} in shard {self._shard}")
        if id in self._bad:
            raise BadRecord(f"exchange {id} has records that contradict each other")
        parts = self._open.get(id) or self._open.setdefault(id, _Parts())
        self._known.add(entry.id)
        parts.stream_ids.append(entry.id)
        parts.changed = now
        if isinstance(record, End):
            # Over a segment of the same number: a journal that was full when the end came has kept its bytes alone.
            parts.records[seq] = record
        else:
            parts.records.setdefault(seq, record)
        if isinstance(record, End):
            parts.end = seq
        if parts.end is None or len(parts.records) <= parts.end:
            return None
        whole = _whole(id, parts.records, parts.end)
        if whole is None:
            raise self._bad_exchange(id, f"exchange {id} has records that contradict each other")
        return Assembled(whole, self.forget(id))

    def _bad_exchange(self, id: ExchangeId, reason: str) -> BadExchange:
        if len(self._bad) >= _MOST_BAD:
            self._bad.clear()
        self._bad.add(id)
        return BadExchange(reason, self.forget(id))

    def forget(self, id: ExchangeId) -> list[bytes]:
        """Stop holding an exchange; the ids of its stream entries."""
        parts = self._open.pop(id)
        self._known.difference_update(parts.stream_ids)
        return parts.stream_ids

    def holds(self, id: ExchangeId) -> bool:
        return id in self._open

    def stream_ids(self, id: ExchangeId) -> list[bytes]:
        """The stream entries held of an exchange."""
        return self._open[id].stream_ids

    def rest(self, id: ExchangeId) -> Assembled | None:
        """An exchange of which no more will come, as far as its records came; None where its open is missing.

        BadRecord where its bytes are damaged.
        """
        parts = self._open[id]
        opened = parts.records.get(0)
        if not isinstance(opened, Open):
            return None
        segments: list[Segment] = []
        while isinstance(segment := parts.records.get(len(segments) + 1), Segment):
            segments.append(segment)  # up to the first one that is missing
        end = next((record for record in parts.records.values() if isinstance(record, End)), None)
        if end is None:
            end = _lost(opened, segments)
        else:  # something in the middle is missing
            have = sum(len(segment.body.unpack()) for segment in segments) + len(end.body.unpack())
            end = msgspec.structs.replace(end, lost_bytes=max(1, end.lost_bytes, end.response_bytes - have))
        return Assembled(Tail(id, opened, segments, end), parts.stream_ids)

    def idle(self, before: float) -> list[ExchangeId]:
        """Exchanges that are not whole and have had no record since `before`."""
        return [id for id, parts in self._open.items() if parts.changed < before]


def _whole(id: ExchangeId, records: dict[int, Record], end: int) -> Tail | None:
    """The tail; None where these records do not make one."""
    first, last = records.get(0), records.get(end)
    segments = [record for seq in range(1, end) if isinstance(record := records.get(seq), Segment)]
    if not isinstance(first, Open) or not isinstance(last, End) or len(segments) != end - 1 or len(records) != end + 1:
        return None
    return Tail(id=id, open=first, segments=segments, end=last)


def _lost(opened: Open, segments: list[Segment]) -> End:
    """An end for an exchange whose gateway died before it wrote one."""
    head = (segments[0].head if segments else None) or Head()
    return End(
        outcome=Outcome.GATEWAY_LOST,
        status=head.status,
        content_type=head.content_type,
        content_encoding=head.content_encoding,
        response_bytes=sum(len(segment.body.unpack()) for segment in segments),
        request_bytes=opened.request_bytes,
        first_byte_ms=None,
        duration_ms=0,
        request_id="",
        body=Packed(b""),
    )
