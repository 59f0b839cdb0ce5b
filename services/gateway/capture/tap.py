"""The tap: a bounded copy of the relayed bytes, cut into segments for the meter. It never blocks or fails the relay.

One `Tap` per process holds the open `ExchangeTap`s. Its ticker cuts bytes that have waited for a second, so that no
stream needs a timer or a clock of its own.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable

import msgspec

from services.gateway.capture.copy_budget import CopyBudget, CopyLimits
from services.gateway.capture.journal import Journal
from services.gateway.capture.writer import RecordWriter
from shared.contract import seals, tail
from shared.contract.ids import ExchangeId, ExchangeIds
from shared.contract.seals import Sealer
from shared.contract.tail import End, Head, Open, Packed, Segment
from shared.runtime.errors import JournalFailed

_SEGMENT_BYTES = 64 * 1024
_TICK_SECONDS = 0.05
_TICKS_PER_SEGMENT = 20  # a segment is cut after a second
_MAX_REQUEST_BYTES = 2 * 1024 * 1024

# How usage looks in every dialect. Where the tail has it, the meter does not need the request body. Where two segments
# share the marker, the body is only sent for nothing. `"usage":null` (on each chunk of a chat stream) does not count.
_USAGE = re.compile(rb'"(?:usage|usageMetadata)"\s*:\s*\{')

_LIMITS = CopyLimits()

log = logging.getLogger(__name__)


class ExchangeTap:
    """The tail of one exchange as it grows."""

    __slots__ = (
        "_budget",
        "_chunks",
        "_head",
        "_journaled",
        "_seq",
        "_size",
        "_tap",
        "bytes",
        "id",
        "name",
        "turn",
        "usage_seen",
    )

    def __init__(self, tap: Tap, exchange_id: ExchangeId, turn: int, budget: CopyBudget) -> None:
        self.id = exchange_id
        self.turn = turn
        self.name = str(exchange_id)
        self.bytes = 0  # all body bytes seen so far
        self.usage_seen = False
        self._tap = tap
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._journaled = 0  # how many of these chunks are in the journal
        self._size = 0
        self._seq = 1  # of the next record; 0 is the open
        self._budget = budget

    @property
    def so_far(self) -> int:
        """All body bytes that have come, those that wait to be cut among them."""
        return self.bytes + self._size

    @property
    def lost(self) -> int:
        """Bytes that were to be copied, and that there was no room for."""
        return self._budget.no_room

    def head(self, head: Head) -> None:
        """Take the head of the answer, before its body."""
        self._head = head

    def feed(self, chunk: bytes) -> None:
        """Take a chunk of the response body, undecoded."""
        if len(self._chunks) == self._journaled:
            self._tap.changed.append(self)
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size >= _SEGMENT_BYTES:
            self.cut()

    def note(self) -> None:
        """Give the journal the chunks that it does not have yet."""
        new = self._chunks[self._journaled :]
        if not new or self._budget.spent:
            return  # they have become a segment meanwhile, or may never become one
        if self._seq == 1 and not self._journaled and self._head is not None:
            self._tap.journal.head(self.name, self._head)
        sealer = self._tap.sealer
        if sealer is None:
            self._tap.journal.fragment(self.name, self._seq, b"".join(new))
        else:
            piece = sealer.seal(self.name, str(self._seq), Packed(b"".join(new)))
            self._tap.journal.sealed_fragment(self.name, self._seq, piece)
        self._journaled = len(self._chunks)

    def cut(self) -> None:
        """Send the pending bytes as a segment, as long as the budget lasts."""
        if not self._chunks:
            return
        if self._budget.spent:
            self._budget.hold(self._take())
            return
        sealed = self._tap.sealer is not None
        if not sealed:
            self.note()
        body = self._copied(self._take())
        if body:
            head = self._head if self._seq == 1 else None
            packed = self._packed(str(self._seq), body)
            record = tail.pack(Segment(packed, head, self._budget.take_gap()))
            if sealed:
                self._tap.journal.record(self.name, self._seq, record)
            else:
                self._tap.journal.cut(self.name, self._seq, len(body))
            self._ship(record)

    def end(self, ending: End, request: bytes | None, *, relayed: int | None = None) -> None:
        """Send the last bytes with the end record, and forget the exchange.

        `request`: the request's body, where usage may have to be estimated; it is left out where the tail has usage.
        `relayed`: bytes that went to the client, where the tail holds something else than these.
        """
        body = self._take()
        if self._budget.spent:
            self._budget.hold(body)
            body = self._budget.last()
        body = self._copied(body)
        held = request is not None and not self.usage_seen and len(request) <= _MAX_REQUEST_BYTES
        record = tail.pack(
            msgspec.structs.replace(
                ending,
                response_bytes=self.bytes if relayed is None else relayed,
                body=self._packed(seals.END, body),
                request=self._packed(seals.REQUEST, request) if held and request else None,
                lost_bytes=self._budget.lost,
                gap=self._budget.gap,
            )
        )
        self._tap.journal.record(self.name, self._seq, record)
        self._ship(record)
        self._tap.forget(self)

    def _packed(self, place: str, body: bytes) -> Packed:
        """Bytes as they stand at a place of the tail."""
        packed = Packed.pack(body)
        sealer = self._tap.sealer
        return packed if sealer is None else sealer.seal(self.name, place, packed)

    def _take(self) -> bytes:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self.bytes += len(body)
        self._chunks = []
        self._journaled = 0
        self._size = 0
        return body

    def _copied(self, body: bytes) -> bytes:
        """The bytes that go into a record: these, or none where there is no room for them."""
        self.usage_seen = self.usage_seen or _USAGE.search(body) is not None
        if self._tap.full:
            self._budget.lose(len(body))
            return b""
        self._budget.spend(len(body))
        return body

    def _ship(self, record: bytes) -> None:
        self._tap.writer.put(self.id.shard, tail.fields(self.name, self._seq, record))
        self._seq += 1


class Tap:
    """The taps of one process, with the journal, the writer and the ticker that they share."""

    def __init__(
        self,
        ids: ExchangeIds,
        writer: RecordWriter,
        journal: Journal,
        *,
        unkept: Callable[[], None] | None = None,
        limits: CopyLimits = _LIMITS,
        sealer: Sealer | None = None,
    ) -> None:
        """`unkept`: is called for each exchange that begins though the journal does not keep it. None: no such exchange
        begins. `sealer`: seals what answers and requests say; None leaves it readable."""
        self.ids = ids
        self.sealer = sealer
        self._limits = limits
        self._unkept = unkept
        self.ticked = time.monotonic()
        self.writer = writer
        self.journal = journal
        self.changed: list[ExchangeTap] = []  # their last bytes are not in the journal yet
        self._turns: list[set[ExchangeTap]] = [set() for _ in range(_TICKS_PER_SEGMENT)]
        self._turn = 0
        self._opened = 0
        self._warned = False

    def __len__(self) -> int:
        return sum(map(len, self._turns))

    @property
    def full(self) -> bool:
        """Whether neither memory nor the journal has room: bytes that come now leave gaps in their tails."""
        full = self.writer.full and self.journal.failed
        if full and not self._warned:
            log.error("neither Redis nor the journal takes records: usage of running streams will count as partial")
        self._warned = full
        return full

    @property
    def takes(self) -> bool:
        """Whether an exchange may open now: its record would be kept, or need not be."""
        return self._unkept is not None or not self.journal.failed

    def open(self, record: Open) -> ExchangeTap:
        """Mint an exchange id and make its open record durable, in one step, so that no id is lost between the two
        (decision 1).

        JournalFailed where the record cannot be kept: the id is given back, and nothing must go upstream.
        """
        packed = tail.pack(record)
        exchange_id = self.ids.next()
        name = str(exchange_id)
        try:
            self.journal.open(name, packed)
        except JournalFailed as exc:
            if self._unkept is None:
                self.ids.give_back()
                raise
            self._unkept()
            log.error("exchange %s is served, and its usage may be lost: %s", name, exc, extra={"exchange_id": name})  # noqa: TRY400  # a traceback would add nothing
        except BaseException:
            self.ids.give_back()
            raise
        self.writer.put(exchange_id.shard, tail.fields(name, 0, packed))
        # Streams are cut in turns: compressing all of them at once would hold up the relay.
        self._opened = (self._opened + 1) % _TICKS_PER_SEGMENT
        tap = ExchangeTap(self, exchange_id, self._opened, CopyBudget(self._limits.of(record.dialect)))
        self._turns[tap.turn].add(tap)
        return tap

    def forget(self, tap: ExchangeTap) -> None:
        self._turns[tap.turn].discard(tap)

    def tick(self) -> None:
        """Write new bytes to the journal, and cut those that have waited for a second."""
        self._turn = (self._turn + 1) % _TICKS_PER_SEGMENT
        for tap in list(self._turns[self._turn]):
            tap.cut()
        changed, self.changed = self.changed, []
        for tap in changed:
            tap.note()
        self.journal.flush()
        if self._turn == 0:
            self.journal.look()
        self.ticked = time.monotonic()

    async def run(self, late: Callable[[float], None]) -> None:
        """Tick for as long as the process lives. `late` is called with the seconds by which each tick came late."""
        while True:
            due = time.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            late(time.monotonic() - due)
            self.tick()
