"""Assembles exchanges of their records. Pure; every record held here is also pending in Redis."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from services.meter.tails import Tail
from shared.contract import tail
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Head, Open, Outcome, Packed, Record, Segment, StreamEntry

_MOST_BAD = 10_000
# The most bytes of one exchange that are held, packed. Gateways of this version send less; earlier ones send all.
_MOST_HELD = 64 * 1024 * 1024


class Assembled(NamedTuple):
    """A whole exchange, and its stream entries, duplicates included."""

    tail: Tail
    stream_ids: list[bytes]


class _Parts:
    __slots__ = ("changed", "end", "records", "size", "stream_ids")

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.stream_ids: list[bytes] = []
        self.end: int | None = None  # seq of the end record
        self.size = 0  # bytes of the segments
        self.changed = 0.0

    def hold(self, seq: int, segment: Segment, most: int) -> None:
        """Hold a segment, or, beyond what is held of one exchange, how much it had."""
        if seq in self.records:
            return
        if self.size + len(segment.body.data) > most:
            segment = Segment(Packed(b""), segment.head, segment.gap + segment.body.size)
        self.size += len(segment.body.data)
        self.records[seq] = segment


class BadExchange(BadRecord):
    """The records of an exchange contradict each other. `stream_ids`: all its stream entries."""

    def __init__(self, reason: str, stream_ids: list[bytes]) -> None:
        super().__init__(reason)
        self.stream_ids = stream_ids


class Assembler:
    """The exchanges of one shard that are not whole yet."""

    def __init__(self, shard: int, most_held: int = _MOST_HELD) -> None:
        """`most_held`: bytes of one exchange."""
        self._shard = shard
        self._most_held = most_held
        self._open: dict[ExchangeId, _Parts] = {}
        self._known: set[bytes] = set()
        self._bad: set[ExchangeId] = set()  # more records of them may come

    def __len__(self) -> int:
        return len(self._open)

    def knows(self, stream_id: bytes) -> bool:
        return stream_id in self._known

    def add(self, entry: StreamEntry, now: float) -> Assembled | None:
        """Take a record. Returns the whole exchange if this was the last missing one, else None.

        Records may come twice and in any order. `now`: by the same clock as the argument of `idle`. BadRecord where
        the record cannot be read, BadExchange where it contradicts another.
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
            # It replaces a segment of its number: a journal that was full when the end came holds only its bytes.
            parts.records[seq] = record
        elif isinstance(record, Segment):
            parts.hold(seq, record, self._most_held)
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
        """Stop holding an exchange. Returns the ids of its stream entries."""
        parts = self._open.pop(id)
        self._known.difference_update(parts.stream_ids)
        return parts.stream_ids

    def holds(self, id: ExchangeId) -> bool:
        return id in self._open

    def stream_ids(self, id: ExchangeId) -> list[bytes]:
        """The ids of the stream entries that are held of an exchange."""
        return self._open[id].stream_ids

    def rest(self, id: ExchangeId) -> Assembled | None:
        """An exchange that gets no further records, made of those that came; None where its open is missing.

        BadRecord where its bytes are damaged.
        """
        parts = self._open[id]
        opened = parts.records.get(0)
        if not isinstance(opened, Open):
            return None
        segments: list[Segment] = []
        while isinstance(segment := parts.records.get(len(segments) + 1), Segment):
            segments.append(segment)  # up to the first missing one
        end = next((record for record in parts.records.values() if isinstance(record, End)), None)
        if end is None:
            end = _lost(opened, segments)
        else:  # segments in the middle are missing
            have = sum(_length(body) for body in (end.body, *(segment.body for segment in segments)))
            end = msgspec.structs.replace(end, lost_bytes=max(1, end.lost_bytes, end.response_bytes - have))
        return Assembled(Tail(id, opened, segments, end), parts.stream_ids)

    def idle(self, before: float) -> list[ExchangeId]:
        """Exchanges that are not whole and got no record since `before`."""
        return [id for id, parts in self._open.items() if parts.changed < before]


def _whole(id: ExchangeId, records: dict[int, Record], end: int) -> Tail | None:
    """The tail of these records; None where they do not fit together."""
    first, last = records.get(0), records.get(end)
    segments = [record for seq in range(1, end) if isinstance(record := records.get(seq), Segment)]
    if not isinstance(first, Open) or not isinstance(last, End) or len(segments) != end - 1 or len(records) != end + 1:
        return None
    return Tail(id=id, open=first, segments=segments, end=_with_gaps(segments, last))


def _with_gaps(segments: list[Segment], end: End) -> End:
    """The end with the bytes that were not held here, which its gateway does not know of."""
    gaps = end.gap + sum(segment.gap for segment in segments)
    return end if gaps <= end.lost_bytes else msgspec.structs.replace(end, lost_bytes=gaps)


def _length(body: Packed) -> int:
    """How many bytes it holds. BadRecord where they are damaged, as far as that can be seen without a key."""
    return len(body.unpack()) if body.seal is None else body.size


def _lost(opened: Open, segments: list[Segment]) -> End:
    """The end record of an exchange whose gateway died before it wrote one."""
    head = (segments[0].head if segments else None) or Head()
    return End(
        outcome=Outcome.GATEWAY_LOST,
        status=head.status,
        content_type=head.content_type,
        content_encoding=head.content_encoding,
        response_bytes=sum(_length(segment.body) for segment in segments),
        request_bytes=opened.request_bytes,
        first_byte_ms=None,
        duration_ms=0,
        request_id="",
        body=Packed(b""),
        provider=head.provider,
        model=head.model,
        credential=head.credential,
        path=head.path,
    )
