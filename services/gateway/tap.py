"""The tap: a bounded copy of what goes by, cut into segments for the meter. It never blocks, fails or slows the relay.

One `Tap` per process holds the open `ExchangeTap`s; its ticker cuts what has waited for a second, so that no stream
needs a timer or a clock of its own.
"""

from __future__ import annotations

import asyncio
import logging
import re

import msgspec

from services.gateway.writer import OpenUndecided, RecordWriter
from shared import tail
from shared.ids import ExchangeId
from shared.tail import End, Open, Outcome, Packed, Segment

_SEGMENT_BYTES = 64 * 1024
_SEGMENT_SECONDS = 1.0
_MAX_REQUEST_BYTES = 2 * 1024 * 1024

# How usage looks in every dialect. Where it is in the tail the meter needs no request body. A marker cut in two by a
# segment only sends the body along for nothing. `"usage":null` (on each chunk of a chat stream) is no usage.
_USAGE = re.compile(rb'"(?:usage|usageMetadata)"\s*:\s*\{')

_NEVER_SENT = End(
    outcome=Outcome.UPSTREAM_FAILED,
    status=None,
    content_type="",
    content_encoding="",
    response_bytes=0,
    request_bytes=0,
    first_byte_ms=None,
    duration_ms=0,
    request_id="",
    body=Packed(b""),
)

log = logging.getLogger(__name__)


class ExchangeTap:
    """The tail of one exchange as it grows."""

    __slots__ = ("_chunks", "_lost", "_seq", "_size", "_tap", "bytes", "id", "usage_seen")

    def __init__(self, tap: Tap, exchange_id: ExchangeId) -> None:
        self.id = exchange_id
        self.bytes = 0  # all body bytes seen so far
        self.usage_seen = False
        self._tap = tap
        self._chunks: list[bytes] = []
        self._size = 0
        self._seq = 1  # 0 is the open
        self._lost = 0

    def feed(self, chunk: bytes) -> None:
        """Take a chunk of the response body, as it came."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size >= _SEGMENT_BYTES:
            self.cut()

    def cut(self) -> None:
        """Send what is pending as a segment."""
        if self._chunks:
            body = self._take()
            if body:
                self._put(Segment(Packed.pack(body)))

    def end(self, ending: End, request: bytes | None) -> None:
        """Send the last bytes with the end record, and forget the exchange.

        `request` is the request body where usage may be missing; it is left out where the tail has usage.
        """
        body = self._take()
        held = request is not None and not self.usage_seen and len(request) <= _MAX_REQUEST_BYTES
        self._put(
            msgspec.structs.replace(
                ending,
                response_bytes=self.bytes,
                body=Packed.pack(body),
                request=Packed.pack(request) if held and request else None,
                lost_bytes=self._lost,
            )
        )
        self._tap.forget(self)

    def _take(self) -> bytes:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self.bytes += len(body)
        self._chunks = []
        self._size = 0
        self.usage_seen = self.usage_seen or _USAGE.search(body) is not None
        if self._tap.full:
            self._lost += len(body)
            return b""
        return body

    def _put(self, record: Segment | End) -> None:
        self._tap.writer.put(self.id.shard, tail.encode(self.id, self._seq, record))
        self._seq += 1


class Tap:
    """The taps of one process, and what they share: the writer, the ticker, the memory bound."""

    def __init__(self, writer: RecordWriter, memory: int) -> None:
        self.writer = writer
        self._memory = memory
        self._open: set[ExchangeTap] = set()
        self._warned = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether the bytes that wait for Redis have reached the bound; what comes now leaves holes in its tails."""
        full = self.writer.pending_bytes >= self._memory
        if full and not self._warned:
            log.error("tails fill their memory while Redis is away: usage of running streams will count as partial")
        self._warned = full
        return full

    async def open(self, exchange_id: ExchangeId, record: Open, timeout: float) -> ExchangeTap:
        """Make the open record durable. StoreUnavailable after `timeout` seconds: nothing must go upstream then."""
        try:
            await self.writer.put_durable(exchange_id.shard, tail.encode(exchange_id, 0, record), timeout)
        except (OpenUndecided, asyncio.CancelledError):
            # The open may be in Redis, or come there yet: it gets its end, so that it is booked as what it was.
            self.writer.put(exchange_id.shard, tail.encode(exchange_id, 1, _NEVER_SENT))
            raise
        tap = ExchangeTap(self, exchange_id)
        self._open.add(tap)
        return tap

    def forget(self, tap: ExchangeTap) -> None:
        self._open.discard(tap)

    async def run(self) -> None:
        """Cut what has waited for a second, for as long as the process lives."""
        while True:
            await asyncio.sleep(_SEGMENT_SECONDS)
            for tap in list(self._open):
                tap.cut()
